"""Seconds and memory of the five commands of a default run, and the time that each dry run estimates.

Two memory figures are measured. The first is the largest peak resident size of a process, including shared libraries
and shared data; the kernel records it. The second is the peak of all processes in sum, with shared pages counted once;
it is read four times a second. `foretold` is rounded, because the dry run prints it in words. `--flags` passes other
flags to the commands, for example `--flags "--config configs/us_daily_volatility.yaml"`.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import EVALUATION, PHASES, Result, arguments, show, summarised

COMMANDS = (*PHASES[:2], "analyze_results.py", PHASES[2], EVALUATION)
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def processes(number: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield number
    try:
        for task in Path(f"/proc/{number}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from processes(int(child))
    except OSError:  # it has ended
        return


def kilobytes(number: int, file: str, key: str) -> int:
    """A line of the kernel about the memory of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{number}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def measured(command: list[str]) -> dict[str, float]:
    """Seconds and megabytes of a command, which must succeed."""
    begun, largest, together = time.monotonic(), 0, 0
    process = subprocess.Popen(command)
    while process.poll() is None:
        own = list(processes(process.pid))
        largest = max(largest, *(kilobytes(number, "status", "VmHWM:") for number in own))
        together = max(together, sum(kilobytes(number, "smaps_rollup", "Pss:") for number in own))
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(f"{command[1]} ended with code {process.returncode}")
    return {"seconds": time.monotonic() - begun, "largest process, MB": largest / 1024, "all, MB": together / 1024}


def foretold(command: list[str]) -> float:
    """Seconds that the dry run of a command estimates."""
    done = subprocess.run([*command, "--dry-run", "--json"], check=True, capture_output=True, text=True)
    number, unit = re.findall(r"([\d.]+) (s|min|h)\b", json.loads(done.stdout)["plan"]["likely time"])[0]
    return float(number) * UNITS[unit]


def main() -> None:
    """Run all commands, several times if asked, and print the table."""
    given = arguments(__doc__, repeats=2, flags="")
    found: dict[str, list[dict[str, float]]] = {script: [] for script in COMMANDS}
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--run-dir", folder, *shlex.split(given.flags)]
            for script in COMMANDS:
                command = [sys.executable, str(ROOT / script), *flags]
                said = {"foretold, s": foretold(command)} if script in PHASES else {}
                found[script].append(said | measured([*command, "-q", "--no-progress"]))
    results = [
        summarised(script, metric, [run[metric] for run in runs])
        for script, runs in found.items()
        for metric in runs[0]
    ]
    whole = [sum(runs[k]["seconds"] for runs in found.values()) for k in range(given.repeats)]
    results.append(Result("together", "seconds", sum(whole) / len(whole), None, len(whole)))
    show("A default run", results, given.json)


if __name__ == "__main__":
    main()
