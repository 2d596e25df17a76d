"""Leaks are caught: each mutant of the sources is a leak that could slip in, and a named test fails because of it."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.mutants import figures, inputs, rows

MUTANTS = (*rows.MUTANTS, *inputs.MUTANTS, *figures.MUTANTS)


# Imports libraries once and forks for each test, since they take longer to import than a test runs; the sources are
# imported by the child alone, from the folder that it is given.
RUNNER = """
import os, sys
import altair, arch.bootstrap, hypothesis, jinja2, optuna, pandas, pyarrow.parquet, pydantic, pytest, scipy.stats
import sklearn.ensemble, sqlalchemy, torch._dynamo, vl_convert, yaml
for line in sys.stdin:
    folder, *arguments = line.rstrip().split("\\t")
    if (child := os.fork()) == 0:
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        code = pytest.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def runner():
    """A process that runs tests in copies of the sources, each in a child of one thread."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    command = [sys.executable, "-c", RUNNER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield process
        process.stdin.close()


def run_tests(runner, folder, *nodes):
    """Exit code and output, which ends in a line for each failure."""
    arguments = ["-x", "-q", "-rf", "--tb=short", "-p", "no:cacheprovider", *(f"tests/{node}" for node in nodes)]
    runner.stdin.write("\t".join([str(folder), *arguments]) + "\n")
    code = runner.stdout.readline()
    assert code, "the process that runs the tests has ended"
    return int(code), (folder / "log.txt").read_text()


def copied_sources(folder):
    """The sources and the tests in another folder, where they may be changed."""
    for name in ("scripts", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_leak_is_caught(mutant, runner, tmp_path):
    path = copied_sources(tmp_path) / "scripts" / mutant.file
    source = path.read_text()
    n_found = source.count(mutant.text)
    assert n_found == 1, f"scripts/{mutant.file} holds {mutant.text!r} {n_found} times: adapt the mutant to the sources"
    path.write_text(source.replace(mutant.text, mutant.mutated))
    code, output = run_tests(runner, tmp_path, mutant.test)
    assert code == 1, f"{mutant.test} does not notice it (exit code {code}):\n{output}"
    failed_by_assertion = rf"^FAILED tests/{re.escape(mutant.test)} - (AssertionError|assert )"
    assert re.search(failed_by_assertion, output, re.MULTILINE), f"it fails, but not by an assertion:\n{output}"


def test_every_test_that_catches_a_leak_passes_on_the_sources_as_they_are(runner, tmp_path):
    code, output = run_tests(runner, copied_sources(tmp_path), *sorted({mutant.test for mutant in MUTANTS}))
    assert code == 0, output


def test_names_of_mutants_are_distinct():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
