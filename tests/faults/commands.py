"""What accidents to the commands do and leave: runs to the end, kills, and differences between two runs."""

import os
import random
import signal
from pathlib import Path

from tests.conftest import EXTENDED, SCRIPTS, TRIALS, artifact, session_members, without_times
from tests.final_models import differing_parts
from tests.forked import start, wait

RESULTS = "evaluation/evaluation_results.json"


def finish(folder, *arguments, scripts=SCRIPTS):
    """Run commands one after the other; all must succeed."""
    for script in scripts:
        code = wait(start(script, folder, *arguments))
        assert code == 0, f"{script}: {code}: {Path(f'{folder}.log').read_text()}"


def kill_one(process, generator: random.Random):
    """Kill the command or one of its workers."""
    alive = session_members(process)
    if alive:
        try:
            os.kill(generator.choice(alive), signal.SIGKILL)
        except ProcessLookupError:
            return


def differences(folder, calm, scripts=SCRIPTS):
    """What differs between the artifacts of two runs, times aside; empty if they are equal bit for bit."""
    names = {SCRIPTS[0]: [TRIALS], SCRIPTS[1]: [EXTENDED, "best_config.json"], SCRIPTS[4]: [RESULTS]}
    found = []
    for name in (name for script in scripts for name in names.get(script, [])):
        ours, theirs = (without_times(artifact(run, name)) for run in (folder, calm))
        found += [name] if ours != theirs else []
    if SCRIPTS[3] in scripts:
        found += [f"final_model.pkl: {part}" for part in differing_parts(Path(folder), Path(calm))]
    found += [f"{path} was left" for path in Path(folder).rglob("*.tmp")]
    return found
