"""The study on a real PostgreSQL server: the same artifacts, restarts in the middle, and no password anywhere."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.errors import EnvironmentFailed
from scripts.storage.database import Server, server_url
from scripts.tuning.stages import Proposal
from scripts.tuning.study import TrialStudy
from tests.commands.test_interruption import wait_for
from tests.conftest import ROOT, SCRIPTS, TRIALS, artifact, command, finish, run, without_times
from tests.distributed.postgres import PASSWORD, QUOTED

SECRETS = (PASSWORD, QUOTED)
LONG = ["--set", "tuning.epochs_per_trial_random=60", "--set", "tuning.early_stopping_patience=60"]
ON_RUNGS = ["--set", "tuning.scheduler=rungs", "--set", "tuning.rungs=[2, 4]", "--set", "tuning.epoch_budget=30"]


@pytest.fixture(scope="module")
def environment(postgres):
    return {"HYPER_STORAGE": postgres.url}


def holds_secret(content):
    return any(secret.encode() in content for secret in SECRETS)


def test_a_server_and_a_file_hold_the_same_study_of_the_guide(finished_run, environment, tmp_path):
    finish(tmp_path, "--config", finished_run.config, "--workers", 1, scripts=SCRIPTS[:3], environment=environment)
    for name in (TRIALS, "best_config.json"):
        assert without_times(artifact(tmp_path, name)) == without_times(artifact(finished_run.folder, name)), name
    suggested = [folder / "analysis" / "suggested_search_space.yaml" for folder in (tmp_path, finished_run.folder)]
    assert suggested[0].read_bytes() == suggested[1].read_bytes()


def test_a_server_and_a_file_hold_the_same_study_on_rungs(environment, tiny_config, tmp_path):
    arguments = ["--config", tiny_config, "--workers", 1, *ON_RUNGS]
    finish(tmp_path / "file", *arguments, scripts=SCRIPTS[:1])
    finish(tmp_path / "server", *arguments, scripts=SCRIPTS[:1], environment=environment)
    found = [without_times(artifact(tmp_path / where, TRIALS)) for where in ("file", "server")]
    assert found[0] == found[1]
    assert not (tmp_path / "server" / "hyperparameter_tuning_results" / "study.db").exists()


def test_a_run_goes_on_through_two_restarts_of_the_server(postgres, environment, tiny_config, tmp_path):
    arguments = ["--config", tiny_config, "--workers", 2, *LONG]
    process = subprocess.Popen(
        command(SCRIPTS[0], tmp_path / "server", *arguments),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for number, mode in ((0, "fast"), (3, "immediate")):
        wait_for(tmp_path / "server" / "hyperparameter_tuning_results" / "checkpoints" / f"trial_{number:04d}.pt", 300)
        postgres.stop(mode)
        time.sleep(2.0)
        postgres.start()
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output.decode()
    finish(tmp_path / "file", *arguments, scripts=SCRIPTS[:1])
    assert without_times(artifact(tmp_path / "server", TRIALS)) == without_times(artifact(tmp_path / "file", TRIALS))


def test_a_second_start_on_a_run_directory_is_refused(environment, tiny_config, tmp_path):
    arguments = ["--config", tiny_config, "--workers", 1, *LONG]
    first = subprocess.Popen(
        command(SCRIPTS[0], tmp_path, *arguments),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for(tmp_path / "hyperparameter_tuning_results" / "study_on_server.json", 120)
    second = run(SCRIPTS[0], tmp_path, *arguments, environment=environment)
    first.terminate()
    first.communicate()
    assert first.returncode == 130
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert f"in use by pid {first.pid}" in second.stderr


def test_every_call_of_a_study_lives_through_lost_connections(postgres):
    """Also one after whose commit the answer was lost: the trial is there once."""
    study = TrialStudy(Server("hyper-lost", server_url(postgres.url, from_command_line=False)), {"config_hash": "a"})
    for number in range(10):
        end_connections(postgres)
        assert study.start(Proposal({}, {}, {}), "random") == number
        end_connections(postgres)
        study.note(f"decision_{number}", {"kind": "continue", "trial": number, "split": 0, "epochs": 4})
    end_connections(postgres)
    assert [trial.number for trial in study.trials()] == list(range(10))
    assert len(study.attributes) == 11
    study.close()


def test_a_server_that_stays_away_is_told_of_and_given_up(postgres):
    """Ended by nothing but its own limit, of a few seconds here."""
    told = []
    place = Server("hyper-away", server_url(postgres.url, from_command_line=False))
    study = TrialStudy(place, {}, told.append, longest_wait_s=4.0)
    postgres.stop("fast")
    try:
        with pytest.raises(EnvironmentFailed, match=r"unreachable for 4 s.*rerun the same command to resume"):
            study.note("data_fingerprint", "a")
    finally:
        postgres.start()
    assert len(told) == 1
    assert "retrying for up to 4 s" in told[0]
    study.note("data_fingerprint", "b")
    assert study.attributes["data_fingerprint"] == "b"
    study.close()


def end_connections(postgres):
    postgres.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hyper'")


def test_an_answer_lost_after_the_commit_makes_no_second_trial(postgres):
    """The connection ends between the commit on the server and its return to us."""

    study = TrialStudy(Server("hyper-commit", server_url(postgres.url, from_command_line=False)), {})
    dialect, lost = study._storage.engine.dialect, []
    commit = dialect.do_commit

    def commit_and_lose(connection):
        commit(connection)
        if len(lost) < 1:
            lost.append(connection)
            connection.dbapi_connection.close()
            commit(connection)

    dialect.do_commit = commit_and_lose
    assert study.start(Proposal({}, {}, {}), "random") == 0
    assert lost
    assert study.start(Proposal({}, {}, {}), "random") == 1
    assert [trial.number for trial in study.trials()] == [0, 1]
    study.close()


def test_studies_that_begin_at_once_in_an_empty_database_all_begin(postgres):
    postgres.rows("DROP SCHEMA public CASCADE")
    postgres.rows("CREATE SCHEMA public")
    code = (
        "import os, sys; from scripts.storage.database import *; from scripts.tuning.study import TrialStudy;"
        "TrialStudy(Server(sys.argv[1], server_url(os.environ['HYPER_STORAGE'], False)), {}).close()"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"hyper-{k}"], cwd=ROOT, env=os.environ | {"HYPER_STORAGE": postgres.url}
        )
        for k in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4


def test_a_password_is_nowhere_in_what_a_run_writes_says_or_shows(postgres, environment, tiny_config, tmp_path):
    arguments = ["--config", tiny_config, "--workers", 2, "--execution", "processes", "-v"]
    process = subprocess.Popen(
        command(SCRIPTS[0], tmp_path, *arguments),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    wait_for(tmp_path / "hyperparameter_tuning_results" / "checkpoints" / "trial_0000.pt", 300)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            for name in ("cmdline", "environ"):
                # Only the command itself was given it; its workers were not.
                if name == "cmdline" or (process.pid == os.getsid(int(entry.name)) and int(entry.name) != process.pid):
                    assert not holds_secret((entry / name).read_bytes()), entry
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output.decode()
    done = [
        subprocess.CompletedProcess((), 0, output.decode(), ""),
        *(run(script, tmp_path, *arguments, environment=environment) for script in SCRIPTS[1:]),
    ]
    for one in done:
        assert one.returncode == 0, one.stderr
        assert not holds_secret((one.stdout + one.stderr).encode())
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not holds_secret(path.read_bytes()), path


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("postgresql+psycopg://hyper:WRONG@127.0.0.1:{port}/postgres", 2, "authentication failed"),
        ("postgresql+psycopg://hyper:{password}@127.0.0.1:{port}/nowhere", 2, "does not exist"),
        ("postgresql+psycopg://hyper:{password}@127.0.0.1:1/postgres", 5, "unreachable"),
        ("postgresql+psycopg://hyper@127.0.0.1:{port}/postgres?password={password}", 2, "in its options"),
        ("mysql://hyper:{password}@127.0.0.1/postgres", 2, "is not a PostgreSQL URL"),
        ("hyper:{password}@127.0.0.1", 2, "is not a PostgreSQL URL"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_without_its_password(postgres, tiny_config, tmp_path, url, code, words):
    environment = {"HYPER_STORAGE": url.format(port=postgres.port, password=QUOTED)}
    done = run(SCRIPTS[0], tmp_path, "--config", tiny_config, environment=environment)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not holds_secret((done.stdout + done.stderr).encode())
    assert "WRONG" not in done.stderr


def test_a_password_on_the_command_line_is_refused_and_libpqs_means_are_taken(postgres, tiny_config, tmp_path):
    flags = ["--config", tiny_config, "--workers", 1]
    done = run(SCRIPTS[0], tmp_path, *flags, "--storage", postgres.url)
    assert done.returncode == 2
    assert "every user of this machine can read" in done.stderr
    assert not holds_secret(done.stderr.encode())
    finish(
        tmp_path,
        *flags,
        "--storage",
        postgres.url_without_password,
        scripts=SCRIPTS[:1],
        environment={"PGPASSWORD": PASSWORD},
    )
    done = run(SCRIPTS[2], tmp_path, *flags)
    assert done.returncode == 3  # phase 2 first
    done = run(
        SCRIPTS[0], tmp_path, *flags, "--fresh", "--time-budget", "0.001s", environment={"HYPER_STORAGE": postgres.url}
    )
    assert done.returncode == 4
    done = run(SCRIPTS[0], tmp_path, *flags)
    assert done.returncode == 2
    assert "the study is on a server" in done.stderr
