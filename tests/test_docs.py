"""Documents agree with the code: generated files are current, snippets load and run, commands and links exist."""

import contextlib
import io
import re
import runpy
import shutil
import subprocess
import sys
import tokenize
import tomllib

import pytest
import yaml

from scripts import __version__
from scripts.config.experiment import SyntheticConfig
from scripts.config.yaml_files import load_experiment
from scripts.data.synthetic import generate
from tests.conftest import ROOT, SCRIPTS, run

README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_files_are_current():
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["documents"]()
    stale = [path.name for path, text in made.items() if path.read_text() != text]
    assert not stale, "run .venv/bin/python docs/generate.py"


@pytest.mark.parametrize("snippet", re.findall(r"```yaml\n(.*?)```", README, re.S))
def test_yaml_in_the_readme_is_a_config(tmp_path, snippet):
    path = tmp_path / "snippet.yaml"
    path.write_text(snippet)
    load_experiment(path, [])


@pytest.mark.parametrize("name", ["README.md", "docs/inference.md"])
def test_python_in_the_documents_runs_in_a_run_directory(finished_run, name):
    for snippet in re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S):
        with contextlib.chdir(finished_run.folder):
            exec(snippet, {})


def test_the_readme_fits_on_a_few_screens():
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1800


# Commands of the README as they are typed. start_tensorboard.sh has a test of its own, run_tests.sh is running now.
TYPED = [
    line.partition("#")[0].split()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
]
TYPED += [code.split() for code in re.findall(r"`(\./[^`]+)`", README)]
TYPED = [words for words in TYPED if words[0] not in ("./start_tensorboard.sh", "./run_tests.sh")]


@pytest.fixture(scope="module")
def workplace(finished_run, tmp_path_factory):
    """A directory with the files that the README's commands name, and a finished run in runs/mine."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(finished_run.folder, folder / "runs" / "mine")
    bars = generate(SyntheticConfig(n_tickers=4, n_days=500))[0]
    for name in ("prices.csv", "new.csv"):
        bars.to_csv(folder / name, index=False)
    (folder / "my.yaml").write_text(re.search(r"```yaml\n(# my.yaml\n.*?)```", README, re.S)[1])
    return folder


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_every_command_in_the_readme_starts_as_it_is_typed(words, checkout, workplace):
    """All of them show their plan; a bare command does so in the directory of a finished run."""
    cwd = workplace if len(words) > 1 else workplace / "runs" / "mine"
    done = subprocess.run([checkout / words[0], *words[1:], "--dry-run"], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


# What to write instead; a regular expression and its remedy.
AVOIDED = {
    r"(?<!there )(?:is|are|was|were|been?) no (?!longer|more|less|later|better|worse|higher|lower)\w+": "is not a",
    r"mend(?:s|ed|ing)?": "fix",
    r"anew|afresh": "again, from scratch",
    r"befell|befall\w*": "happened to",
    r"who(?:so)?ever": "anyone who",
    r"nobody": "no one",
    r"(?:command|run|search|training) (?:goes|went) on": "rerun the same command to resume",
    r"what it is for|what is said": "the standard term",
    r"(?:tell|tells|told) (?:\w+ )?(?:apart|from)": "tie, distinguish",
    r"(?:mov|set|put)\w* aside": "back up",
    r"begun": "started",
    r"for want of|wants for": "without, lacks",
    r"whence|thereof|forthwith|unasked|in vain": "plain words",
}
# Of docstrings, comments and messages, which have no quotations. The verdict of a comparison is a field of an artifact.
AVOIDED_IN_CODE = AVOIDED | {
    r"tells?|told": "print, report, show, distinguish",
    r"says?|said": "print, report, state",
    r"lies?|stands?": "is",
    r"aside|beside": "back up, next to, in addition to, compared with",
}
VERDICT = "cannot be told apart"
GENERATED_DOCUMENTS = {"configuration.md", "command_line.md", "code_map.md", "licences.md"}
PROSE = [path for path in DOCUMENTS if path.name not in {"log.md", *GENERATED_DOCUMENTS}]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_documents_are_in_plain_english(path):
    found = [
        f"line {number}: {match[0]!r}: write {instead}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for avoided, instead in AVOIDED.items()
        if (match := re.search(rf"\b(?:{avoided})\b", line, re.I))
    ]
    assert not found, "\n".join(found)


def texts(path):
    """Line and text of each comment and of each string of several words."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) and " " in token.string and VERDICT not in token.string:
            yield from enumerate(token.string.splitlines(), token.start[0])


@pytest.mark.parametrize("folder", ["scripts", "benchmarks"])
def test_docstrings_comments_and_messages_are_in_plain_english(folder):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}: write {instead}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in texts(path)
        for avoided, instead in AVOIDED_IN_CODE.items()
        if (match := re.search(rf"\b(?:{avoided})\b(?![(=.])", line, re.I))
    ]
    assert not found, "\n".join(found)


LINKS = [
    (path.relative_to(ROOT), target)
    for path in DOCUMENTS
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    if "://" not in target
]


def anchors(path):
    """Names of the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_between_documents_leads_somewhere():
    assert len(LINKS) > 50
    for source, target in LINKS:
        name, _, anchor = target.partition("#")
        path = ROOT / source.parent / name if name else ROOT / source
        assert path.exists(), (source, target)
        assert not anchor or anchor in anchors(path), (source, target)


def test_the_index_lists_every_document():
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [
        path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md" and path.name not in index
    ]
    assert not missing


ADDING = (ROOT / "docs" / "adding.md").read_text()
ADDED_FILES = {name: text for _, name, text in re.findall(r"```(python|yaml)\n# (\S+)\n(.*?)```", ADDING, re.S)}
ADDING_COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", ADDING, re.S) for line in block.splitlines()]


def test_what_is_said_about_adding_runs_as_it_stands(tmp_path):
    assert len(ADDED_FILES) == 6 and len(ADDING_COMMANDS) == 5
    for name, text in ADDED_FILES.items():
        (tmp_path / name).write_text(text)
    for line in ADDING_COMMANDS:
        script, *arguments = line.removeprefix("python3 ").split()
        if script in ADDED_FILES:
            call = [sys.executable, tmp_path / script, *arguments]
            done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
        else:
            done = run(script, None, *arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert "gated" in (tmp_path / "runs/model/hyperparameter_tuning_results/leak_check.json").read_text()


COMMAND_LINES = [
    (path.name, script, re.findall(r"(?<= )--[\w-]+", rest))
    for path in DOCUMENTS
    for script, rest in re.findall(
        r"((?:run_hyper\w+|run_ext\w+|run_final\w+|run_placebo|analyze_results|evaluate_model)\.py)([^`|\n]*)",
        path.read_text(),
    )
]


@pytest.mark.parametrize("script", sorted({script for _, script, _ in COMMAND_LINES}))
def test_every_flag_in_the_documentation_is_one_of_its_command(script):
    known = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True).stdout
    for where, _, flags in (line for line in COMMAND_LINES if line[1] == script):
        assert all(re.search(rf"{flag}\b", known) for flag in flags), (where, flags)


def test_the_citation_names_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"] == __version__
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_rooms_are_in_the_readme_the_guide_for_contributors_and_the_tests():
    rooms = {path.parent.name for path in (ROOT / "scripts").glob("*/__init__.py")}
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    listed = [text.partition("| room |")[2].partition("\n\n")[0] for text in (README, guide)]
    assert set(re.findall(r"`(\w+)/`", listed[0])) == set(re.findall(r"`scripts/(\w+)/`", listed[1])) == rooms
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders - {"faults", "distributed"} == rooms


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/adding.md", "docs/tuning.md", "docs/inference.md"])
def test_code_named_in_a_document_exists(name):
    paths = re.findall(r"`((?:scripts|tests|benchmarks|docs|configs|\.ci)/[\w./]*)`", (ROOT / name).read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_scripts_and_configs_named_in_the_readme_exist():
    for name in re.findall(r"(?:\./|`)((?:configs/|docs/|benchmarks/)?[\w/]+\.(?:py|sh|yaml|md))", README):
        candidates = [ROOT / name, ROOT / "tests" / name]
        assert any(path.exists() for path in candidates) or name in {"my.yaml"}, name


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "cluster").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_for_clusters_are_valid(path):
    assert subprocess.run(["bash", "-n", path]).returncode == 0


def test_the_job_for_kubernetes_gives_flags_that_the_pipeline_has_and_the_pinned_ray():
    job = yaml.safe_load((ROOT / "configs" / "cluster" / "kuberay_job.yaml").read_text())
    pinned = re.search(r"^ray==(.*)$", (ROOT / "requirements/distributed.txt").read_text(), re.M)[1]
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned
    assert f"ray[default]=={pinned}" in (ROOT / "configs" / "cluster" / "Dockerfile").read_text()
    flags = re.findall(r"--[a-z-]+", job["spec"]["entrypoint"])
    known = subprocess.run([sys.executable, ROOT / SCRIPTS[0], "--help"], capture_output=True, text=True).stdout
    assert all(flag in known for flag in flags if flag != "--quick")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_loads(path):
    load_experiment(path, [])


def test_nothing_in_the_repository_names_an_absolute_path_of_a_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if name.endswith((".py", ".sh", ".md", ".yaml", ".toml", ".txt")) and name != "tests/test_docs.py":
            assert not re.search(r"/(?:home|root|Users|work)/", (ROOT / name).read_text()), name
