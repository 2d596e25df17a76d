"""docs/reliability.md names a test for every fault, or says why there is none; and what no single test could show."""

import ast
import functools
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs" / "reliability.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", DOCUMENT, re.M)
# Where the time of day is written down for people to read; nothing is decided by it.
RECORDS_TIME = {
    "scripts/storage/run_dir.py",
    "scripts/storage/event_log.py",
    "scripts/storage/remote/lease.py",
    "scripts/evaluation/seal_openings.py",
    "scripts/execution/tensorboard.py",
}


SECTIONS = re.split(r"^## ", DOCUMENT, flags=re.M)
(OF_KINDS,) = (section for section in SECTIONS if section.startswith("Kinds of fault"))
KINDS = re.findall(r"^\| (\w.+) \| (.+) \| (.+) \| (.+) \|$", OF_KINDS, re.M)


def functions(name):
    tree = ast.parse((ROOT / "tests" / name).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@functools.cache
def attributes():
    """Return the attributes that each source file of the package uses."""
    paths = [*(ROOT / "scripts").rglob("*.py"), *ROOT.glob("*.py")]
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths}
    return {
        name: {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for name, tree in trees.items()
    }


def calls(attribute):
    """Source files of the package that use an attribute such as `time.time`."""
    return {
        name
        for name, used in attributes().items()
        if any(one == attribute or one.endswith(f".{attribute}") for one in used)
    }


def test_the_faults_are_numbered_without_a_gap():
    assert [int(number) for number, *_ in ROWS] == list(range(1, len(ROWS) + 1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_named_test_exists(row):
    named = re.findall(r"`((?:\w+/)?test_\w+\.py)::(test_\w+)`", row[3])
    assert named or row[3].startswith("no test: "), "name a test, or say why there is none"
    assert len(named) == row[3].count("::")
    for file, function in named:
        assert function in functions(file), f"{file} has no {function}"


@pytest.mark.parametrize("row", KINDS[1:], ids=lambda row: row[0])
def test_every_kind_of_fault_names_modules_and_a_test_that_exist(row):
    modules = {path.name for path in (ROOT / "scripts").rglob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", row[1] + row[2])) <= modules
    ((file, function),) = re.findall(r"`((?:\w+/)?test_\w+\.py)::(test_\w+)`", row[3])
    assert function in functions(file)


def test_no_decision_reads_the_clock_on_the_wall():
    assert calls("time.time") | calls("datetime.now") == RECORDS_TIME
    assert not calls("datetime.today") | calls("datetime.utcnow") | calls("time.localtime") | calls("Timestamp.now")
    assert "scripts/execution/driver.py" in calls("time.monotonic")


def test_parsed_arguments_are_never_changed():
    for path in (ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                owner = ast.unparse(node.value)
                assert owner.rpartition(".")[2] not in {"arguments", "args"}, f"{path}: {ast.unparse(node)}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
                assert not ast.unparse(node.args[0]).endswith("arguments"), f"{path}: {ast.unparse(node)}"


def test_the_locale_is_never_set():
    assert not calls("locale.setlocale")


def test_the_locks_hold_every_requirement_with_hashes_and_nothing_without():
    for names, requirements in (
        (("requirements/base.lock", "requirements/torch.lock"), "requirements.txt"),
        (("requirements/dev.lock",), "requirements/dev.txt"),
    ):
        wanted = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / requirements).read_text(), re.M)
        text = re.sub(r"^ *#.*$\n?", "", "".join((ROOT / name).read_text() for name in names), flags=re.M)
        entries = [entry for entry in re.split(r"^(?=\S)", text, flags=re.M) if entry.strip()]
        locked = {tuple(re.match(r"([\w.-]+)==(\S+)", entry).groups()) for entry in entries}
        assert {(name.lower().replace(".", "-").replace("_", "-"), version) for name, version in wanted} <= locked
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_the_licences_of_all_packages_are_listed():
    locks = [(ROOT / name).read_text() for name in ("requirements/base.lock", "requirements/torch.lock")]
    locked = sorted(set(re.findall(r"^([\w.-]+)==", "".join(locks), re.M)))
    command = ["piplicenses", "--python", sys.executable, "--no-version", "--format=markdown", "--packages", *locked]
    made = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True)
    assert made.stdout.strip() in (ROOT / "docs" / "licences.md").read_text()
