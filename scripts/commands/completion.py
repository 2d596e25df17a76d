"""Shell completion of flags, files, config keys and their values, from configs/schema.json.

The typed config itself would be there only after all libraries are loaded, which takes longer than a person waits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter

if TYPE_CHECKING:
    from scripts.config.search_space import PlainValues

SCHEMA = Path(__file__).resolve().parents[2] / "configs" / "schema.json"
_FOLDERS = {"run_dir", "warm_start", "next", "compare"}  # flags that name run directories
_CONFIGS = ("yaml", "yml", "json")


def complete(parser: argparse.ArgumentParser) -> None:
    """Complete for the shell and end the process; return at once without a request."""
    for action in parser._actions:
        completer: Any = None
        if action.dest == "set":
            completer = _assignments
        elif action.dest == "config":
            completer = FilesCompleter(_CONFIGS)
        elif action.dest in _FOLDERS:
            completer = DirectoriesCompleter()
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]
    # Only long flags until another dash is typed; incomplete values get no space after them.
    argcomplete.autocomplete(parser, always_complete_options="long", append_space=False)


def _assignments(prefix: str, **_: Any) -> list[str]:
    """`key=value` for keys of few values, else `key=`."""
    values = dict(_keys(json.loads(SCHEMA.read_text())))
    key, equals, _value = prefix.partition("=")
    if equals:
        return [f"{key}={value}" for value in values.get(key, [])]
    return [f"{name}=" for name in values]


def _keys(schema: PlainValues) -> Iterator[tuple[str, list[str]]]:
    """Dotted keys and, where there are only a few, their values."""
    waiting = [("", schema)]
    while waiting:
        prefix, model = waiting.pop()
        for name, part in model.get("properties", {}).items():
            if "$ref" in part:
                waiting.append((f"{prefix}{name}.", schema["$defs"][part["$ref"].rpartition("/")[2]]))
            elif "properties" in part:
                waiting.append((f"{prefix}{name}.", part))
            else:
                yield prefix + name, _few_values(part)


def _few_values(part: PlainValues) -> list[str]:
    if part.get("type") == "boolean":
        return ["true", "false"]
    return [
        *map(str, part.get("enum", [])),
        *(value for option in part.get("anyOf", []) for value in _few_values(option)),
    ]
