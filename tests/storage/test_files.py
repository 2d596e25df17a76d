"""Files of the user and of others: what commands write over, wait for, follow or remove."""

import errno
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.commands.predict import check_out
from scripts.errors import EnvironmentFailed, InputError
from scripts.evaluation.seal_openings import n_openings
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import append_line, failure_of_the_machine, file_sha256, replacing, write_bytes
from scripts.storage.run_dir import RunDir
from scripts.storage.temporary_files import temporary_file
from tests.conftest import ROOT, SCRIPTS, artifact, run, run_in_shell

ABANDONED = ".hyper-0123456789abcdef.tmp"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- temporary files -------------------------------------------------------------------------------------------------


def test_only_temporary_files_of_this_program_are_removed(tmp_path):
    mine, theirs = RunDir(tmp_path / "run"), tmp_path / "theirs"
    theirs.mkdir()
    (theirs / ABANDONED).touch()
    mine.tuning.mkdir(parents=True)
    (mine.tuning / "checkpoints").symlink_to(theirs)
    for folder in (mine.path, mine.analysis, mine.evaluation, mine.final / "checkpoints"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".notes.tmp").write_text("precious")
        (folder / ABANDONED).touch()
    (mine.path / ABANDONED.replace("0", "1")).mkdir()
    (mine.path / ABANDONED.replace("0", "2")).symlink_to(mine.path / ".notes.tmp")
    os.mkfifo(mine.path / ABANDONED.replace("0", "3"))
    with mine.locked():
        pass
    assert [names(folder) for folder in (mine.analysis, mine.evaluation, theirs)] == [[".notes.tmp"]] * 2 + [
        [ABANDONED]
    ]
    assert names(mine.final / "checkpoints") == [".notes.tmp"]
    assert [name for name in names(mine.path) if name.startswith(".hyper-")] == [
        ABANDONED.replace("0", str(k)) for k in (1, 2, 3)
    ]
    assert (mine.path / ".notes.tmp").read_text() == "precious"


def test_a_temporary_file_that_is_being_written_stays(tmp_path):
    """A prediction in the current folder needs no lock of the run directory."""
    with temporary_file(tmp_path) as (path, file):
        file.write(b"half")
        with RunDir(tmp_path).locked():
            pass
        assert path.exists()
    assert names(tmp_path) == ["run.lock"]


def test_writers_of_one_file_never_mix(tmp_path):
    path = tmp_path / "p.csv"
    with replacing(path) as first:
        first.write(b"a" * 10_000)
        with replacing(path) as second:
            second.write(b"b" * 10)
        assert path.read_bytes() == b"b" * 10
        first.write(b"a" * 10_000)
    assert path.read_bytes() == b"a" * 20_000
    assert names(tmp_path) == ["p.csv"]


def test_no_link_is_followed_under_a_name_that_could_be_guessed(tmp_path):
    (tmp_path / "victim").write_text("my only copy")
    for name in (".p.csv.tmp", "p.csv.tmp", "p.csv.new"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    write_bytes(tmp_path / "p.csv", b"new")
    assert (tmp_path / "victim").read_text() == "my only copy"
    assert not (tmp_path / "p.csv").is_symlink()


# --- something else in the place of a file ---------------------------------------------------------------------------


def place(kind, path):
    """Put a folder, pipe, socket or link at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))
    else:
        path.symlink_to("/dev/zero")


KINDS = ("folder", "pipe", "socket", "link")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_read_written_or_appended_to_is_a_regular_one(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    place(kind, path := tmp_path / "trial.pt")
    for action in (
        lambda: write_bytes(path, b""),
        lambda: append_line(path, "line"),
        lambda: file_sha256(path),
        lambda: Checkpoints(tmp_path).load("trial"),
        lambda: check_out(path),
    ):
        with pytest.raises(InputError):
            action()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_directory_holds_regular_files(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [path for path in vars(RunDir(tmp_path)).values() if path.suffix and path != tmp_path]
    assert len(files) > 12
    for k, name in enumerate(path.relative_to(tmp_path) for path in [*files, tmp_path / "run.lock"]):
        run_dir = RunDir(Path(str(k)))
        place(kind, run_dir.path / name)
        with pytest.raises(InputError, match=name.name), run_dir.locked():
            pass


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledger_of_another_run_is_not_waited_for(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place(kind, (run_dir := RunDir(tmp_path)).openings)
    with pytest.raises(InputError):
        n_openings(run_dir)


def test_a_device_is_never_written_over(finished_run, tmp_path):
    """By root too: a rename would turn it into a file."""
    for path in (Path("/dev/null"), Path("/dev/stdout"), Path("/dev/tty")):
        with pytest.raises(InputError):
            check_out(path)
    os.mkfifo(tmp_path / "pipe.onnx")
    done = run(SCRIPTS[4], finished_run.folder, "--export", "onnx", "--out", tmp_path / "pipe.onnx")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "a pipe" in done.stderr
    assert (tmp_path / "pipe.onnx").is_fifo()


def test_a_name_of_a_packed_file_is_refused_for_plain_text(tmp_path):
    with pytest.raises(InputError, match="not compressed"):
        check_out(tmp_path / "p.csv.gz")


def test_checkpoints_behind_a_link_and_foreign_files_stay(finished_run, tmp_path):
    shutil.copytree(finished_run.folder, tmp_path / "run")
    folder = tmp_path / "run" / "hyperparameter_tuning_results" / "checkpoints"
    (folder / "resnet.pt").write_text("precious")
    flags = ["--config", finished_run.config, "--workers", 1, "--keep-checkpoints", "best"]
    linked = tmp_path / "linked"
    shutil.copytree(tmp_path / "run", linked)
    theirs = tmp_path / "theirs"
    (linked / "hyperparameter_tuning_results" / "checkpoints").rename(theirs)
    (linked / "hyperparameter_tuning_results" / "checkpoints").symlink_to(theirs)
    before = names(theirs)
    done = run(SCRIPTS[0], linked, *flags)
    assert done.returncode == 0, done.stderr
    assert "through a link" in done.stdout
    assert names(theirs) == before
    done = run(SCRIPTS[0], tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    assert "resnet.pt" in names(folder)
    assert len(names(folder)) == 2


# --- file systems that fail in other ways than by being full --------------------------------------------------------


@pytest.mark.parametrize("name", ["ESTALE", "ETIMEDOUT", "EBUSY", "EIO", "ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENODEV"])
def test_errors_of_network_file_systems_are_the_machines(name):
    failed = failure_of_the_machine(OSError(getattr(errno, name), "x", "/data/file"))
    assert failed.exit_code == 5
    assert str(failed).startswith(f"/data/file: {os.strerror(getattr(errno, name))}; ")


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "x"), OSError(errno.EINVAL, "x"), OSError("no number")])
def test_calls_that_are_wrong_in_themselves_are_defects(error):
    assert failure_of_the_machine(error) is None


def test_too_many_open_files_are_answered_with_the_limit():
    failed = failure_of_the_machine(OSError(errno.EMFILE, "x", "/data/file"))
    assert str(failed).startswith("/data/file: Too many open files; allow more open files (ulimit -n), then rerun")


def test_a_bad_sector_is_the_machines(tmp_path):
    """The memory of a process is a regular file whose beginning cannot be read."""
    with pytest.raises(EnvironmentFailed, match="Input/output error"):
        file_sha256(Path("/proc/self/mem"))


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """Environment in which a system call fails on some files."""
    if (compiler := shutil.which("cc") or shutil.which("gcc")) is None:
        pytest.skip("no C compiler here")
    library = tmp_path_factory.mktemp("failing") / "failing.so"
    source = ROOT / "tests" / "faults" / "failing_calls.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def environment(call, name, path):
        number = str(getattr(errno, name))
        return {"LD_PRELOAD": str(library), "FAIL_CALL": call, "FAIL_ERRNO": number, "FAIL_PATH": str(path)}

    return environment


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EIO"])
def test_a_file_system_without_locks_is_named(failing, tmp_path, name):
    done = run_in_shell(SCRIPTS[0], tmp_path / "r", "--workers", 1, environment=failing("flock", name, "run.lock"))
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 1), done.stderr
    assert "cannot lock" in done.stderr


def test_a_folder_that_cannot_be_flushed_is_no_obstacle(failing, tmp_path):
    (tmp_path / "results").mkdir()
    script = "import sys, pathlib, scripts.storage.durable_files as d; d.write_bytes(pathlib.Path(sys.argv[1]), b'')"
    for name, code in (("EINVAL", 0), ("EOPNOTSUPP", 0), ("EIO", 1)):
        environment = os.environ | failing("fsync of a folder", name, "results") | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", script, str(tmp_path / "results" / "a")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr


def test_an_unreadable_study_or_digest_after_a_bad_sector_is_the_machines(failing, finished_run, tmp_path):
    shutil.copytree(finished_run.folder, tmp_path, dirs_exist_ok=True)
    for script, file in ((SCRIPTS[2], "trials.json"), (SCRIPTS[4], "final_model.pkl")):
        done = run_in_shell(script, tmp_path, "--fresh", environment=failing("read", "EIO", file))
        assert (done.returncode, len(done.stderr.splitlines())) == (5, 1), (file, done.stderr)
        assert "--fresh" not in done.stderr
    assert artifact(tmp_path, "best_config.json")
    (tmp_path / "hyperparameter_tuning_results" / "trials.json").unlink()  # an interrupted search reads its study again
    arguments = (SCRIPTS[0], tmp_path, "--config", finished_run.config, "--workers", 1)
    done = run_in_shell(*arguments, environment=failing("read", "EIO", "study.db"))
    assert done.returncode == 5 and "study.db" in done.stderr and "--fresh" not in done.stderr, done.stderr
    # SQLite calls a page that cannot be read damage; the third read is the first one of a page.
    done = run_in_shell(*arguments, environment=failing("pread64", "EIO", "study.db") | {"FAIL_ONLY": "3"})
    assert done.returncode == 0, done.stderr
    assert artifact(tmp_path, "hyperparameter_tuning_results/trials.json")
