"""Text that commands show, and limits of the machine that they name before they begin."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.commands.machine_limits import check_study_path
from scripts.commands.remote_urls import without_secret
from scripts.errors import InputError
from scripts.execution.progress import Progress
from scripts.reporting.figures import Panel
from scripts.reporting.model_card import escaped
from scripts.reporting.page import Page, render
from scripts.storage.printable import printable, printable_values
from tests.conftest import SCRIPTS, command, run, run_in_shell

# A title of the window, a cleared screen, an overwritten line, text in reverse, nothing at all, C1's own escape.
HOSTILE = "a\x1b]0;OWNED\x07\x1b[2J\rFAKE\u202egood\u200b\x9b31m\x7f"
OBEYED = set("\x1b\x07\r\u202e\u200b\x9b\x7f")


def test_what_a_terminal_obeys_is_escaped_and_all_else_stays():
    assert printable("a\x1b[0m\u202e\n") == "a\\x1b[0m\\u202e\\n"
    assert printable("one\ntwo\t", lines=True) == "one\ntwo\\t"
    for text in ("Zürich 東京 é “x” %", "e\u0301", "😀", "\\x1b"):
        assert printable(text) == text
    assert printable_values({"a\x1b": ["\x07", 1.5, None]}) == {"a\\x1b": ["\\x07", 1.5, None]}


def test_no_hostile_text_of_data_reaches_the_terminal(tmp_path):
    """Tickers and names of columns, a class, a key of the YAML file, a flag and the name of a file."""
    days = "".join(f"2020-01-{day:02d},{HOSTILE.replace(chr(13), '')},1{day}\n" for day in (1, 2, 2))
    (tmp_path / "m.csv").write_text("date,ticker,close\n" + days.replace(",12\n", ",13\n", 1))
    (tmp_path / "c.yaml").write_text('data:\n  "na\\e[31mme": 1\n')
    market = ["--set", "data.source=market", "--set"]
    for flags in (
        [*market, f"data.path={tmp_path / 'm.csv'}"],
        ["--config", tmp_path / "c.yaml"],
        ["--set", f"{HOSTILE}=1"],
        [f"--{HOSTILE}"],
        [*market, f"data.path={tmp_path}/{HOSTILE}.csv"],
        ["--config", f"{tmp_path}/{HOSTILE}.yaml"],
    ):
        done = run(SCRIPTS[0], tmp_path / "run", *flags)
        assert done.returncode == 2, done.stderr
        assert not OBEYED & set(done.stdout + done.stderr), ascii(done.stderr)
        assert len(done.stderr.splitlines()) == 1


def test_no_hostile_text_reaches_the_progress_display_a_page_or_a_card(capsys):
    with Progress("phase", 1, enabled=True) as progress:
        progress.note(HOSTILE)
        progress.finished(HOSTILE, HOSTILE, 0.5)
    shown = capsys.readouterr()
    assert "FAKE" in shown.err
    assert not OBEYED & set(shown.out + shown.err)
    page = render(Page(HOSTILE, HOSTILE, "", (HOSTILE,), (), (), HOSTILE))
    assert "\\x1b" in page
    assert not OBEYED & set(page.partition("<script")[0])
    assert not OBEYED & set(escaped(HOSTILE))
    assert not OBEYED & set(Panel(HOSTILE, {"title": HOSTILE}).spec["title"])


def test_a_secret_in_an_address_is_never_shown(tmp_path):
    assert without_secret("s3://KEY:SECRET@bucket/x@y") == "s3://bucket/x@y"
    assert without_secret("s3://bucket/x@y") == "s3://bucket/x@y"
    done = run(SCRIPTS[0], "s3://KEY:SECRET@bucket/x", "--json")
    assert done.returncode == 2
    assert "SECRET" not in done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_path_too_long_for_the_database_is_refused_before_anything_is_done(tmp_path, script):
    folder = tmp_path / ("p" * 120)
    folder /= "q" * 120
    folder /= "r" * (512 - len("/hyperparameter_tuning_results/study.db-journal") - len(str(folder)) - 1)
    check_study_path(folder / "hyperparameter_tuning_results" / "study.db")
    for flags in ([], ["--dry-run"]):
        done = run(script, f"{folder}r", *flags, cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "too long for SQLite (512 characters)" in done.stderr
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="2 characters shorter"):
        check_study_path(Path(f"{folder}rr") / "hyperparameter_tuning_results" / "study.db")


def test_a_current_folder_that_is_gone_is_named(tmp_path):
    (gone := tmp_path / "gone").mkdir()
    program = "import os, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
    arguments = [sys.executable, "-c", program, str(gone), *command(SCRIPTS[0], tmp_path / "run", "--workers", "1")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "current folder has been removed" in done.stderr


def test_a_limit_of_the_address_space_costs_pictures_alone(finished_run, tmp_path):
    """JavaScript's engine would end the process, with all else it had to write."""
    shutil.copytree(finished_run.folder, tmp_path, dirs_exist_ok=True)
    for name in ("analysis", "evaluation"):
        shutil.rmtree(tmp_path / name)
    limit = 3_000_000 * 2**10
    for script, page in ((SCRIPTS[2], "analysis/report.html"), (SCRIPTS[4], "evaluation/report.html")):
        done = run_in_shell(
            script,
            tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
            environment={"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / page).exists()
        assert done.stdout.count("no SVG files were written") == 1
    assert not list((tmp_path / "analysis").glob("*.svg"))
    assert os.path.exists(tmp_path / "evaluation" / "evaluation_results.json")
