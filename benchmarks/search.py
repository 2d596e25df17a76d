"""Epochs needed to find a good configuration: Hyper's search and common alternatives on learning curves of LCBench.

Every finished cell (contender, data set, seed) is stored in a folder; rerun the same command to resume. Regret is that
of the configuration that would be selected: 0 is the best of 2,000 random configurations, 1 is their median.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
import optuna
import pandas as pd
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import Result, show
from benchmarks.lcbench import LCBench, Problem
from benchmarks.search_hyper import hyper
from benchmarks.search_opponents import BUDGET, OPPONENTS, Contender, Steps, regret_at
from scripts.errors import InputError
from scripts.storage.durable_files import write_bytes

MILESTONES = (150, 300, 600, 1000, 1500, BUDGET)
CONTENDERS: dict[str, Contender] = {"hyper": hyper, **OPPONENTS}


@dataclass(frozen=True)
class Cell:
    """One contender on one data set under one seed, with or without the portfolio."""

    contender: str
    portfolio: bool
    instance: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the contender in the table."""
        return f"{self.contender} portfolio" if self.portfolio else self.contender

    def path(self, folder: Path) -> Path:
        """Where the result is kept."""
        return folder / self.name.replace(" ", "_") / f"{self.instance}_{self.seed}.json"


def run_cell(cell: Cell, bench: LCBench, folder: Path) -> Steps:
    """Steps of the cell's trace, the last at the end of the search; read from the folder if the cell was run before."""
    path = cell.path(folder)
    if not path.exists():
        problem = Problem(bench, cell.instance, cell.seed)
        start = bench.portfolio(without=cell.instance) if cell.portfolio else []
        trace = CONTENDERS[cell.contender](problem, start)
        steps = [*trace.steps, (trace.epochs, regret_at(trace.steps, trace.epochs))]
        write_bytes(path, json.dumps(steps).encode())
    return [(int(spent), float(regret)) for spent, regret in json.loads(path.read_text())]


def summarise(name: str, traces: Sequence[Steps]) -> list[Result]:
    """Mean regret at each milestone and epochs spent at the end, with standard errors over data sets and seeds."""
    results = []
    for milestone in MILESTONES:
        regrets = np.array([regret_at(steps, milestone) for steps in traces])
        results.append(_mean(name, f"regret@{milestone}", regrets))
    return [*results, _mean(name, "epochs", np.array([steps[-1][0] for steps in traces], dtype=float))]


def _mean(name: str, metric: str, values: np.ndarray) -> Result:
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Result(name, metric, float(values.mean()), error, len(values))


def draw_picture(traces: dict[str, list[Steps]], path: Path) -> None:
    """Mean regret against epochs spent: a colour per contender, dashed from the portfolio."""
    grid = np.unique(np.geomspace(20, BUDGET, 120).astype(int))
    rows = [
        {
            "search": name.removesuffix(" portfolio"),
            "start": "portfolio" if name.endswith(" portfolio") else "at random",
            "epochs": int(epochs),
            "regret": float(np.mean([regret_at(s, epochs) for s in own])),
        }
        for name, own in traces.items()
        for epochs in grid
    ]
    names = list(dict.fromkeys(row["search"] for row in rows))
    dashes = alt.Scale(domain=["at random", "portfolio"], range=[[1, 0], [5, 3]])
    chart = (
        alt.Chart(pd.DataFrame(rows), width=620, height=340, background="white")
        .mark_line(interpolate="step-after", clip=True)
        .encode(
            alt.X(
                "epochs:Q",
                scale=alt.Scale(type="log", domain=[20, BUDGET], nice=False),
                axis=alt.Axis(values=[20, 50, 100, 150, 300, 600, 1000, 1500, 3000], format="d"),
                title="training epochs spent, all folds counted",
            ),
            alt.Y("regret:Q", scale=alt.Scale(domain=[-0.1, 0.7]), title="mean regret (0: best of 2,000, 1: median)"),
            alt.Color("search:N", sort=names, title=None, scale=alt.Scale(scheme="tableau10")),
            alt.StrokeDash("start:N", title="starts", scale=dashes),
            strokeWidth=alt.condition(alt.datum.search == "hyper", alt.value(3.0), alt.value(1.3)),
        )
    )
    chart.save(str(path))


def main() -> None:
    """Run the missing cells one after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lcbench", type=Path, metavar="DIR", default=ROOT.parent / "shared/bench/search/lcbench")
    parser.add_argument("--instances", metavar="ID,ID,...", help="data sets; the first 12 by default")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--contenders", metavar="NAME,NAME,...", help="all by default, with and without portfolio")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "search", help="folder of finished cells")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw regret against epochs, as SVG or PNG")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        bench = LCBench(given.lcbench)
        names = (
            given.contenders.split(",") if given.contenders else [n + p for n in CONTENDERS for p in ("", " portfolio")]
        )
        instances = given.instances.split(",") if given.instances else bench.instances[:12]
        _check(names, instances, bench)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    traces = {}
    for name in names:
        contender = name.removesuffix(" portfolio")
        cells = [Cell(contender, name != contender, i, s) for s in range(given.seeds) for i in instances]
        traces[name] = [run_cell(cell, bench, given.folder) for cell in track(cells, name, transient=True)]
    results = [result for name, own in traces.items() for result in summarise(name, own)]
    show(f"{len(instances)} data sets x {given.seeds} seeds, all folds counted", results, given.json)
    if given.picture:
        draw_picture(traces, given.picture)


def _check(names: Sequence[str], instances: Sequence[str], bench: LCBench) -> None:
    for name in names:
        if name.removesuffix(" portfolio") not in CONTENDERS:
            raise InputError(
                "is not a contender", name, f"take some of {', '.join(CONTENDERS)}, also with ` portfolio`"
            )
    for instance in instances:
        if instance not in bench.instances:
            raise InputError("is not a data set of LCBench", instance, f"take some of {', '.join(bench.instances)}")


if __name__ == "__main__":
    main()
