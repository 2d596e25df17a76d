import errno
import io
import os
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.plugins.hparams import plugin_data_pb2

from scripts.errors import EnvironmentFailed, InputError
from scripts.execution.progress import Progress
from scripts.execution.tensorboard import TensorBoardLog
from scripts.reporting.evaluation_page import evaluation_page
from scripts.reporting.report import figures_for_tensorboard
from scripts.reporting.tensorboard_images import write_figures_as_images, write_fold_bands, write_layout
from scripts.storage.extended_record import Configuration, FoldResult
from scripts.storage.record_base import Epoch
from tests.conftest import ROOT
from tests.reporting.sample_reports import sample_evaluation

PROGRAM = """
from scripts.execution.progress import Progress
with Progress("tuning", 20, enabled=True, verbose=True) as progress:
    progress.note("na\\u00efve \\u2192 [red]")
    for trial in range(2):
        for epoch in range(8):
            progress.epoch(f"trial {trial}", epoch + 1, 10, {"val_accuracy": 0.5, "val_loss": None})
        progress.finished(f"trial {trial}", "stopped", 0.5 + trial / 100, 2)
print("result")
"""


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def metrics(epoch):
    return {
        "epoch": epoch,
        "train_loss": 0.7 - epoch / 100,
        "val_loss": 0.69 if epoch % 2 else None,
        "val_accuracy": 0.5 + epoch / 100,
        "simulated_return": None,
        "duration_s": 0.5,
        "examples_per_s": 1e5,
    }


def read(folder):
    return EventAccumulator(str(folder), {"histograms": 0, "scalars": 0}).Reload()


def steps(folder, tag="validation/accuracy"):
    return [(event.step, pytest.approx(event.value)) for event in read(folder).Scalars(tag)]


def run_program(**options):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=False, **options
    )


# --- progress ---------------------------------------------------------------------------------------------------------


def test_without_a_terminal_each_finished_run_is_one_plain_line(capsys):
    with Progress("tuning", 20, enabled=True) as progress:
        for epoch in range(1, 9):
            progress.epoch("trial 0", epoch, 10, {"val_accuracy": 0.51})
        progress.finished("trial 0", "stopped after 8 epochs", 0.53, epochs_left_unspent=2)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "\x1b" not in line
    for part in ("tuning", "trial 0", "stopped after 8 epochs", "53.0%", "8/18 epochs", "left"):
        assert part in line


def test_disabled_progress_writes_nothing(capsys):
    with Progress("tuning", 5, enabled=False, verbose=True) as progress:
        progress.epoch("trial 0", 1, 5, {})
        progress.finished("trial 0", "complete", 0.5)
        progress.note("hello")
    assert capsys.readouterr() == ("", "")


def test_verbose_progress_has_a_line_per_epoch(capsys):
    with Progress("tuning", 3, enabled=True, verbose=True) as progress:
        for epoch in range(1, 4):
            progress.epoch("config 2 fold 1", epoch, 3, {"val_accuracy": None})
    assert len(capsys.readouterr().err.splitlines()) == 3


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), max_size=10))
def test_the_best_is_the_largest_finite_score_and_the_first_of_equals(scores):
    progress = Progress("tuning", 10, enabled=False)
    for k, score in enumerate(scores):
        progress.finished(f"trial {k}", "complete", score)
    finite = [(s, k) for k, s in enumerate(scores) if s is not None and abs(s) != float("inf") and s == s]
    expected = max(finite, key=lambda item: (item[0], -item[1]), default=None)
    assert progress.best == (expected and (expected[0], f"trial {expected[1]}"))


def test_time_left_is_zero_when_all_planned_or_saved_epochs_are_accounted_for():
    progress = Progress("tuning", 10, enabled=False)
    assert progress.time_left_s() is None
    for epoch in range(1, 7):
        progress.epoch("trial 0", epoch, 10, {})
    assert progress.time_left_s() > 0
    progress.finished("trial 0", "stopped", 0.5, epochs_left_unspent=4)
    assert progress.time_left_s() == 0


def test_a_terminal_shows_run_best_and_epochs(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with Progress("tuning", 10, enabled=True) as progress:
        progress.epoch("trial 0", 1, 10, {"val_accuracy": 0.51})
        progress.finished("trial 0", "stopped", 0.52, 9)
        progress.note("a note")
    text = terminal.getvalue()
    for part in ("trial 0: stopped", "best 52.0% (trial 0)", "1/1 epochs", "a note"):
        assert part in text


def test_a_terminal_of_ascii_gets_escapes():
    done = run_program(stderr=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stdout == b"result\n"
    assert b"na\\xefve \\u2192 [red]" in done.stderr


def test_a_full_terminal_changes_nothing():
    with open("/dev/full", "w") as full:
        done = run_program(stderr=full)
    assert (done.returncode, done.stdout) == (0, b"result\n")


def test_a_reader_that_went_away_changes_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    done = run_program(stderr=writing)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"result\n")


def test_a_terminal_closed_from_the_start_changes_nothing():
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "$0" 2>&-', PROGRAM],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"result\n")


def test_monitoring_is_imported_without_tensorboard():
    modules = "sys, scripts.execution.progress, scripts.reporting.tensorboard_images"
    code = f"import {modules}; print(any(m.split('.')[0] == 'tensorboard' for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def test_epochs_become_scalars_and_gaps_are_left_out(tmp_path):
    log = TensorBoardLog(tmp_path)
    for epoch in (1, 2, 3):
        log.epoch("trial_0001", epoch, metrics(epoch))
    log.close()
    tags = read(tmp_path / "trial_0001").Tags()["scalars"]
    assert set(tags) == {
        "train/loss", "train/duration_s", "train/examples_per_s", "validation/loss", "validation/accuracy"
    }  # fmt: skip
    assert steps(tmp_path / "trial_0001") == [(1, 0.51), (2, 0.52), (3, 0.53)]
    assert steps(tmp_path / "trial_0001", "validation/loss") == [(1, 0.69), (3, 0.69)]


def test_a_resumed_run_equals_its_history_without_double_points(tmp_path):
    first = TensorBoardLog(tmp_path)
    for epoch in (1, 2, 3, 4):
        first.epoch("trial_0001", epoch, metrics(epoch))
    second = TensorBoardLog(tmp_path)  # a new process that knows the first two epochs from its checkpoint
    second.start("trial_0001", [metrics(1), metrics(2)])
    second.epoch("trial_0001", 3, metrics(3))
    assert steps(tmp_path / "trial_0001") == [(1, 0.51), (2, 0.52), (3, 0.53)]


def test_a_torn_record_of_a_killed_process_is_gone_after_the_resume(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.epoch("trial_0001", 1, metrics(1))
    (path,) = (tmp_path / "trial_0001").iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    resumed = TensorBoardLog(tmp_path)
    resumed.start("trial_0001", [metrics(1)])
    resumed.epoch("trial_0001", 2, metrics(2))
    assert steps(tmp_path / "trial_0001") == [(1, 0.51), (2, 0.52)]


def test_each_start_names_its_file_after_the_one_before(tmp_path):
    names = []
    for _ in range(12):
        TensorBoardLog(tmp_path).start("run", [])
        names += [path.name for path in (tmp_path / "run").iterdir()]
    assert names == sorted(set(names)) and len(names) == 12


def test_hyperparameters_and_final_metrics_are_in_the_folder_of_the_run(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.start("trial_0001", [metrics(1)])
    values = {"family": "mlp", "learning_rate": 0.01, "width": 64, "flag": True}
    log.finished("trial_0001", values, {"val_accuracy": 0.53, "val_loss": None})
    assert [p for p in tmp_path.rglob("*") if p.is_dir()] == [tmp_path / "trial_0001"]
    content = read(tmp_path / "trial_0001").PluginTagToContent("hparams")
    # Without an experiment summary TensorBoard takes the columns of all runs, also of those with other families.
    assert set(content) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    start = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["family"].string_value == "mlp"
    assert start.hparams["learning_rate"].number_value == 0.01
    assert start.hparams["flag"].bool_value is True
    assert steps(tmp_path / "trial_0001", "final/val_accuracy") == [(0, 0.53)]


def test_names_from_data_are_escaped_in_event_files(tmp_path):
    log, hostile = TensorBoardLog(tmp_path), "a\x1b[2J\u202eb"
    log.epoch("trial_0001", 1, {hostile: 0.5})
    log.weights("trial_0001", 1, {hostile: torch.ones(3)})
    log.finished("trial_0001", {"family": hostile, hostile: 1.0}, {hostile: 0.5})
    for path in tmp_path.rglob("events.*"):
        content = path.read_bytes()
        assert b"\x1b[2J" not in content and "\u202e".encode() not in content
        assert rb"a\x1b[2J\u202eb" in content


def test_event_files_behind_a_link_and_foreign_ones_stay(tmp_path):
    theirs = tmp_path / "theirs"
    names = ["events.out.tfevents.0000000007.hyper", "events.out.tfevents.mine.hyper", "events.out.tfevents.1.host"]
    for folder in (theirs / "run", tmp_path / "own" / "run"):
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text("")
    linked = tmp_path / "linked"
    linked.symlink_to(theirs)
    for _ in range(2):
        TensorBoardLog(linked).start("run", [metrics(1)])
        TensorBoardLog(tmp_path / "own").start("run", [metrics(1)])
    assert {path.name for path in (theirs / "run").iterdir()} >= set(names)
    assert steps(theirs / "run") == [(1, 0.51)]
    left = {path.name for path in (tmp_path / "own" / "run").iterdir()}
    assert left == {*names[1:], "events.out.tfevents.0000000009.hyper"}


def test_an_event_file_is_a_regular_file(tmp_path):
    """What came into its place between two epochs is neither followed nor waited for."""
    log = TensorBoardLog(tmp_path)
    log.epoch("run", 1, metrics(1))
    (path,) = (tmp_path / "run").iterdir()
    (tmp_path / "precious").write_text("")
    for make in (os.mkfifo, lambda place: place.symlink_to(tmp_path / "precious")):
        path.unlink()
        make(path)
        with pytest.raises(InputError, match=path.name):
            log.epoch("run", 2, metrics(2))
    assert (tmp_path / "precious").read_text() == ""


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-x", "a b", "x" * 65, "a\n", "é"])
def test_a_name_that_is_no_name_is_the_users_error(tmp_path, name):
    log = TensorBoardLog(tmp_path / "logs")
    with pytest.raises(InputError, match="not a valid run name"):
        log.epoch(name, 1, metrics(1))
    assert not (tmp_path / "logs").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailed, match=os.strerror(errno.ENOTDIR)):
        TensorBoardLog(tmp_path / "file").start("run", [])


def test_training_and_validation_share_a_chart_and_folds_have_bands(tmp_path):
    write_layout(TensorBoardLog(tmp_path))
    write_layout(TensorBoardLog(tmp_path))  # the next phase
    tag = metadata.CONFIG_SUMMARY_TAG
    (event,) = read(tmp_path / "layout").Tensors(tag)
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: chart for category in layout.category for chart in category.chart}
    both = charts["loss: training against validation"].multiline.tag
    tags = ("train/loss", "validation/loss", "other/train/loss/2")
    assert [name for name in tags if any(re.match(t, name) for t in both)] == ["train/loss", "validation/loss"]
    assert charts["validation accuracy"].multiline.tag
    (series,) = charts["validation accuracy of folds"].margin.series
    assert (series.value, series.lower, series.upper) == tuple(
        f"folds/val_accuracy{part}" for part in ("", "_lowest", "_highest")
    )


def test_bands_span_the_folds_where_all_of_them_have_a_value(tmp_path):
    folds = [
        FoldResult(
            fold=k,
            accuracy=0.5,
            history=[Epoch(**metrics(e) | {"val_accuracy": 0.5 + k / 10}) for e in range(1, n)],
        )
        for k, n in ((0, 5), (1, 4))
    ]
    configuration = Configuration.model_construct(trial_number=7, folds=folds)
    write_fold_bands(TensorBoardLog(tmp_path), [configuration])
    folder = tmp_path / "extended_0007_folds"
    assert steps(folder, "folds/val_accuracy") == [(e, 0.55) for e in (1, 2, 3)]
    assert steps(folder, "folds/val_accuracy_lowest") == [(e, 0.5) for e in (1, 2, 3)]
    assert steps(folder, "folds/val_accuracy_highest") == [(e, 0.6) for e in (1, 2, 3)]
    assert steps(folder, "folds/val_loss") == [(1, 0.69), (3, 0.69)]


def test_charts_of_the_evaluation_become_images(tmp_path):
    figures = figures_for_tensorboard(evaluation_page(sample_evaluation(n_dates=40)).figures)
    write_figures_as_images(TensorBoardLog(tmp_path), figures)
    images = read(tmp_path / "evaluation")
    assert sorted(images.Tags()["images"]) == ["costs", "equity/1", "equity/2", "reliability"]
    (image,) = images.Images("reliability")
    assert image.encoded_image_string.startswith(b"\x89PNG") and image.width > 560 and image.height > 200


def test_weights_become_histograms_of_a_run_of_their_own(tmp_path):
    log = TensorBoardLog(tmp_path)
    odd = {"empty": torch.empty(0), "broken": torch.tensor([1.0, float("nan")])}
    for epoch in (1, 2):
        log.weights("trial_0001", epoch, {"layer.weight": torch.randn(8, 4), **odd})
    found = read(tmp_path / "trial_0001_weights")
    assert found.Tags()["histograms"] == ["weights/layer.weight"]
    shown = found.Histograms("weights/layer.weight")
    assert [event.step for event in shown] == [1, 2] and shown[0].histogram_value.num == 32


def test_a_run_of_a_hundred_epochs_takes_less_than_200_kilobytes(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.start("run", [metrics(epoch) for epoch in range(1, 101)])
    log.finished("run", {f"parameter_{k}": k for k in range(20)}, {"val_accuracy": 0.5})
    assert sum(path.stat().st_size for path in (tmp_path / "run").iterdir()) < 200_000
