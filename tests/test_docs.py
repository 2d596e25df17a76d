"""The README tells what is there: its map of files is fresh, its snippets load and run, its commands exist."""

import ast
import os
import re
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from scripts.config_files import load_experiment
from tests.conftest import ROOT, SCRIPTS

README = (ROOT / "README.md").read_text()
PARTS = ("data", "leaks", "models", "training", "tuning", "execution", "evaluation", "judging", "reporting")
FOLDERS = ("scripts", *(f"scripts/{name}" for name in PARTS), "benchmarks")


def expected_map():
    """One line per module: its name and the first line of its docstring."""
    lines = []
    for folder in FOLDERS:
        lines.append(f"{folder}/")
        for path in sorted((ROOT / folder).glob("*.py")):
            if path.name != "__init__.py":
                first = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0].rstrip(".")
                lines.append(f"    {path.name:<24}{first}")
    return "\n".join(lines)


def test_the_map_of_files_is_fresh():
    assert expected_map() in README, f"the map in README.md should read:\n{expected_map()}"


@pytest.mark.parametrize("snippet", re.findall(r"```yaml\n(.*?)```", README, re.S))
def test_yaml_in_the_readme_is_a_config(tmp_path, snippet):
    path = tmp_path / "snippet.yaml"
    path.write_text(snippet)
    load_experiment(path, [])


def test_python_in_the_readme_runs_in_a_run_directory(finished_run):
    for snippet in re.findall(r"```python\n(.*?)```", README, re.S):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", snippet], cwd=finished_run.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_scripts_and_configs_named_in_the_readme_exist():
    for name in re.findall(r"(?:\./|`)((?:configs/|docs/|benchmarks/)?[\w/]+\.(?:py|sh|yaml|md))", README):
        candidates = [ROOT / name, ROOT / "tests" / name]
        assert any(path.exists() for path in candidates) or name in {"my.yaml"}, name


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "cluster").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_for_clusters_are_valid(path):
    assert subprocess.run(["bash", "-n", path]).returncode == 0


def test_the_job_for_kubernetes_gives_flags_that_the_pipeline_has_and_the_pinned_ray():
    job = YAML(typ="safe").load((ROOT / "configs" / "cluster" / "kuberay_job.yaml").read_text())
    pinned = re.search(r"^ray==(.*)$", (ROOT / "requirements-distributed.txt").read_text(), re.M)[1]
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
