"""Accidents and what must come of them; the tests do some of each, `./run_tests.sh --soak` very many."""

import json
import random
import time
from pathlib import Path

from scripts.config.experiment import DataConfig
from scripts.config.yaml_files import load_experiment
from scripts.data.loading import read_development
from scripts.errors import HyperError
from scripts.storage.artifacts import read_listed, read_record, read_tensors, unpack_tensors
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.records import RECORDS
from tests.conftest import EXTENDED, SCRIPTS, TRIALS
from tests.faults import fuzz
from tests.faults.commands import RESULTS, differences, finish, kill_one
from tests.faults.kill_points import KillPoints
from tests.forked import ended_within, kill_all, start, wait

PATIENCE = 10.0  # seconds that no input may take
JSON_ARTIFACTS = (TRIALS, EXTENDED, "best_config.json", RESULTS, "final_training_results/final_training_results.json")


def count_points(script, folder, *arguments):
    """Run a command to its end; how often it passed each kill point, but for those whose number depends on the time."""
    log = Path(f"{folder}.counts")
    points = KillPoints(folder, log=log)
    code = wait(start(script, folder, *arguments, hook=points.install))
    assert code == 0, Path(f"{folder}.log").read_text()
    return {name: n for name, n in json.loads(log.read_text()).items() if "workers_phase" not in name}


def killed_at(script, folder, target, *arguments):
    """Kill a command at a point; whether it got there."""
    return wait(start(script, folder, *arguments, hook=KillPoints(folder, target).install)) == -9


def kill_at_random(script, folder, generator, longest, *arguments):
    """Kill a command at a random moment within `longest` seconds; whether it was killed before its end."""
    process = start(script, folder, *arguments)
    code = ended_within(process, generator.uniform(0.0, longest))
    if code is None:
        kill_all(process)
        return True
    assert code == 0, Path(f"{folder}.log").read_text()
    return False


def kill_some_process(script, folder, generator, longest, *arguments):
    """Kill the command or one of its workers at a random moment; whether it was in time, and whether the command ended.

    A command replaces a killed worker, so it can end with code 0 after a kill.
    """
    process = start(script, folder, *arguments)
    code = ended_within(process, generator.uniform(0.0, longest))
    in_time = code is None
    if in_time:
        kill_one(process, generator)
        code = ended_within(process, 120.0)
    assert code in (0, -9), f"{code}: {Path(f'{folder}.log').read_text()}"
    return in_time, code == 0


def killed_pipeline(folder, calm, seed, longest, *arguments, max_kills=20):
    """Run all phases, each killed at random moments until it ends; kills, and what differs from the run left alone."""
    generator, kills = random.Random(seed), 0
    for script in SCRIPTS:
        while kills < max_kills and kill_at_random(script, folder, generator, longest[script], *arguments):
            kills += 1
        finish(folder, *arguments, scripts=[script])
    return kills, differences(folder, calm)


def table_outcome(seed, path):
    """`read` or the error that refuses a fuzzed table; an AssertionError where it takes too long."""
    path.write_bytes(fuzz.table(seed))
    return _outcome(lambda: read_development(DataConfig(source="market", path=str(path)), 0))


def config_outcome(seed, path):
    """`read` or the error that refuses a fuzzed config."""
    path.write_text(fuzz.config(seed))
    return _outcome(lambda: load_experiment(path, []))


def _outcome(read):
    begun = time.monotonic()
    try:
        read()
        outcome = "read"
    except HyperError as error:
        assert error.exit_code in (2, 3), error
        assert "\n" not in str(error), f"more than one line: {error}"
        outcome = "refused"
    assert time.monotonic() - begun < PATIENCE
    return outcome


def damage_is_noticed(seed, folder, scratch):
    """Whether the reader of an artifact of a finished run notices that it was damaged."""
    generator = random.Random(seed)
    checkpoints = sorted(folder.glob("*/checkpoints/*.pt"))
    kind = generator.choice(("json", "model", "table", "checkpoint"))
    if kind == "checkpoint":
        source = generator.choice(checkpoints)
        copy = scratch / source.name
        copy.write_bytes(fuzz.damaged(source.read_bytes(), generator))
        state, _, warning = Checkpoints(scratch).load(source.stem)
        copy.unlink()
        return state is None and "starts from scratch" in warning
    if kind == "table":
        listed = json.loads((folder / EXTENDED).read_text())["files"]
        source = folder / EXTENDED.rpartition("/")[0] / next(iter(listed))
        reader = lambda path: read_listed(path, listed, "make")  # noqa: E731
    elif kind == "model":
        source, reader = folder / "final_model.pkl", lambda path: read_tensors(path, "make")
    else:
        source = folder / generator.choice(JSON_ARTIFACTS)
        reader = lambda path: read_record(path, "make", RECORDS[path.stem])  # noqa: E731
    copy = scratch / source.name
    copy.write_bytes(fuzz.damaged(source.read_bytes(), generator))
    return _outcome(lambda: reader(copy)) == "refused"


def trap_is_harmless(seed, scratch):
    """Whether every reader refuses a trap without running what it holds."""
    canary, model = scratch / f"canary_{seed}", scratch / "final_model.pkl"
    content = fuzz.trap(seed, canary)
    model.write_bytes(content)
    refused = _outcome(lambda: read_tensors(model, "make")) == "refused" and not _unpacks(content)
    (scratch / "trial_0000.pt").write_bytes(content)
    state, _, _ = Checkpoints(scratch).load("trial_0000")
    return refused and state is None and not canary.exists()


def _unpacks(content):
    try:
        unpack_tensors(content)
    except ValueError:
        return False
    return True
