"""Overhead of checkpoints: phases 1 to 3 with a checkpoint on disk after every epoch and without any, alternating.

Both train the same networks on the default data, each phase in a process forked from one that has imported everything.
Without checkpoints, states are neither packed nor written during a run; everything else is the same. With one worker,
the time to gather, pack and write states is also measured, as a share of its run. With several workers, the main
process writes while they train.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# The phase imports these itself; here they are loaded once, before the forks.
import scripts.commands.leak_check
import scripts.tuning.search  # noqa: F401
from benchmarks.common import PHASES, arguments, show, summarised
from scripts.execution import executor
from scripts.storage.artifacts import pack_tensors
from scripts.storage.checkpoints import Checkpoints
from scripts.training.run import TrainingRun


def seconds(flags: list[str], safe: bool) -> tuple[float, ...]:
    """Time on the clock and on the processor that the phases take, then both within keeping states."""
    with tempfile.TemporaryDirectory() as folder:
        phases = [_phase(ROOT / command, ["--run-dir", folder, *flags], safe) for command in PHASES]
    return tuple(map(sum, zip(*phases, strict=True)))


def _phase(command: Path, flags: list[str], safe: bool) -> tuple[float, float, float, float]:
    with tempfile.NamedTemporaryFile("r") as spent:
        begun, clock = time.perf_counter(), _Clock()
        process = os.fork()
        if not process:
            code = 70
            try:
                if safe:
                    _time_safety(clock)
                else:
                    _without_safety()
                torch.set_num_threads(1)
                sys.argv = [str(command), "-q", "--no-progress", *flags]
                runpy.run_path(str(command), run_name="__main__")
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                Path(spent.name).write_text(f"{clock.clock_s} {clock.processor_s}", encoding="utf-8")
                os._exit(code)
        _, status, used = os.wait4(process, 0)
        if os.waitstatus_to_exitcode(status):
            raise RuntimeError(f"{command.name} failed")
        within = map(float, spent.read().split())
        return time.perf_counter() - begun, used.ru_utime + used.ru_stime, *within


class _Clock:
    """Adds up the time within functions."""

    def __init__(self) -> None:
        self.clock_s = self.processor_s = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time added up."""

        def timed(*arguments: Any) -> Any:
            begun = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments)
            finally:
                self.clock_s += time.perf_counter() - begun[0]
                self.processor_s += time.thread_time() - begun[1]

        return timed


def _time_safety(clock: _Clock) -> None:
    """Let the clock take the time of all gathering, packing and writing of states from now on."""
    TrainingRun.state_dict = clock.around(TrainingRun.state_dict)  # type: ignore[method-assign]
    executor.pack_tensors = clock.around(executor.pack_tensors)  # type: ignore[attr-defined]
    Checkpoints.save = clock.around(Checkpoints.save)  # type: ignore[method-assign]


def _without_safety() -> None:
    """Pack and write the states of finished runs alone, which the results are made of."""
    save = Checkpoints.save

    def pack(state: dict[str, object]) -> bytes:
        return pack_tensors(state) if state["outcome"] else b""

    def save_finished(self: Checkpoints, name: str, packed: bytes) -> None:
        if packed:
            save(self, name, packed)

    executor.pack_tensors = pack  # type: ignore[attr-defined]
    Checkpoints.save = save_finished  # type: ignore[method-assign]


def main() -> None:
    """Take turns and print the table."""
    given: argparse.Namespace = arguments(__doc__, repeats=5, config="", workers=1)
    flags = ["--workers", str(given.workers), *(["--config", given.config] if given.config else [])]
    times: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
    seconds(flags, safe=True)  # whatever is slow the first time
    for _ in range(given.repeats):
        for safe in times:
            times[safe].append(seconds(flags, safe))
    results = []
    for k, what in enumerate(("clock", "processor")):
        safe, bare = ([run[k] for run in times[kind]] for kind in (True, False))
        results += [summarised("with checkpoints", f"{what}, s", safe), summarised("without", f"{what}, s", bare)]
        ratios = [a / b - 1 for a, b in zip(safe, bare, strict=True)]
        results.append(summarised("overhead", f"{what}, share", ratios))
    for k, what in enumerate(("clock", "processor") if given.workers == 1 else ()):
        within = [run[2 + k] / run[k] for run in times[True]]
        results.append(summarised("gathering, packing, writing", f"{what}, share", within))
    show(f"What safety costs in phases 1 to 3, workers: {given.workers}", results, given.json)


if __name__ == "__main__":
    main()
