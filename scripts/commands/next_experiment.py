"""Run that continues an earlier one: its experiment, its suggested search space, its test openings.

The sealed rows of both are mostly the same. A second opening is a second chance, from any directory. So the
openings of earlier runs are copied to the ledger of this run and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.config.experiment import Experiment
from scripts.config.yaml_files import load_experiment
from scripts.data.dataset import Dataset
from scripts.errors import MissingInputError
from scripts.evaluation.seal_openings import inherit, n_inherited, not_in, openings_of
from scripts.storage.artifacts import read_record, recorded_plan
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.records import Plan
from scripts.storage.run_dir import Command, RunDir

_SAME_FILE = ("source", "path", "synthetic")  # keys of the data that determine whether two runs read the same rows


def continued_from(earlier: RunDir, run_dir: RunDir, fresh: bool) -> Experiment:
    """Return the experiment that continues `earlier`.

    That of this run's own plan, if it was started: it resumes even if the earlier run is deleted or changed.

    Raises
    ------
    MissingInputError
        The earlier run was not analysed, so that it suggests no search space.
    """
    if (plan := recorded_plan(run_dir, fresh)) is not None:
        return plan.experiment
    recorded = read_record(earlier.tuning / "plan.json", Command.TUNING, Plan).experiment
    if not earlier.suggestion.exists():
        raise MissingInputError(
            "is missing", str(earlier.suggestion), f"create it with {Command.ANALYSIS} --run-dir {earlier.path}"
        )
    return load_experiment(earlier.suggestion, [], base=recorded)


def inherit_openings(run_dir: RunDir, earlier: Sequence[str], experiment: Experiment, development: Dataset) -> str:
    """Copy openings of the sealed rows by earlier runs into this run's ledger, and return notes about them.

    Parameters
    ----------
    run_dir : RunDir
        Of this run.
    earlier : sequence of str
        Directories of the earlier runs, relative to its own. Deleted ones are ignored.
    development : Dataset
        This run's development rows.
    """
    for name in earlier:
        run = RunDir(run_dir.path / name)
        if (new := not_in(run_dir, openings_of(run))) and _may_share_sealed_rows(run, experiment, development):
            inherit(run_dir, new, name)
    count = n_inherited(run_dir)
    if count == 0:
        return ""
    return (
        f"the sealed rows, or some of them, were opened {count} time(s) by earlier runs; a further look at them is "
        f"counted on, and the evaluation corrects for all: only newer data bring a fresh test"
    )


def _may_share_sealed_rows(earlier: RunDir, experiment: Experiment, development: Dataset) -> bool:
    """Return True if rows that the earlier run opened may be among those that this run seals."""
    plan = read_record(earlier.tuning / "plan.json", Command.TUNING, Plan)
    if plan.sealed_fingerprint == development.sealed_fingerprint:
        return True
    if any(getattr(plan.experiment.data, name) != getattr(experiment.data, name) for name in _SAME_FILE):
        return False
    last = _last_date_tested(earlier.evaluation_results)
    if last is None or development.dates is None:
        return True
    # All that the earlier run has seen may be development rows by now.
    return last > str(development.dates[development.date[development.rows].max()])[:10]


def _last_date_tested(path: Path) -> str | None:
    if not path.exists():
        return None
    last = read_record(path, Command.EVALUATION, Evaluation).last_date
    return None if last is None else last[:10]
