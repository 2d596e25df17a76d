"""Several starts of one command on a PostgreSQL server and a shared run directory: the trials of one, whoever dies."""

import json
import os
import signal
import subprocess
import time

import pytest

from scripts.errors import EnvironmentFailed
from scripts.execution.executor import Carrier, Task
from scripts.joining.board import Withdrawn, board_name, board_of, new_board
from scripts.joining.executor import SharingExecutor
from scripts.joining.packing import pack_tasks, pack_updates, unpack_tasks, unpack_updates
from scripts.run_dir import RunDir
from scripts.tuning.storage import server_url
from tests.conftest import EXTENDED, SCRIPTS, TRIALS, artifact, command, finish, run, without_times
from tests.distributed.counting import counted_flags
from tests.faults.commands import differences
from tests.test_interruption import wait_for
from tests.test_training import DATA, spec

PAUSE_S = "0.1"  # of an epoch, so that everybody gets a share


@pytest.fixture(scope="module")
def environment(postgres):
    return {"HYPER_STORAGE": postgres.url, "COUNTED_PAUSE_S": PAUSE_S}


@pytest.fixture(scope="module")
def flags(tiny_config, tmp_path_factory):
    """Of every command."""
    return counted_flags(
        tiny_config,
        tmp_path_factory.mktemp("count"),
        "tuning.proposal_lag=6",
        "tuning.epochs_per_trial_random=40",
        "tuning.early_stopping_patience=100",
        "extended.extended_epochs=40",
        "extended.early_stopping_patience=100",
        "extended.racing=false",
    )


@pytest.fixture
def boards(postgres, tmp_path):
    """Makes boards of a run directory, for whoever decides or joins."""
    url, run_dir, made = server_url(postgres.url, from_command_line=False), RunDir(tmp_path), []

    def make(begin, phase="phase"):
        board = begin(run_dir, url, phase, print)
        if board is not None:
            made.append(board)
        return board

    yield make
    for board in made:
        board.remove()


def start(environment, script, folder, *arguments):
    return subprocess.Popen(
        command(script, folder, *arguments),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def workers(folder):
    """Names of all that trained."""
    path = folder / "events.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["worker"] for line in lines if line["event"] == "worker_started"}


@pytest.fixture(scope="module")
def alone(flags, tmp_path_factory):
    """What one start finds without a server."""
    folder = tmp_path_factory.mktemp("alone")
    finish(folder, *flags, scripts=(*SCRIPTS[:2], SCRIPTS[3]))
    return folder


def test_starts_that_die_in_turn_find_together_what_one_finds(environment, flags, alone, tmp_path):
    """First one that works for another is killed, then the one that decides; those that are left go on."""
    first = start(environment, SCRIPTS[0], tmp_path, *flags)
    wait_for(tmp_path / "joining" / "board.json", 120)
    others = [start(environment, SCRIPTS[0], tmp_path, *flags) for _ in range(2)]
    while len(workers(tmp_path)) < 3:
        assert first.poll() is None
        time.sleep(0.05)
    others[0].kill()
    others[0].communicate()
    first.kill()
    first.communicate()
    assert "trains for it" in ended(others[1])
    assert without_times(artifact(tmp_path, TRIALS)) == without_times(artifact(alone, TRIALS))
    assert not (tmp_path / "joining").exists()


def test_several_starts_share_folds_and_final_networks_and_all_end_well(environment, flags, alone, tmp_path):
    finish(tmp_path, *flags, scripts=SCRIPTS[:1], environment=environment)
    for script in (SCRIPTS[1], SCRIPTS[3]):
        for process in [start(environment, script, tmp_path, *flags) for _ in range(2)]:
            ended(process)
    assert differences(tmp_path, alone, scripts=[SCRIPTS[3]]) == []
    for name in (EXTENDED, "best_config.json"):
        assert without_times(artifact(tmp_path, name)) == without_times(artifact(alone, name)), name
    again = run(SCRIPTS[1], tmp_path, *flags, environment=environment)
    assert again.returncode == 0
    assert "phase 2 is finished" in again.stdout


def test_a_start_with_other_settings_is_refused(environment, flags, tmp_path):
    first = start(environment, SCRIPTS[0], tmp_path, *flags)
    wait_for(tmp_path / "joining" / "board.json", 120)
    other = run(SCRIPTS[0], tmp_path, *flags, "--set", "tuning.n_random_trials=7", environment=environment)
    fresh = run(SCRIPTS[0], tmp_path, *flags, "--fresh", environment=environment)
    first.send_signal(signal.SIGTERM)
    first.communicate()
    assert first.returncode == 130
    assert other.returncode == 2
    assert "was started with other settings: tuning.n_random_trials" in other.stderr
    assert fresh.returncode == 2
    assert "in use by" in fresh.stderr


def tasks():
    return [Task(spec(name=f"run_{k}", address=(k, "a"), epochs=3), None) for k in range(2)]


def test_tasks_and_updates_travel_as_plain_values_and_train_the_same_bits():
    here, there = Carrier(tasks(), DATA), Carrier(unpack_tasks(pack_tasks(tasks())), DATA)
    for _ in range(3):
        for one, other in zip(here.advance(), unpack_updates(pack_updates(there.advance())), strict=True):
            assert (one.name, one.report.train_loss) == (other.name, other.report.train_loss)
            assert (one.outcome is None) == (other.outcome is None)
    assert len(other.history) == 3
    gone_on = unpack_tasks(pack_tasks([Task(tasks()[0].spec, other.state)]))[0]
    assert gone_on.state == other.state
    named = pack_tasks([Task(spec(factories={"mine": "package.module:factory"}), None)])
    assert b"package.module" not in named and unpack_tasks(named)[0].spec.factories == {}
    with pytest.raises(ValueError, match="SHA-256"):
        unpack_tasks(pack_tasks(tasks())[:-3])


def test_an_item_is_one_worker_s_alone_until_it_is_taken_down(boards):
    decider = boards(new_board)
    joiners = [boards(board_of) for _ in range(2)]
    number = decider.offer(tasks())
    assert boards(board_of, "another phase") is None
    taken = [joiner.take(f"worker {k}") for k, joiner in enumerate(joiners)]
    assert taken[1] is None
    assert taken[0][0] == number
    assert not decider.take_this(number)
    updates = Carrier(taken[0][1], DATA).advance()
    joiners[0].report(number, 1, updates)
    seen = decider.look([number])[number]
    assert (seen.worker, seen.n_reports) == ("worker 0", 1)
    assert [update.state for update in decider.report_of(number, 1)] == [update.state for update in updates]
    with pytest.raises(EnvironmentFailed):
        decider.report_of(number, 2)
    decider.end(number)
    with pytest.raises(Withdrawn):
        joiners[0].report(number, 2, updates)


def test_a_new_board_takes_the_place_of_one_that_was_left(boards, tmp_path):
    left = boards(new_board)
    left.offer(tasks())
    joiner = boards(board_of)
    now = boards(new_board)
    assert board_name(RunDir(tmp_path), "phase") == now.name != left.name
    with pytest.raises(Withdrawn):
        joiner.take("worker")


def test_who_shows_no_life_loses_its_item_and_what_it_reported_is_kept(boards, postgres):
    """Its last sign of life is put back by a minute, on the server."""
    board = boards(new_board)
    executor, joiner = SharingExecutor(DATA, 1, board), boards(board_of)
    first, second = tasks()
    executor.submit(first)
    executor.submit(second)
    if (item := joiner.take("lost")) is None:
        pytest.fail("nothing was offered")
    carrier = Carrier(item[1], DATA)
    joiner.report(item[0], 1, carrier.advance())
    postgres.rows("UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 minute'")
    epochs = {"run_0": [], "run_1": []}
    while not all(own and own[-1][1] for own in epochs.values()):
        update = executor.next_update()
        epochs[update.name].append((update.report.epoch, update.outcome is not None))
    executor.close()
    assert epochs["run_1"] == [(1, False), (2, False), (3, True)]
    with pytest.raises(Withdrawn):
        joiner.report(item[0], 2, carrier.advance())
