"""The disk under a run directory: too small before the start, full in the middle, on another host."""

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.commands.main import _run
from scripts.commands.output import Answer
from scripts.config.search_space import Choices, Hyperparameters, IntRange
from scripts.config.yaml_files import load_experiment
from scripts.data.loading import load_development
from scripts.errors import EnvironmentFailed, InputError
from scripts.execution.disk_space import Workload, check_room, largest_model
from scripts.storage.database import open_file
from scripts.storage.database_errors import database_errors
from scripts.storage.file_systems import file_system, file_system_note
from scripts.training.models.registry import build_model
from scripts.tuning.stages import Proposal
from scripts.tuning.study import TrialStudy
from tests.conftest import EXTENDED, SCRIPTS, TRIALS, artifact, run, run_in_shell, without_times


@contextmanager
def small_disk(folder, megabytes):
    """A file system in memory on `folder`."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "small", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def tiny(tiny_config):
    experiment = load_experiment(tiny_config, [])
    return experiment, load_development(experiment.data, 3, 0)


# --- room before the start ------------------------------------------------------------------------------------------


def test_a_phase_that_does_not_fit_is_refused_before_it_starts(tmp_path, tiny_config):
    with small_disk(tmp_path, 3):
        done = run(SCRIPTS[0], tmp_path, "--config", tiny_config, "--workers", 1)
        assert done.returncode == 5, done.stderr
        assert "needs up to" in done.stderr and "3.0 MB are free" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not list(tmp_path.rglob("*.pt")) + list(tmp_path.rglob("study.db"))


def test_a_phase_needs_no_more_room_than_was_estimated(finished_run, tiny):
    """Phase 1 of the finished run, whatever is in its folder."""
    experiment, dataset = tiny
    n_validated = len(dataset.tail_split(0.2, 0)[1])
    estimate = Workload.of(experiment.search_space, dataset, 7, 1, 7 * 4, n_validated, 7 * n_validated).bytes_on_disk
    folder = finished_run.folder
    files = [*folder.glob("hyperparameter_tuning_results/**/*"), *folder.glob("tensorboard_logs/trial_*/*")]
    used = sum(p.stat().st_size for p in files if p.is_file())
    assert 0.02 * estimate < used <= estimate


def test_what_is_there_already_counts(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    large = Workload(1, 1, 0, free // 4, 0, 0, 2)  # needs 18 copies of as many numbers of 4 bytes
    with pytest.raises(EnvironmentFailed, match="needs up to"):
        check_room(tmp_path, large)
    with open(tmp_path / "there", "wb") as file:
        file.truncate(large.bytes_on_disk)  # sparse: large by name alone
    check_room(tmp_path, large)


def test_the_largest_model_of_a_search_space_is_counted(tiny):
    _, dataset = tiny
    space = {
        "family": Choices(choices=("mlp", "gru")),
        "width": Choices(choices=(8, 64)),
        "depth": IntRange(low=1, high=3),
    }
    counts = []
    for family in ("mlp", "gru"):
        for width in (8, 64):
            for depth in (1, 2, 3):
                hyperparameters = Hyperparameters(family=family, width=width, depth=depth)
                model = build_model(hyperparameters, dataset.x.shape[1], dataset.n_classes, {})
                counts.append(sum(p.numel() for p in model.parameters()))
    assert largest_model(space, dataset) == max(counts)


# --- full in the middle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "earlier"), [(SCRIPTS[0], ()), (SCRIPTS[1], ("hyperparameter_tuning_results",))])
def test_a_disk_that_fills_up_ends_a_phase_with_one_line_and_it_goes_on_with_room(
    tmp_path, finished_run, script, earlier
):
    """A limit on the size of a file stands for the full disk: phase 1 meets it in its database, phase 2 in a state."""
    folder = tmp_path / "run"
    for name in earlier:
        shutil.copytree(finished_run.folder / name, folder / name)
    flags = ["--config", finished_run.config, "--workers", 1]

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    done = run_in_shell(script, folder, *flags, preexec_fn=limit)
    assert done.returncode == 5, done.stderr
    assert len(done.stderr.splitlines()) == 1 and str(folder) in done.stderr
    assert not [p.name for p in folder.rglob("*.tmp")]
    done = run(script, folder, *flags)
    assert done.returncode == 0, done.stderr
    name = EXTENDED if earlier else TRIALS
    assert without_times(artifact(folder, name)) == without_times(artifact(finished_run.folder, name))


def test_a_study_on_a_full_disk_keeps_its_trials_and_goes_on_with_room(tmp_path):
    path = tmp_path / "study.db"
    with small_disk(tmp_path, 1):
        study, n_trials = TrialStudy(path, {}), 0
        with (
            pytest.raises(EnvironmentFailed, match="cannot be read or written") as caught,
            database_errors(path),
        ):
            while n_trials < 1000:
                study.start(Proposal({}, {"note": "x" * 10_000}, {}), "random")
                n_trials += 1
        assert caught.value.where == str(path)
        study.close()
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path)], check=True)
        study = TrialStudy(path, {})
        assert 0 < n_trials == len(study.trials())
        assert study.start(Proposal({}, {"note": "more"}, {}), "random") == n_trials
        study.close()


def test_a_read_only_disk_is_named_before_anything_is_done(tmp_path, tiny_config):
    with small_disk(tmp_path, 1):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        done = run(SCRIPTS[0], tmp_path, "--config", tiny_config, "--workers", 1)
    assert done.returncode == 5, done.stderr
    assert "Read-only file system" in done.stderr and str(tmp_path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_database_is_made_in_one_step(tmp_path, monkeypatch):
    """Killed while SQLite makes its tables, the file would be spoilt; a file of a similar name is somebody else's."""
    (tmp_path / "study.db.new").write_bytes(b"SQLite format 3\0 and then nothing")
    seen = []

    def replace(new, path, rename=os.replace):
        with contextlib.closing(sqlite3.connect(new)) as made:
            seen.append(made.execute("SELECT key, value_json FROM study_user_attributes").fetchall())
        rename(new, path)

    monkeypatch.setattr(os, "replace", replace)
    study = TrialStudy(tmp_path / "study.db", {"config_hash": "a"})
    assert study.attributes["config_hash"] == "a" and study.trials() == []
    study.close()
    assert seen == [[("config_hash", '"a"')]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study.db", "study.db.new"]


def test_a_study_is_kept_the_same_with_a_clock_before_1970(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: -18_000_000.0)  # a machine without a battery may start anywhere
    study = TrialStudy(tmp_path / "study.db", {"config_hash": "a"})
    study.start(Proposal({}, {}, {}), "random")
    study.note("decision_000000", {"kind": "continue", "trial": 0, "split": 0, "epochs": 4})
    study.close()
    study = TrialStudy(tmp_path / "study.db", {"config_hash": "a"})
    assert study.attributes["config_hash"] == "a" and len(study.trials()) == 1
    study.close()


def test_damage_that_appears_while_a_study_is_open_is_the_disks(tmp_path):
    path = tmp_path / "study.db"
    TrialStudy(path, {}).close()
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(EnvironmentFailed, match=r"study\.db: the database cannot be read"), database_errors(path):
        open_file(path).get_all_studies()
    with pytest.raises(InputError, match="not a readable study"), database_errors(path):
        TrialStudy(path, {})


def test_only_what_the_disk_did_to_the_database_is_called_its_failure(tmp_path):
    path = tmp_path / "study.db"
    path.write_bytes(b"no database at all, but not empty either")
    with pytest.raises(InputError, match="not a readable study"), database_errors(path):
        TrialStudy(path, {})


# --- file systems ---------------------------------------------------------------------------------------------------

MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /data rw,relatime shared:5 - nfs4 server:/export rw,vers=4.2
31 30 8:1 / /data/local rw - xfs /dev/sda1 rw
32 22 0:41 / /mnt/with\040blank rw - fuse.sshfs host:/ rw
33 22 8:2 / /twice rw - ext4 /dev/sdb1 rw
34 33 0:42 / /twice rw - cifs //server/share rw
"""


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    monkeypatch.setattr("scripts.storage.file_systems.MOUNTS", table)


@pytest.mark.parametrize(
    ("path", "kind", "warned"),
    [
        ("/srv/run", "ext4", False),
        ("/data/run", "nfs4", True),
        ("/database/run", "ext4", False),
        ("/data/local/run", "xfs", False),
        ("/mnt/with blank/run", "fuse.sshfs", True),
        ("/twice", "cifs", True),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_innermost_mount(mounts, path, kind, warned):
    assert file_system(Path(path)) == kind
    note = file_system_note(Path(path))
    assert bool(note) == warned
    assert not warned or (kind in note and path in note and "local --run-dir" in note)


def test_the_file_system_found_is_the_one_that_the_system_names(tmp_path):
    done = subprocess.run(["df", "--output=fstype", str(tmp_path)], capture_output=True, text=True, check=True)
    assert file_system(tmp_path.resolve()) == done.stdout.split()[-1]


def test_a_command_on_a_network_file_system_says_so_and_runs(tmp_path, monkeypatch, capsys):
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {tmp_path.resolve()} rw - nfs server:/ rw\n")
    monkeypatch.setattr("scripts.storage.file_systems.MOUNTS", table)
    arguments = Namespace(
        run_dir=tmp_path / "run", time_budget=None, dry_run=False, quiet=False, storage=None, execution=None
    )
    _run(arguments, lambda session: session.echo(f"ran in {session.run_dir.path.name}"), False, Answer("run"))
    said = capsys.readouterr().out
    assert "file system of type nfs" in said and "ran in run" in said


# --- checkpoints of a finished phase --------------------------------------------------------------------------------

PHASES = {
    SCRIPTS[0]: "hyperparameter_tuning_results",
    SCRIPTS[1]: "extended_training_results",
    SCRIPTS[3]: "final_training_results",
}


def kept(folder, script):
    """Runs that have a checkpoint, and what the results of the phase call best."""
    names = sorted(p.stem for p in (folder / PHASES[script] / "checkpoints").iterdir())
    if script == SCRIPTS[0]:
        usable = [t for t in artifact(folder, TRIALS)["trials"] if t["state"] != "failed"]
        return names, [f"trial_{max(usable, key=lambda t: t['val_accuracy'])['number']:04d}"]
    if script == SCRIPTS[1]:
        best = artifact(folder, EXTENDED)["configurations"][0]["trial_number"]
        return names, [f"extended_{best:04d}_fold_{k}" for k in range(3)]
    return names, [f"final_all_seed_{k}" for k in range(3)]


@pytest.mark.parametrize("script", PHASES)
def test_all_checkpoints_stay_unless_only_the_best_are_asked_for(finished_run, tmp_path, script):
    """Also when it is asked for only after the phase has finished; the results do not change."""
    shutil.copytree(finished_run.folder, tmp_path, dirs_exist_ok=True)
    before, best = kept(tmp_path, script)
    assert set(best) < set(before)
    done = run(script, tmp_path, "--config", finished_run.config, "--keep-checkpoints", "best")
    assert done.returncode == 0, done.stderr
    assert kept(tmp_path, script)[0] == best
    for path in (tmp_path / PHASES[script]).glob("*.*"):
        assert path.read_bytes() == (finished_run.folder / PHASES[script] / path.name).read_bytes()


def test_a_phase_that_keeps_the_best_checkpoints_alone_says_the_same(finished_run, tmp_path):
    flags = ["--config", finished_run.config, "--workers", 1, "--keep-checkpoints", "best"]
    done = run(SCRIPTS[0], tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    names, best = kept(tmp_path, SCRIPTS[0])
    assert names == best
    assert without_times(artifact(tmp_path, TRIALS)) == without_times(artifact(finished_run.folder, TRIALS))
