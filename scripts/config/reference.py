"""JSON schema of the config for editors and shells, its reference document, and the config with every default.

`docs/generate.py` writes all three; a test fails if a file differs.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.config.experiment import Experiment
from scripts.config.search_space import Hyperparameters, PlainValues, Range
from scripts.config.yaml_text import inline_yaml

ROOT = Path(__file__).resolve().parents[2]
SCHEMA, REFERENCE = ROOT / "configs" / "schema.json", ROOT / "docs" / "configuration.md"
DEFAULT = ROOT / "configs" / "default.yaml"
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_LENGTHS = {"minLength": "at least", "maxLength": "at most", "minItems": "at least", "maxItems": "at most"}
_INTRODUCTION = """# Every key of the configuration

Generated from the typed config by `docs/generate.py`. Set a key in YAML (`--config FILE`) or on the command line
(`--set data.horizon=5`). A key that is not set has its default.
[configs/default.yaml](../configs/default.yaml) lists every key with its default; start your own file from a copy of it.
With the first line `# yaml-language-server: $schema=schema.json`, editors complete keys and values and mark errors.
"""
_DEFAULT = """# yaml-language-server: $schema=schema.json
# Every key of the configuration with its default. Generated from the typed config by docs/generate.py.
# To start your own file, copy this one, change values, and remove what keeps its default.

"""
_SPACE = """
## search_space

One entry per hyperparameter: a range, choices, or a fixed value. Others keep their default entry. Types and
bounds below apply to fixed values and to the values of a range.

```yaml
search_space:
  learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}
  depth: {type: int, low: 1, high: 4}
  family: {type: categorical, choices: [mlp, gru]}
  window: {type: int, low: 2, high: 20, when: {family: [gru]}}
  width: 64
```

"""
_FORMS = """
An entry of type `float` or `int` has `low`, `high` and `log` (logarithmic scale, default false). An entry of type
`categorical` has `choices`. `when` is a mapping of categoricals to lists of values: the entry then applies only to
configurations with one of these values each. Your own model families may take further names.
"""


@dataclass(frozen=True)
class Key:
    """One key as text for the reference, with its default as in YAML."""

    name: str
    type: str
    default: str
    bounds: str
    description: str


def schema() -> PlainValues:
    """Return the JSON schema (draft 2020-12) of a config file."""
    made = Experiment.model_json_schema()
    definitions, space = made["$defs"], made["properties"]["search_space"]
    ranges = [kind.__name__ for kind in Range.__subclasses__()]
    for name in ranges:
        definitions[name]["required"] = ["type", *definitions[name]["required"]]
    forms = [{"$ref": f"#/$defs/{name}"} for name in ranges]
    # A fixed value of a known hyperparameter has its bounds; other hyperparameters may have any name and value.
    space["properties"] = {
        name: {"description": fixed["description"], "anyOf": [*forms, *_changes_of(name, definitions), fixed]}
        for name, fixed in Hyperparameters.model_json_schema()["properties"].items()
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made


def sections(made: PlainValues) -> Iterator[tuple[str, str, list[Key]]]:
    """Yield the dotted name, description and keys of each section; the name of the experiment is empty."""
    definitions = made["$defs"]
    waiting = [("", made)]
    while waiting:
        prefix, model = waiting.pop(0)
        keys = []
        for name, part in model["properties"].items():
            dotted = f"{prefix}.{name}" if prefix else name
            if "$ref" in part:
                waiting.append((dotted, definitions[part["$ref"].rpartition("/")[2]]))
            elif name != "search_space":
                keys.append(_key(dotted, part))
        yield prefix, model["description"], keys


def reference() -> str:
    """Return every key with type, default, bounds and description as Markdown."""
    made, text = schema(), [_INTRODUCTION]
    for name, description, keys in sections(made):
        text.append(f"\n## {name or 'experiment'}\n\n{description.splitlines()[0]}\n\n{_table(keys)}")
    space = Hyperparameters.model_json_schema()["properties"]
    text += [_SPACE, _table([_key(name, part) for name, part in space.items()]), _FORMS]
    return "".join(text)


def default_config() -> str:
    """Return a config with every key at its default, each with its description as a comment."""
    made = schema()
    return _DEFAULT + "".join(_with_comments(made, Experiment().model_dump(mode="json"), made["$defs"], ""))


def _with_comments(model: PlainValues, values: Any, definitions: PlainValues, indent: str) -> Iterator[str]:
    for name, part in model["properties"].items():
        if name == "search_space":
            yield f"\n{_comment(part['description'], indent)}search_space:\n"
            yield from _space_with_comments(values[name])
            yield "\n"
        elif "$ref" in part:
            yield f"\n{_comment(part['description'], indent)}{indent}{name}:\n"
            inner = definitions[part["$ref"].rpartition("/")[2]]
            yield from _with_comments(inner, values[name], definitions, indent + "  ")
        else:
            key = _key(name, part)
            kind = ", ".join(filter(None, (key.type, key.bounds)))
            yield _comment(f"{key.description} ({kind})", indent)
            yield f"{indent}{name}: {inline_yaml(values[name])}\n"


def _space_with_comments(space: PlainValues) -> Iterator[str]:
    """Yield an entry for each hyperparameter; those that are not searched by default are commented out."""
    for name, part in Hyperparameters.model_json_schema()["properties"].items():
        yield _comment(part["description"], "  ")
        entry = space.get(name)
        if entry is None:
            yield f"  # {name}: {inline_yaml(part['default'])}\n"
        else:
            shown = {k: v for k, v in entry.items() if k != "when"} | ({"when": entry["when"]} if entry["when"] else {})
            yield f"  {name}: {inline_yaml(shown)}\n"


def _comment(text: str, indent: str) -> str:
    return "".join(
        f"{line}\n" for line in textwrap.wrap(text, 120, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    )


def _changes_of(name: str, definitions: PlainValues) -> list[PlainValues]:
    """Return the form of an entry without a `type`, which changes parts of the default entry."""
    default = Experiment().search_space.get(name)
    if not isinstance(default, Range):
        return []
    parts = {part: of for part, of in definitions[type(default).__name__]["properties"].items() if part != "type"}
    return [{"type": "object", "additionalProperties": False, "properties": parts}]


def _key(name: str, part: PlainValues) -> Key:
    options = [option for option in part.get("anyOf", [part]) if option.get("type") != "null"]
    bounds = [
        *(f"{sign} {option[word]}" for option in options for word, sign in _BOUNDS.items() if word in option),
        *(f"{sign} {option[word]} long" for option in options for word, sign in _LENGTHS.items() if word in option),
    ]
    default = json.dumps(part["default"], ensure_ascii=False) if "default" in part else "{}"
    return Key(name, _type(part), default.strip('"') or '""', ", ".join(bounds), part["description"])


def _type(part: PlainValues) -> str:
    """Return the type in words, or the allowed values."""
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_type(option) for option in part["anyOf"]))
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if part["type"] == "array":
        return f"list of {_type(part['items'])}"
    if part["type"] == "object":
        return f"mapping to {_type(part['additionalProperties'])}"
    words = {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}
    return words.get(part["type"], str(part["type"]))


def _table(keys: list[Key]) -> str:
    lines = ["| key | type | default | bounds | description |", "|---|---|---|---|---|"]
    for key in keys:
        cells = (f"`{key.name}`", key.type, f"`{key.default}`", key.bounds or "-", key.description)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
