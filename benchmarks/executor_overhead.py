"""Overhead of an executor: phases 1 to 3 by local processes and by Ray, alternating, by default on two workers.

Two durations are measured: of the whole commands, and from the first report of a phase to its last, which excludes the
start. Both executors train the same runs with bitwise identical results, which is checked.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import PHASES, arguments, run_commands, show, summarised
from scripts.storage.run_dir import RunDir


def measured(flags: list[str]) -> tuple[float, float, Any]:
    """Seconds of the commands, seconds once started, and what was chosen."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        run_commands(PHASES, Path(folder), *flags)
        whole, run_dir = time.monotonic() - begun, RunDir(Path(folder))
        events = [json.loads(line) for line in run_dir.events.read_text().splitlines()]
        chosen = json.loads(run_dir.best_config.read_text())
    reports: dict[str, list[float]] = {}
    for event in events:
        if event["event"] == "run_ended":
            reports.setdefault(event["phase"], []).append(datetime.fromisoformat(event["time"]).timestamp())
    return (
        whole,
        sum(own[-1] - own[0] for own in reports.values()),
        [chosen[k] for k in ("hyperparameters", "selection")],
    )


def main() -> None:
    """Take turns and print the table."""
    given = arguments(__doc__, repeats=3, workers=2)
    times: dict[str, list[tuple[float, float]]] = {"processes": [], "ray": []}
    found = []
    for _ in range(given.repeats):
        for kind, own in times.items():
            whole, started, chosen = measured(["--workers", str(given.workers), "--execution", kind])
            own.append((whole, started))
            found.append(chosen)
            print(f"{kind}: {whole:.1f} s, {started:.1f} s once started", file=sys.stderr, flush=True)
    if any(chosen != found[0] for chosen in found):
        raise SystemExit("the executors differ")
    results = []
    for k, metric in enumerate(("seconds", "seconds once started")):
        results += [summarised(kind, metric, [one[k] for one in own]) for kind, own in times.items()]
        ratios = [b[k] / a[k] - 1 for a, b in zip(times["processes"], times["ray"], strict=True)]
        results.append(summarised("ray over processes", metric, ratios))
    show("Phases 1 to 3 of a default run", results, given.json)


if __name__ == "__main__":
    main()
