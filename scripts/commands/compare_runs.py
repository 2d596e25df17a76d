"""Comparison of finished runs: paired tests on common out-of-fold rows, and differences in config and data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from scripts.commands.dry_run import show_plan_table, show_table
from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.config.recorded import differing_keys
from scripts.errors import InputError
from scripts.evaluation.seal_openings import n_openings
from scripts.extended_training.out_of_fold import scored_rows
from scripts.statistics.intervals import Interval, mean_intervals, minimum_detectable_skill
from scripts.statistics.model_tests import diebold_mariano
from scripts.storage.artifacts import read_record, write_record
from scripts.storage.credibility_record import Compared, Comparison, Difference, PairedTest, TestedPair
from scripts.storage.extended_record import Extended
from scripts.storage.printable import listed
from scripts.storage.records import Plan
from scripts.storage.run_dir import Command, RunDir
from scripts.storage.table_artifacts import read_out_of_fold

_FINGERPRINTS = ("data_fingerprint", "sealed_fingerprint")
_MAX_KEYS = 12  # differing keys that are shown; the artifact has all


@dataclass(frozen=True)
class ComparedRun:
    """Data of a run for a comparison.

    Attributes
    ----------
    name : str
        The directory as the user gave it.
    experiment : Experiment
        Of phase 2.
    rows : DataFrame
        Of the chosen configuration, by row of the data: hit and loss (means over its networks), label, date.
    openings : int
        How often the sealed test set was opened, by the run's ledger.
    """

    name: str
    experiment: Experiment
    results: Extended
    rows: pd.DataFrame
    classes: tuple[str, ...]
    openings: int

    @classmethod
    def read(cls, path: Path) -> ComparedRun:
        """Read a run directory.

        Raises
        ------
        MissingInputError, InputError
            Phase 2 is not finished, or an artifact is damaged.
        """
        run_dir = RunDir(path)
        results = read_record(run_dir.extended_results, Command.EXTENDED, Extended)
        experiment = read_record(run_dir.extended / "plan.json", Command.EXTENDED, Plan).experiment
        table = read_out_of_fold(run_dir, results)
        chosen = table[table["trial_number"] == results.chosen.trial_number]
        columns = [name for name in table.columns if name.startswith("probability_")]
        return cls(str(path), experiment, results, scored_rows(chosen, ["row"]), tuple(columns), n_openings(run_dir))

    @property
    def has_time(self) -> bool:
        """True if its rows have dates."""
        data = self.experiment.data
        return data.source != "table" or data.time_column is not None


def compare(session: Session) -> None:
    """Compare each further run with the first one and write analysis/comparison.json of the first.

    Raises
    ------
    InputError
        Fewer than two runs are named.
    """
    paths, run_dir = session.arguments.compare, session.run_dir
    if len(paths) < 2:
        raise InputError("names one run", "--compare", "name two or more")
    if session.arguments.dry_run:
        show_plan_table(session, {"compares": "\n".join(map(str, paths))}, [run_dir.comparison])
        return
    first, *others = [ComparedRun.read(path) for path in paths]
    comparisons = [compared(first, other, len(others)) for other in others]
    results = first.results
    comparison = Comparison(
        config_hash=results.config_hash,
        data_fingerprint=results.data_fingerprint,
        sealed_fingerprint=results.sealed_fingerprint,
        first=first.name,
        comparisons=comparisons,
    )
    write_record(run_dir.comparison, comparison)
    _say(session, first, comparisons)
    better = [found for found in comparisons if isinstance(found, TestedPair) and found.verdict == "better"]
    best = max(better, key=lambda found: found.accuracy.difference, default=None)
    improved = best is not None
    session.conclude(
        session.next_run(best.run) if best is not None else session.next_command(Command.EVALUATION),
        [run_dir.comparison],
        improved=improved,
        comparisons=[found.body() for found in comparisons],
    )


def compared(first: ComparedRun, other: ComparedRun, n_comparisons: int) -> Compared | TestedPair:
    """Compare two runs: their differences and, on equal rows and labels, the paired difference in accuracy.

    Parameters
    ----------
    n_comparisons : int
        Tests that are made together; interval and p-value are corrected for all of them (Bonferroni).
    """
    fingerprints = [name for name in _FINGERPRINTS if getattr(first.results, name) != getattr(other.results, name)]
    found = Compared(
        run=other.name,
        verdict="not comparable",
        reason=None,
        config=differing_keys(first.experiment.recorded(), other.experiment.recorded()),
        fingerprints=fingerprints,
        openings={first.name: first.openings, other.name: other.openings},
    )
    rows = first.rows.add_suffix("_a").join(other.rows.add_suffix("_b"), how="inner")
    if "data_fingerprint" in fingerprints:
        return found.model_copy(update={"reason": "other data, so no test was made"})
    if first.classes != other.classes or (rows["label_a"] != rows["label_b"]).any():
        return found.model_copy(update={"reason": "other labels on the same data, so no test was made"})
    if rows["date_a"].nunique() < 2:
        return found.model_copy(update={"reason": "no two dates were tested by both, so no test was made"})
    tested = _tested(first, other, rows, n_comparisons)
    low, high = tested.accuracy.ci95
    verdict = "better" if low > 0 else "worse" if high < 0 else "cannot be told apart"
    return TestedPair(**dict(found) | {"verdict": verdict}, **dict(tested))


def _tested(first: ComparedRun, other: ComparedRun, rows: pd.DataFrame, n_comparisons: int) -> PairedTest:
    """Paired differences, positive where the other run is better in accuracy and in log loss alike."""
    date = pd.factorize(rows["date_a"], sort=True)[0] if first.has_time else None
    horizon = max(run.experiment.data.horizon for run in (first, other))
    gains = {
        "accuracy": (rows["hit_b"] - rows["hit_a"]).to_numpy(),
        "log_loss": (rows["loss_a"] - rows["loss_b"]).to_numpy(),
    }
    intervals = mean_intervals(gains, date, horizon)
    accuracy = _figures(intervals["accuracy"], rows["hit_a"], rows["hit_b"], n_comparisons)
    tests = None if date is None else _diebold_mariano(gains["log_loss"], date, horizon)
    return PairedTest(
        n_rows=len(rows),
        n_rows_of_one_alone=len(first.rows) + len(other.rows) - 2 * len(rows),
        n_comparisons=n_comparisons,
        accuracy=accuracy,
        log_loss=_figures(intervals["log_loss"], rows["loss_a"], rows["loss_b"], n_comparisons),
        p_diebold_mariano=None if tests is None else min(1.0, n_comparisons * tests),
        detectable=minimum_detectable_skill(
            intervals["accuracy"].se, intervals["accuracy"].degrees_of_freedom, confidence=1.0 - 0.05 / n_comparisons
        ),
    )


def _figures(interval: Interval, a: pd.Series, b: pd.Series, n_comparisons: int) -> Difference:
    corrected, p = interval.at(1.0 - 0.05 / n_comparisons), interval.p_value
    return Difference(
        first=float(a.mean()),
        other=float(b.mean()),
        difference=interval.estimate,
        se=interval.se,
        ci95=[corrected.low, corrected.high],
        p_value=None if p is None else min(1.0, n_comparisons * p),
    )


def _diebold_mariano(gains: np.ndarray, date: np.ndarray, horizon: int) -> float | None:
    """P-value of equal expected log loss by date; None with no more dates than the horizon."""
    by_date = pd.Series(gains).groupby(date).mean().to_numpy()
    return diebold_mariano(by_date, horizon).p_two_sided if len(by_date) > horizon else None


def _say(session: Session, first: ComparedRun, comparisons: Sequence[Compared]) -> None:
    table = Table(title=f"compared with {first.name}, on the same out-of-fold rows, by blocks of dates")
    for heading in ("run", "rows", "accuracy", "difference (95 %)", "p", "log loss gained", "verdict"):
        left = heading in ("run", "verdict")
        table.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=heading != "run")
    for found in comparisons:
        table.add_row(*map(Text, _cells(found)))
    show_table(session, table)
    for found in comparisons:
        for sentence in _sentences(first.name, found):
            session.echo(sentence)


def _cells(found: Compared) -> list[str]:
    if not isinstance(found, TestedPair):
        return [found.run, "-", "-", "-", "-", "-", found.verdict]
    accuracy, low_high = found.accuracy, found.accuracy.ci95
    return [
        found.run,
        str(found.n_rows),
        f"{accuracy.first:.4f} -> {accuracy.other:.4f}",
        f"{accuracy.difference:+.4f} ({low_high[0]:+.4f} to {low_high[1]:+.4f})",
        "-" if accuracy.p_value is None else f"{accuracy.p_value:.3f}",
        f"{found.log_loss.difference:+.4f}",
        "tie" if found.verdict == "cannot be told apart" else found.verdict,
    ]


def _sentences(first: str, found: Compared) -> list[str]:
    """Return differences, reasons for a missing test and the power of the test as sentences."""
    name, config = found.run, found.config
    lines = [f"{name}: config differs in {listed(config, _MAX_KEYS)}" if config else f"{name}: same config"]
    lines.append(
        f"{name}: data differ ({', '.join(found.fingerprints)})" if found.fingerprints else f"{name}: same data"
    )
    if not isinstance(found, TestedPair):
        return [*lines, f"{name}: {found.reason}"]
    if found.verdict == "cannot be told apart":
        lines.append(
            f"{name}: a tie with {first}; 80% power to detect a difference of {found.detectable:.4f} "
            f"on these {found.n_rows} rows"
        )
    else:
        lines.append(f"{name}: {found.verdict} than {first} by {found.accuracy.difference:+.4f}")
    openings = max(found.openings.values())
    return [
        *lines,
        f"{name}: both were chosen on these rows, so both accuracies are too high, more so after more trials",
        f"{name}: the sealed rows decide; they were opened {openings} time(s) so far, and each further opening counts",
    ]
