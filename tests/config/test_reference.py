"""What is made from the typed config is fresh and agrees with it: schema, reference, completion in the shell."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from scripts.config.experiment import Experiment
from scripts.config.reference import DEFAULT, REFERENCE, SCHEMA, reference, schema, sections
from scripts.config.search_space import Hyperparameters
from scripts.config.yaml_files import load_experiment, read_yaml
from scripts.errors import InputError
from tests.conftest import ROOT, TINY

SPACE = Experiment().search_space.keys()
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))
DOCUMENTED = [
    snippet
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for snippet in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.S)
]


def problems(path):
    """What the schema has against a YAML file."""
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    return [error.message for error in validator.iter_errors(read_yaml(path)[0])]


def test_the_schema_and_the_reference_are_what_the_command_writes():
    assert json.loads(SCHEMA.read_text()) == schema(), "run .venv/bin/python docs/generate.py"
    assert REFERENCE.read_text() == reference(), "run .venv/bin/python docs/generate.py"


def test_every_key_has_a_description():
    made = schema()
    keys = [key for _, _, found in sections(made) for key in found]
    assert len(keys) > 60
    assert all(key.description.strip() for key in keys)
    assert made["properties"]["search_space"]["properties"].keys() == Hyperparameters.model_fields.keys()


def test_the_reference_shows_the_defaults_that_a_run_records():
    recorded = Experiment().recorded()
    for section in ("data", "tuning", "extended", "final"):
        for name, value in recorded[section].items():
            if not isinstance(value, dict):
                line = next(row for row in reference().splitlines() if row.startswith(f"| `{section}.{name}` |"))
                assert line.split(" | ")[2].strip("`") == json.dumps(value).strip('"')


def test_the_default_config_is_the_default_experiment_with_a_comment_above_every_key():
    assert load_experiment(DEFAULT, []) == Experiment()
    rows, (_, lines) = DEFAULT.read_text().splitlines(), read_yaml(DEFAULT)
    keys = {key.name for _, _, found in sections(schema()) for key in found} | {
        f"search_space.{name}" for name in SPACE
    }
    found = {".".join(map(str, at)): line for at, line in lines.items()}
    assert keys <= found.keys()
    assert all(rows[found[key] - 2].lstrip().startswith("# ") for key in keys)
    assert all(f"  # {name}: " in DEFAULT.read_text() for name in Hyperparameters.model_fields.keys() - SPACE)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_config_fits_the_schema_and_names_it(path):
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert not problems(path)


@pytest.mark.parametrize("snippet", [TINY, "search_space: {depth: {high: 5}}", *DOCUMENTED])
def test_what_loads_fits_the_schema(tmp_path, snippet):
    path = tmp_path / "snippet.yaml"
    path.write_text(snippet)
    load_experiment(path, [])
    assert not problems(path)


@pytest.mark.parametrize(
    "wrong",
    [
        "data: {horizn: 5}",
        "data: {horizon: 0}",
        "data: {label: next}",
        "tuning: {rungs: [4]}",
        "search_space: {dropout: 1.5}",
        "search_space: {optimizer: adamww}",
        "search_space: {depth: {type: int, low: 1}}",
        "search_space: {n_members: {low: 1, high: 2}}",
        "search_space: {depth: {type: int, low: 1, hihg: 2, high: 2}}",
    ],
)
def test_what_the_schema_refuses_does_not_load(tmp_path, wrong):
    path = tmp_path / "wrong.yaml"
    path.write_text(wrong)
    assert problems(path)
    with pytest.raises(InputError):
        load_experiment(path, [])


# --- completion -----------------------------------------------------------------------------------------------------

# What bash does when the tab key is pressed: the registered function, given the line so far.
TAB = """
eval "$(register-python-argcomplete "$1")"
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9
_python_argcomplete "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(line):
    """What bash offers for the last word of a line."""
    script = line.split()[0]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", TAB, "bash", script, line], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {word.strip() for word in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("--dry", {"--dry-run"}),
        ("--epo", {"--epochs", "--epoch-budget"}),
        ("--select s", {"size", "spread"}),
        ("--config configs/us_daily_v", {"configs/us_daily_volatility.yaml"}),
        ("--set data.sour", {"data.source="}),
        ("--set data.source=", {"synthetic", "market", "table"}),
        ("--set search_space.optimizer=ada", {"adamw", "adam"}),
        ("--set extended.racing=", {"true", "false"}),
        ("--set data.synthetic.n_d", {"data.synthetic.n_days="}),
    ],
)
def test_the_shell_completes_flags_files_keys_and_values(typed, offered):
    assert completed(f"./run_extended_training.py {typed}") == offered
