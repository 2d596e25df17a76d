"""Artifacts: digests, atomic writes, generations of checkpoints, the lock."""

import os
import random
import subprocess
import sys
import zipfile

import pytest
import torch

from scripts.artifacts import (
    RunDir,
    pack_tensors,
    read_json,
    read_tensors,
    set_aside,
    unpack_tensors,
    write_bytes,
    write_json,
    write_tensors,
)
from scripts.checkpoints import Checkpoints
from scripts.errors import EnvironmentFailed, InputError, MissingInputError


def state(seed=0):
    return {
        "w": torch.randn(7, 5, generator=torch.Generator().manual_seed(seed)),
        "epoch": 3,
        "names": ["a", None, 1.5],
    }


def test_json_comes_back_and_stays_json(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": [1.5, None, "é"]})
    assert read_json(path, "make.py")["x"] == [1.5, None, "é"]
    assert subprocess.run([sys.executable, "-m", "json.tool", path], capture_output=True).returncode == 0


def test_every_flipped_byte_of_a_json_artifact_is_noticed(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"accuracy": 0.5123, "trials": list(range(20))})
    good = path.read_bytes()
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        with pytest.raises(InputError, match=r"make it again with make\.py"):
            read_json(path, "make.py")


def test_a_missing_artifact_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(MissingInputError, match=r"run_extended_training\.py") as caught:
        read_json(tmp_path / "a.json", "run_extended_training.py")
    assert caught.value.exit_code == 3


def test_another_schema_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    monkeypatch.setattr("scripts.artifacts.SCHEMA_VERSION", 99)
    write_json(path, {})
    monkeypatch.undo()
    with pytest.raises(InputError, match="schema 99"):
        read_json(path, "make.py")


def test_nan_never_reaches_a_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_tensors_come_back_and_load_without_our_reader(tmp_path):
    path = tmp_path / "m.pkl"
    write_tensors(path, state())
    assert torch.equal(read_tensors(path, "make.py")["w"], state()["w"])
    assert torch.equal(torch.load(path, weights_only=True)["w"], state()["w"])
    assert zipfile.ZipFile(path).testzip() is None


def test_equal_states_have_equal_bytes():
    assert pack_tensors(state()) == pack_tensors(state())
    assert pack_tensors(state()) != pack_tensors(state(1))


def test_damaged_tensors_are_refused_wherever_the_damage_is():
    packed = pack_tensors(state())
    generator = random.Random(0)
    for _ in range(300):
        damaged = bytearray(packed)
        damaged[generator.randrange(len(packed))] ^= 1 << generator.randrange(8)
        with pytest.raises(ValueError, match=r"SHA-256"):
            unpack_tensors(bytes(damaged))
        with pytest.raises(ValueError, match=r"SHA-256"):
            unpack_tensors(packed[: generator.randrange(len(packed))])


def test_code_in_a_file_is_never_run(tmp_path):
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(canary),))

    with pytest.raises(ValueError, match="not a Hyper model"):
        unpack_tensors(pack_tensors({"w": Payload()}))
    assert not canary.exists()


def test_checkpoints_fall_back_to_the_generation_before(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    first, second = pack_tensors(state(1)), pack_tensors(state(2))
    assert checkpoints.load("trial") == (None, "")
    checkpoints.save("trial", first)
    checkpoints.save("trial", second)
    assert checkpoints.load("trial") == (second, "")
    (tmp_path / "trial.pt").write_bytes(second[:-100])
    loaded, warning = checkpoints.load("trial")
    assert loaded == first
    assert "going on from the checkpoint before it" in warning


def test_a_link_is_not_replaced(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(InputError, match="symbolic link"):
        write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_text() == "old"


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    script = (
        "import resource, signal; from pathlib import Path; from scripts.artifacts import write_bytes;"
        "from scripts.errors import EnvironmentFailed;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"try:\n    write_bytes(Path({str(path)!r}), b'x' * 5000)\n"
        "except EnvironmentFailed as error:\n    print(error); raise SystemExit(error.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert str(path) in done.stdout
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_cannot_be_made_is_an_environment_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailed):
        write_bytes(tmp_path / "file" / "a.json", b"")


def test_a_second_command_on_a_run_directory_is_told_who_holds_it(tmp_path):
    with RunDir(tmp_path).locked(), pytest.raises(InputError, match=f"pid {os.getpid()}"), RunDir(tmp_path).locked():
        pass
    with RunDir(tmp_path).locked():
        pass


def test_set_aside_never_overwrites(tmp_path):
    for _ in range(2):
        (tmp_path / "results").mkdir()
        set_aside(tmp_path / "results")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.before-1", "results.before-2"]
    assert set_aside(tmp_path / "results") is None
