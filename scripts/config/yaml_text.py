"""Conversion of YAML 1.2 text to plain values with the line of each key, and of plain values to YAML.

PyYAML reads YAML 1.1, where `1e-3` is text, `no` is false, `010` is 8 and the last of two equal keys wins. The loader
of this module resolves plain scalars by the core schema of YAML 1.2, and allows `_` between digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, SequenceNode

from scripts.config.search_space import PlainValues
from scripts.errors import InputError

MAX_YAML_DEPTH = 50
Location = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")
_CORE_SCHEMA = {  # in this order, because an integer also matches the pattern of float
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(?:[0-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)",
    "float": r"[-+]?(?:(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))"
    r"|\.(?:nan|NaN|NAN)",
}


def parse_yaml(text: str, where: str) -> tuple[PlainValues, dict[Location, int]]:
    """Return the mapping in `text`, and the line of each key and list item; `where` is the location for errors.

    Raises
    ------
    InputError
        The text is not YAML or not a mapping, is nested too deeply, uses an alias or has a duplicate key.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        values = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise InputError(str(error.problem or error.context), where + line, error.note or "correct the YAML") from error
    except yaml.YAMLError as error:
        raise InputError(str(error).splitlines()[0], where, "correct the YAML") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        raise InputError("is not a mapping of keys to values", where, "write key: value")
    lines: dict[Location, int] = {}
    _collect_lines(root, (), lines)
    return values, lines


def dump_yaml(values: PlainValues) -> str:
    """Return plain values as YAML 1.2."""
    text: str = yaml.dump(values, Dumper=_Dumper, default_flow_style=False, width=120, allow_unicode=True)
    return text


def inline_yaml(value: Any) -> str:
    """Return a plain value as YAML 1.2 on a single line, in the order of its keys."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").rstrip("\n")


def _collect_lines(node: Node, location: Location, lines: dict[Location, int]) -> None:
    if isinstance(node, MappingNode):
        parts = [(name.value, name, child) for name, child in node.value]
    elif isinstance(node, SequenceNode):
        parts = [(position, child, child) for position, child in enumerate(node.value)]
    else:
        return
    for part, marked, child in parts:
        lines[(*location, part)] = marked.start_mark.line + 1
        _collect_lines(child, (*location, part), lines)


class _Loader(yaml.SafeLoader):
    """Loader of small files: bounded depth, no aliases, no duplicate keys, only the types of JSON."""

    yaml_implicit_resolvers: dict[str | None, Any] = {}  # noqa: RUF012
    yaml_constructors: dict[str | None, Any] = {  # noqa: RUF012 - PyYAML's own way to declare them
        _TAG + "str": yaml.SafeLoader.construct_yaml_str,
        _TAG + "seq": yaml.SafeLoader.construct_yaml_seq,
        _TAG + "map": yaml.SafeLoader.construct_yaml_map,
        None: yaml.SafeLoader.construct_undefined,
    }
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Refuse aliases and deep nesting, which make a small text large or the stack deep."""
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise ComposerError(None, None, "uses an alias (*name)", mark, "write the value out")
        deeper = self.check_event(yaml.CollectionStartEvent)
        self.depth += deeper
        if self.depth > MAX_YAML_DEPTH:
            raise ComposerError(None, None, f"is nested deeper than {MAX_YAML_DEPTH} levels", mark, "a config is flat")
        node = super().compose_node(parent, index)
        self.depth -= deeper
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse duplicate keys."""
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            lines: dict[Any, int] = {}
            for name, _ in node.value:
                key, line = self.construct_object(name), name.start_mark.line + 1
                if key in lines:
                    problem = f'found duplicate key "{name.value}", first on line {lines[key]}'
                    raise ConstructorError(None, None, problem, name.start_mark)
                lines[key] = line
        return mapping


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes text which YAML 1.1 or 1.2 would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True, so that repeated values are written out."""
        return True

    def represent_str(self, data: str) -> Node:
        """Escape line breaks: PyYAML loses some of them between single quotes."""
        return self.represent_scalar(_TAG + "str", data, '"' if _LINE_BREAK.search(data) else None)


_Dumper.add_representer(str, _Dumper.represent_str)
for _name, _pattern in _CORE_SCHEMA.items():
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), None)


def _whole(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0 if digits.lstrip("+-")[:2] in ("0b", "0o", "0x") else 10)


def _real(text: str) -> float:
    return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


def _scalar(kind: str, convert: Callable[[str], Any]) -> None:
    def construct(loader: _Loader, node: Node) -> Any:
        text = loader.construct_scalar(node)
        try:
            return convert(text)
        except (ValueError, KeyError):
            given = repr(text) if len(text) < 100 else f"a number of {len(text)} characters"
            raise ConstructorError(None, None, f"{given} is not a valid {kind}", node.start_mark) from None

    _Loader.add_constructor(_TAG + kind, construct)


_scalar("null", lambda text: None)
_scalar("bool", lambda text: {"true": True, "false": False}[text.lower()])
_scalar("int", _whole)
_scalar("float", lambda text: _real(text.lower()))
