"""Permutation test: the whole procedure on permuted labels of the same data.

Each placebo is an ordinary run in `placebo/K` of the run directory, with permuted labels and the same budget; it
resumes as any run does. The p-value of the real run counts selection in, since every placebo selects as it did.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.commands.dry_run import show_plan_table
from scripts.commands.experiment import load_later
from scripts.commands.phase import check_data, load_data
from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.config.yaml_text import dump_yaml
from scripts.errors import BudgetEnded, HyperError, InputError
from scripts.storage.artifacts import read_record, write_record
from scripts.storage.durable_files import file_sha256, write_bytes
from scripts.storage.evaluation_record import Evaluation, Placebos
from scripts.storage.records import Plan
from scripts.storage.run_dir import Command, RunDir

ROOT = Path(__file__).resolve().parents[2]
_PHASES = (Command.TUNING, Command.EXTENDED, Command.FINAL, Command.EVALUATION)
_POLL_S = 0.2


def run_placebos(session: Session) -> None:
    """Run the missing placebos, as many at a time as there are workers, and write placebo_results.json."""
    run_dir, count = session.run_dir, session.arguments.n
    if session.arguments.execution == "ray" and session.arguments.ray_address is None:
        raise InputError("placebos share one cluster", "--execution ray", "start it and name it by --ray-address")
    real = read_record(run_dir.evaluation_results, Command.EVALUATION, Evaluation)
    experiment = _experiment_of_run(session, real)
    if session.arguments.dry_run:
        epochs = f"{count} x about {real.epochs_spent_total}"
        rows = {"placebos": str(count), "epochs": epochs, "at a time": str(min(count, session.workers))}
        show_plan_table(session, rows, [run_dir.placebo / "placebo_results.json"])
        return
    check_data(load_data(session, experiment), real, Command.EVALUATION)
    config = run_dir.placebo / "config.yaml"
    recorded = experiment.recorded() | {"execution": experiment.execution.model_dump(mode="json")}
    write_bytes(config, dump_yaml(recorded).encode())
    waiting = [(k, _commands(session, experiment, config, k)) for k in range(1, count + 1)]
    running: dict[int, tuple[subprocess.Popen[bytes], list[list[str]]]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < session.workers:
                k, commands = waiting.pop(0)
                running[k] = (_begin(session, commands[0]), commands[1:])
            _advance(session, running)
            session.publish_if_due(without=[run_dir.placebo / str(k) for k in running])
            if session.deadline is not None and time.monotonic() >= session.deadline:
                what = "the time budget ended; finished placebos are kept"
                raise BudgetEnded(what, "", "rerun the same command to resume")
            time.sleep(_POLL_S)
    finally:
        for process, _ in running.values():
            process.kill()
            process.wait()
    results = summary(real, [_result(run_dir, k) for k in range(1, count + 1)])
    write_record(run_dir.placebo / "placebo_results.json", results)
    session.echo(
        f"{count} placebos: skill {min(results.placebo_skill):+.4f} to {max(results.placebo_skill):+.4f}, "
        f"{results.n_verdict_skill} called skill; the real run has {results.skill:+.4f}, "
        f"p = {results.p_value:.3f}, selection included"
    )
    session.conclude(
        session.next_run(),
        [run_dir.placebo / "placebo_results.json"],
        skill=results.skill,
        n_verdict_skill=results.n_verdict_skill,
        p_value=results.p_value,
    )


def summary(real: Evaluation, placebos: Sequence[Evaluation]) -> Placebos:
    """P-value of the whole procedure: (1 + placebos at least as good) / (1 + placebos) (Phipson and Smyth 2010)."""
    skills = [placebo.skill for placebo in placebos]
    at_least = sum(skill >= real.skill for skill in skills)
    return Placebos(
        config_hash=real.config_hash,
        data_fingerprint=real.data_fingerprint,
        skill=real.skill,
        placebo_skill=skills,
        n_verdict_skill=sum(placebo.verdict == "skill" for placebo in placebos),
        p_value=(1 + at_least) / (1 + len(skills)),
    )


def _experiment_of_run(session: Session, real: Evaluation) -> Experiment:
    """Return the experiment of the run that was evaluated; only models, execution and the path of the data are free.

    Raises
    ------
    InputError
        The evaluation is not of this run's model on its sealed rows, or the call names another experiment.
    """
    run_dir = session.run_dir
    plan = read_record(run_dir.final / "plan.json", Command.FINAL, Plan)
    where = str(run_dir.evaluation_results)
    if real.opened.data != "sealed":
        raise InputError("is of another data file", where, f"evaluate the sealed rows: {Command.EVALUATION}")
    is_own = run_dir.final_model.exists() and real.opened.model_sha256 == file_sha256(run_dir.final_model)
    if not is_own or real.config_hash != plan.config_hash:
        raise InputError("is of another model than final_model.pkl", where, f"evaluate this one: {Command.EVALUATION}")
    return load_later(session, plan.experiment, Command.FINAL)


def _commands(session: Session, experiment: Experiment, config: Path, k: int) -> list[list[str]]:
    """Command lines of the phases of placebo `k`, each of which ends with this process, however that ends."""
    arguments = session.arguments
    flags = ["--run-dir", str(session.run_dir.placebo / str(k)), "--workers", "1", "--device", arguments.device]
    flags += ["--no-progress", "--quiet", f"--config={config}"]
    flags += [f"--keep-checkpoints={arguments.keep_checkpoints}"]
    if arguments.execution == "ray":
        flags += ["--execution", "ray", "--ray-address", arguments.ray_address]
    flags += [f"--set=models.{name}={factory}" for name, factory in experiment.models.items()]
    flags += [f"--set=data.placebo={k}"]
    with_parent = [sys.executable, "-IS", str(ROOT / "scripts" / "execution" / "die_with_parent.py"), str(os.getpid())]
    return [[*with_parent, sys.executable, str(ROOT / script), *flags] for script in _PHASES]


def _begin(session: Session, command: list[str]) -> subprocess.Popen[bytes]:
    """Return a command that gets the storage from its environment, which other users cannot read."""
    url = session.storage
    storage = {} if url is None else {"HYPER_STORAGE": url.render_as_string(hide_password=False)}
    return subprocess.Popen(command, env=os.environ | storage)


def _advance(session: Session, running: dict[int, tuple[subprocess.Popen[bytes], list[list[str]]]]) -> None:
    """Start the next phase of each placebo whose phase has ended."""
    for k, (process, left) in list(running.items()):
        code = process.poll()
        if code is None:
            continue
        if code != 0:
            raise PlaceboFailed(k, code)
        if left:
            running[k] = (_begin(session, left[0]), left[1:])
        else:
            del running[k]
            if session.arguments.verbose:
                session.echo(f"placebo {k} is finished")


class PlaceboFailed(HyperError):
    """Error of a phase of a placebo, which has printed its message; the exit code is that of the phase."""

    def __init__(self, k: int, code: int) -> None:
        super().__init__(
            f"placebo {k} ended with code {code}", "placebo", "see above, then rerun the same command to resume"
        )
        self.exit_code = code if code in (2, 3, 4, 5) else 1


def _result(run_dir: RunDir, k: int) -> Evaluation:
    path = RunDir(run_dir.placebo / str(k)).evaluation_results
    return read_record(path, f"{Command.PLACEBO} --n {k}", Evaluation)
