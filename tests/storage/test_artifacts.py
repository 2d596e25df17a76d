"""Artifacts: digests, atomic writes, generations of checkpoints, the lock."""

import io
import os
import random
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from scripts.errors import EnvironmentFailed, InputError, MissingInputError, OtherSchemaError
from scripts.storage.artifact_header import SCHEMA_VERSIONS
from scripts.storage.artifacts import pack_tensors, read_json, read_tensors, unpack_tensors, write_json, write_tensors
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import back_up, read_regular, sha256, write_bytes
from scripts.storage.run_dir import RunDir


def state(seed=0):
    return {
        "w": torch.randn(7, 5, generator=torch.Generator().manual_seed(seed)),
        "epoch": 3,
        "names": ["a", None, 1.5],
    }


def test_json_comes_back_and_stays_json(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": [1.5, None, "é"]})
    assert read_json(path, "make.py", path.stem)["x"] == [1.5, None, "é"]
    assert subprocess.run([sys.executable, "-m", "json.tool", path], capture_output=True).returncode == 0


def test_every_flipped_byte_of_a_json_artifact_is_noticed(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"accuracy": 0.5123, "trials": list(range(20))})
    good = path.read_bytes()
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        with pytest.raises(InputError, match=r"create it again with make\.py"):
            read_json(path, "make.py", path.stem)


def test_a_missing_artifact_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(MissingInputError, match=r"run_extended_training\.py") as caught:
        read_json(tmp_path / "a.json", "run_extended_training.py", "a")
    assert caught.value.exit_code == 3


def test_another_schema_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    monkeypatch.setitem(SCHEMA_VERSIONS, "a", 99)
    write_json(path, {})
    monkeypatch.undo()
    with pytest.raises(OtherSchemaError, match=r"schema 99.*make\.py --fresh"):
        read_json(path, "make.py", path.stem)


def signed(path, text):
    """A JSON artifact made by hand, with a digest that fits."""
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(content + b',\n"sha256": "' + sha256(content).encode() + b'"\n}\n')


START = '{"schema_version": 1, "artifact": "a", "x": '


@pytest.mark.parametrize(
    "text",
    [
        START + "[" * 100_000 + "]" * 100_000,
        START + "[" * 60 + "]" * 60,
        START + "9" * 5000,
        START + "NaN",
        START + "nope",
        (START + '"\xff"').encode("latin-1"),
        "[1",
        '{"schema_version": 1, "artifact": "b"',
    ],
    ids=["very deep", "deep", "digits", "NaN", "word", "Latin-1", "list", "another"],
)
def test_an_artifact_that_was_made_by_hand_is_refused_with_one_line(tmp_path, text):
    path = tmp_path / "a.json"
    signed(path, text)
    with pytest.raises(InputError, match=r"a\.json") as caught:
        read_json(path, "make.py", path.stem)
    assert "\n" not in str(caught.value)


def test_an_honest_artifact_made_by_hand_is_read(tmp_path):
    signed(tmp_path / "a.json", START + "[" * 40 + "]" * 40)
    assert read_json(tmp_path / "a.json", "make.py", "a")["artifact"] == "a"


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


def nested(levels):
    content = []
    for _ in range(levels):
        content = [content]
    return content


def doubled(levels):
    """Small in a pickle, which holds each list once; endless for whoever walks it."""
    content = [1.5]
    for _ in range(levels):
        content = [content, content]
    return content


def repacked(compression, change=lambda name, content: content):
    """The archive of a million zeros made again by other means, with the digest that belongs to it."""
    buffer, packed = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.zeros(10**6)}, buffer)
    with zipfile.ZipFile(buffer) as given, zipfile.ZipFile(packed, "w", compression) as archive:
        for entry in given.infolist():
            archive.writestr(entry.filename, change(entry.filename, given.read(entry)))
    body = packed.getvalue()[:-2] + (71).to_bytes(2, "little")
    return body + b"sha256:" + sha256(body).encode()


def very_deep(name, content):
    """A pickle of 200,000 lists in each other, which no honest writer could make."""
    lists = b"]" * 200_000 + b"a" * 199_999
    return b"\x80\x02}X\x01\x00\x00\x00x" + lists + b"s." if name.endswith("data.pkl") else content


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pack_tensors({"x": nested(60)}), "nested deeper than 50"),
        (lambda: repacked(zipfile.ZIP_STORED, very_deep), "like one of torch.save"),
        (lambda: pack_tensors({"x": doubled(40)}), "larger than its file"),
        (lambda: pack_tensors({"x": torch.zeros(1).expand(10**12)}), "larger than its data"),
        (lambda: pack_tensors({"x": torch.zeros(10**6).to_sparse()}), "states do not contain"),
        (lambda: pack_tensors([1, 2]), "not a mapping"),
        (lambda: repacked(zipfile.ZIP_DEFLATED), "like one of torch.save"),
    ],
    ids=["deep", "very deep", "doubled", "expanded", "sparse", "list", "compressed"],
)
def test_a_file_that_holds_more_than_its_size_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        unpack_tensors(make())


def test_an_archive_that_another_tool_has_packed_is_refused():
    """Zip readers disagree about archives, so only the layout of torch.save is read."""
    with pytest.raises(ValueError, match=r"like one of torch\.save"):
        unpack_tensors(repacked(zipfile.ZIP_STORED))


def test_views_of_one_tensor_are_no_bomb():
    whole = torch.arange(12.0).reshape(3, 4)
    again = unpack_tensors(pack_tensors({"a": whole, "b": whole.T, "c": whole[1:], "d": torch.empty(0)}))
    assert torch.equal(again["b"], whole.T)


def test_checkpoints_fall_back_to_the_generation_before(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    first, second = pack_tensors(state(1)), pack_tensors(state(2))
    assert checkpoints.load("trial")[::2] == (None, "")
    checkpoints.save("trial", first)
    checkpoints.save("trial", second)
    assert checkpoints.load("trial")[::2] == (second, "")
    (tmp_path / "trial.pt").write_bytes(second[:-100])
    loaded, _, warning = checkpoints.load("trial")
    assert loaded == first
    assert "resuming from the previous checkpoint" in warning


def test_a_link_is_not_replaced(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(InputError, match="symbolic link"):
        write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_text() == "old"


@pytest.mark.parametrize("name", ["study.db", "trials.json", "openings", "final_model"])
def test_a_run_directory_with_a_linked_file_is_refused(tmp_path, name):
    """What would follow the link writes into a file that is not the run's."""
    run_dir = RunDir(tmp_path / "run")
    path = {"study.db": run_dir.study, "trials.json": run_dir.trials}.get(name) or getattr(run_dir, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"), run_dir.locked():
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_links_to_folders_are_followed_also_that_to_the_run_directory(tmp_path):
    (tmp_path / "disk" / "results").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "hyperparameter_tuning_results").symlink_to(tmp_path / "disk" / "results")
    with (run_dir := RunDir(tmp_path / "run")).locked():
        write_json(run_dir.trials, {})
    assert (tmp_path / "disk" / "results" / "trials.json").is_file()
    assert (tmp_path / "run").is_symlink()


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    script = (
        "import resource, signal; from pathlib import Path; from scripts.storage.artifacts import write_bytes;"
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


def test_a_backup_never_overwrites(tmp_path):
    for _ in range(2):
        (tmp_path / "results").mkdir()
        back_up(tmp_path / "results")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.before-1", "results.before-2"]
    assert back_up(tmp_path / "results") is None


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "device", "socket"])
def test_only_a_regular_file_is_read_and_nothing_is_waited_for(tmp_path, kind):
    path = tmp_path / "x"
    (tmp_path / "other").write_bytes(b"mine")
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        make = {"pipe": os.mkfifo, "link": lambda p: p.symlink_to("other"), "folder": os.mkdir}
        make[kind](path)
    with pytest.raises(InputError, match=r"symbolic link|not a regular file"):
        read_regular(path, 100)


def test_a_file_is_read_up_to_its_limit_and_a_missing_one_is_reported_as_missing(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(InputError, match="larger than 4 bytes; create it again"):
        read_regular(path, 4, "create it again")
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "y", 5)
    with pytest.raises(EnvironmentFailed):
        read_regular(path / "y", 5)


def test_a_second_generation_left_by_a_kill_is_removed(tmp_path):
    """Only of a run whose newest one is there, and no file of somebody else."""
    names = ["trial_0001.pt", "trial_0001.earlier.pt", "trial_0002.earlier.pt", "mine.pt", "mine.earlier.pt"]
    for name in names:
        (tmp_path / name).write_text("")
    Checkpoints(tmp_path).drop_all_earlier()
    assert {path.name for path in tmp_path.iterdir()} == {*names} - {"trial_0001.earlier.pt"}
