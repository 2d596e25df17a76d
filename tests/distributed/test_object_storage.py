"""Run directories on object storage, on a real S3 server: what is published, who holds it, what accidents leave."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scripts.errors import EnvironmentFailed, Interrupted
from scripts.storage.remote import sync as mirror_module
from scripts.storage.remote.sync import mirrored
from scripts.storage.retry import retry_until_available
from scripts.storage.run_dir import InUse
from tests.conftest import EXTENDED, ROOT, SCRIPTS, TRIALS, artifact, finish, run, without_times
from tests.distributed.counting import counted_flags
from tests.distributed.prefix import BUCKET, another_machine, digest
from tests.distributed.s3 import KEY, MISSING, SECRET, Gate
from tests.faults.commands import differences

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def start(url, *arguments, script=SCRIPTS[0]):
    """Begin a command in a hurry, in a process group of its own."""
    command = [ROOT / "tests" / "distributed" / "hurried.py", ROOT / script, "--run-dir", url, "--no-progress"]
    return subprocess.Popen(
        [sys.executable, *map(str, [*command, *arguments])],
        env=os.environ | {"COUNTED_PAUSE_S": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process):
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


@pytest.fixture(scope="module")
def slow(tiny_config, tmp_path_factory):
    """Flags of a search whose epochs take a while where COUNTED_PAUSE_S says so."""
    return counted_flags(tiny_config, tmp_path_factory.mktemp("count"), "tuning.epochs_per_trial_random=12")


def test_a_pipeline_of_which_every_command_runs_on_another_machine_ends_as_a_local_one(
    place, tiny_config, tmp_path, monkeypatch
):
    flags = ["--config", tiny_config, "--workers", 1]
    said = ""
    for script in SCRIPTS:
        another_machine(monkeypatch, tmp_path, script)
        done = run(script, place.url, *flags)
        assert done.returncode == 0, done.stderr + done.stdout
        said += done.stdout + done.stderr
    assert "next: " in said and f" {ROOT}/" in said and f"--run-dir {place.url}" in said
    finish(tmp_path / "local", *flags)
    fetched = place.fetch(tmp_path / "fetched")
    assert differences(fetched, tmp_path / "local") == []
    assert place.check() > len(SCRIPTS)
    manifest = place.manifest()["files"]
    plain = {name: digest(place.read(name)) for name in place.names() if not name.startswith(".hyper/")}
    assert {"best_config.json", "final_model.pkl", "evaluation/report.html", "analysis/report.html"} <= plain.keys()
    assert plain == {name: manifest[name]["sha256"] for name in plain}
    contents = {f".hyper/objects/{entry['sha256']}" for entry in manifest.values()}
    assert {name for name in place.names() if name.startswith(".hyper/objects/")} == contents
    local = {path.relative_to(tmp_path / "local").as_posix() for path in (tmp_path / "local").rglob("*")}
    assert {name for name in manifest if "tfevents" not in name} <= local
    for secret in (KEY.encode(), SECRET.encode()):
        assert secret.decode() not in said
        assert not any(secret in place.read(name) for name in place.names())
        files = [path for path in tmp_path.glob("cache*/**/*") if path.is_file()]
        assert files and not any(secret in path.read_bytes() for path in files)


def test_a_search_that_was_killed_goes_on_elsewhere_and_readers_see_whole_generations(
    place, slow, tmp_path, monkeypatch
):
    first = start(place.url, *slow)
    seen = set()
    while len(seen) < 6:  # so some way into the training
        assert first.poll() is None, first.communicate()
        if any("checkpoints" in name for name in (place.manifest() or {"files": {}})["files"]):
            seen.add(place.check())
    another_machine(monkeypatch, tmp_path, "second")
    code, said = ended(start(place.url, *slow))
    assert code == 2
    assert "in use by" in said and f"pid {first.pid} on" in said and place.url in said
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = place.check()
    assert before >= max(seen) and TRIALS not in place.manifest()["files"]
    code, said = ended(start(place.url, *slow))
    assert code == 0, said
    assert "has shown no sign of life" in said
    assert place.check() > before
    for folder in (place.url, tmp_path / "calm"):
        finish(folder, *slow, scripts=SCRIPTS[: 1 if folder == place.url else 2])
    finish(place.url, *slow, scripts=SCRIPTS[1:2])
    fetched = place.fetch(tmp_path / "fetched")
    for name in (TRIALS, EXTENDED, "best_config.json"):
        assert without_times(artifact(fetched, name)) == without_times(artifact(tmp_path / "calm", name)), name


def test_an_interrupted_search_lets_go_and_leaves_what_it_did(place, slow, tmp_path, monkeypatch):
    process = start(place.url, *slow)
    while place.check() < 4:
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    assert code == 130, said
    assert json.loads(place.read(".hyper/lock.json"))["released"]
    another_machine(monkeypatch, tmp_path, "second")
    with mirrored(place.url, False, print) as (folder, _):
        assert any("checkpoints" in name for name in place.manifest()["files"])
        assert (folder / "hyperparameter_tuning_results" / "study.db").exists()


def test_a_server_that_goes_away_is_waited_for(place, server, hurried, monkeypatch):
    gate, said = Gate(server.port), []
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{gate.port}")
    with mirrored(place.url, False, said.append) as (folder, mirror):
        (folder / "one").write_text("1")
        gate.shut()
        mirror.publish_if_due()  # in the background, without success
        while not said:
            time.sleep(0.01)
        (folder / "two").write_text("2")
        threading.Timer(4.0, gate.open).start()
    gate.close()
    assert "cannot publish" in said[0] and "work continues" in said[0]
    assert any("is unreachable" in line for line in said) and any("is available again" in line for line in said)
    assert place.read("one") == b"1" and place.read("two") == b"2"


def test_a_server_that_stays_away_costs_nothing_that_was_done(place, server, hurried, monkeypatch):
    gate = Gate(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{gate.port}")
    monkeypatch.setattr(mirror_module, "retry_until_available", functools.partial(retry_until_available, longest_s=0.5))
    told = r"unreachable.*everything is kept in.*rerun the same command to resume"
    with pytest.raises(EnvironmentFailed, match=told), mirrored(place.url, False, print) as (folder, _):
        (folder / "one").write_text("1")
        gate.shut()
    assert place.manifest() is None
    gate.open()
    with mirrored(place.url, False, print) as (folder, _):
        assert (folder / "one").read_text() == "1"
    gate.close()
    assert place.read("one") == b"1"


def test_one_that_was_taken_for_dead_can_publish_no_more(place, hurried, tmp_path, monkeypatch):
    said = []
    told = "another start of a command"
    with pytest.raises(EnvironmentFailed, match=told), mirrored(place.url, False, said.append) as (folder, mirror):
        (folder / "one").write_text("1")
        mirror.publish_if_due(at_once=True)
        mirror._lease._ended.set()  # as if its machine slept
        mirror._lease._beating.join()
        another_machine(monkeypatch, tmp_path, "second")
        with mirrored(place.url, False, said.append) as (other, _):
            assert (other / "one").read_text() == "1"
            (other / "one").write_text("by the second")
        (folder / "one").write_text("by the first")
    assert any("no sign of life" in line for line in said)
    assert place.read("one") == b"by the second"
    place.check()


def test_a_second_start_on_the_same_machine_is_refused_and_may_read(place, hurried):
    with mirrored(place.url, False, print) as (folder, _):
        (folder / "one").write_text("1")
        told = f"{place.url}: in use by pid {os.getpid()}"
        with pytest.raises(InUse, match=told), mirrored(place.url, False, print):
            pass
        with mirrored(place.url, True, print) as (same, none):
            assert (same, none) == (folder, None)


def test_work_that_could_not_be_published_is_kept_when_others_have_moved_on(place, hurried, tmp_path, monkeypatch):
    with mirrored(place.url, False, print) as (folder, _):
        (folder / "one").write_text("1")
    (folder / "one").write_text("2, and never published")
    another_machine(monkeypatch, tmp_path, "second")
    with mirrored(place.url, False, print) as (other, _):
        (other / "two").write_text("by another machine")
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path / "cache"))
    said = []
    with mirrored(place.url, False, said.append) as (again, _):
        assert again == folder
        assert ((again / "one").read_text(), (again / "two").read_text()) == ("1", "by another machine")
    aside = folder.with_name("run.before-1")
    assert str(aside) in said[0]
    assert (aside / "one").read_text() == "2, and never published"


def test_a_kill_just_as_a_manifest_arrives_sets_nothing_aside(place, hurried, tmp_path):
    with mirrored(place.url, False, print) as (folder, _):
        (folder / "one").write_text("1")
    state = folder.with_name("state.json")
    before = json.loads(state.read_text())
    with mirrored(place.url, False, print) as (folder, mirror):
        (folder / "one").write_text("1, changed")
        trying = mirror._copy.trying
        mirror._copy.trying = lambda manifest: (trying(manifest), before.update(json.loads(state.read_text())))
    state.write_text(json.dumps(before))  # as it was when the manifest was sent
    (folder / "one").write_text("1, changed again")
    said = []
    with mirrored(place.url, False, said.append) as (folder, _):
        assert (folder / "one").read_text() == "1, changed again"
    assert said == []
    assert place.read("one") == b"1, changed again"


def test_an_interruption_is_not_kept_waiting_by_a_server_that_is_away(place, server, hurried, monkeypatch):
    gate, said = Gate(server.port), []
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{gate.port}")
    monkeypatch.setattr(mirror_module, "INTERRUPTED_S", 0.2)
    with pytest.raises(Interrupted), mirrored(place.url, False, said.append) as (folder, _):
        (folder / "one").write_text("1")
        gate.shut()
        raise Interrupted
    gate.close()
    assert "rerun the same command on this machine to resume" in said[-1]
    assert (folder / "one").read_text() == "1"


@pytest.mark.parametrize(
    ("url", "environment", "told"),
    [
        ("s3://no-such-bucket/run", {}, "s3://no-such-bucket: bucket not found; create it, or correct --run-dir"),
        ("ftp://bucket/run", {}, "is not a URL of a run directory; write s3://BUCKET/PREFIX"),
        (f"s3://{BUCKET}/a/../b", {}, "is not a URL of a run directory"),
        (f"s3://{BUCKET}/run", {"AWS_PROFILE": "nobody"}, "AWS_PROFILE: profile nobody not found"),
        (f"s3://{BUCKET}/run", {"HYPER_STORAGE": "postgresql://me@host/db"}, "a study on a server would run ahead"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(place, monkeypatch, url, environment, told):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if "AWS_PROFILE" in environment:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    done = run("analyze_results.py", url)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert told in done.stderr


def test_keys_of_a_profile_are_used(place, hurried, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    (tmp_path / "aws").mkdir()
    keys = f"[lab]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).write_text(keys)
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(f"[profile lab]\nregion = us-east-1\nendpoint_url = {endpoint}\n")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with mirrored(place.url, False, print) as (folder, _):
        (folder / "one").write_text("1")
    assert place.read("one") == b"1"


def test_a_run_on_a_file_system_imports_nothing_of_this(tmp_path):
    code = "import sys, runpy; sys.argv = ['analyze_results.py', '--run-dir', sys.argv[1]]\n"
    code += f"try: runpy.run_path({str(ROOT / 'analyze_results.py')!r}, run_name='__main__')\n"
    code += "except SystemExit: print([n for n in sys.modules if n.startswith(('obstore', 'scripts.storage.remote'))])"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    shutil.rmtree(tmp_path)
