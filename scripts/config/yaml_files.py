"""Experiments from YAML files and `key=value` flags, with an error message for each mistake."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from scripts.config.experiment import Experiment
from scripts.config.search_space import Choices, FloatRange, Hyperparameters, IntRange, PlainValues, nearest_choice
from scripts.config.unused_keys import keys_without_effect
from scripts.config.yaml_text import Location, parse_yaml
from scripts.errors import InputError, nearest

MAX_YAML_BYTES = 2**17  # parsed in seconds; a config is some kilobytes
_TEXT_MARKS = "%@`"  # do not start YAML values, so that such a text is unambiguous


def load_experiment(
    path: Path | Sequence[Path] | None, assignments: Sequence[str], base: Experiment | None = None
) -> Experiment:
    """Experiment from a YAML file and assignments on the command line.

    Parameters
    ----------
    path : Path, sequence of Path or None
        YAML 1.2 files, of which later ones come first; a relative `data.path` in one counts from its folder.
    assignments : sequence of str
        `dotted.key=value`; values are YAML; a relative `data.path` counts from the current directory.
    base : Experiment or None
        Applies where file and assignments are silent: an earlier phase's config, else the defaults.
        It comes from an artifact, so that own models and execution in it count for nothing.

    Raises
    ------
    InputError
        Names file, line and key, with the nearest valid name for a mistyped one.
    """
    given, places = given_values(path, assignments)
    recorded = (base or Experiment()).recorded()  # an artifact never names code to import
    values = _merge(recorded if base else {"search_space": recorded["search_space"]}, given)
    source = str(next(iter(_files(path)), "command line"))
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as error:
        raise _explain(error, values, source, places) from error
    for key, reason in keys_without_effect(experiment, given):
        if key.startswith("data.") and not key.startswith("data.synthetic."):  # is meant to decide the result
            place = _place(tuple(key.split(".")), places) or source
            raise InputError(f"has no effect: {reason}", f"{place}, {key}", f"remove {key}")
    return experiment


def given_values(
    path: Path | Sequence[Path] | None, assignments: Sequence[str]
) -> tuple[PlainValues, dict[Location, str]]:
    """Return the values of YAML files and assignments, and the place of each key; arguments as `load_experiment`."""
    given: PlainValues = {}
    places: dict[Location, str] = {}
    for file in _files(path):
        own, lines = read_yaml(file)
        _resolve_data_path(own, file.resolve().parent)
        given = _merge(_of_other_source(given, own), own)
        places |= {at: f"{file} line {line}" for at, line in lines.items()}
    for assignment in assignments:
        assigned = parse_assignment(assignment)
        _resolve_data_path(assigned, Path.cwd())
        given = _merge(_of_other_source(given, assigned), assigned)
        places = {at: place for at, place in places.items() if not _is_within(at, assigned)}
        places[tuple(assignment.partition("=")[0].split("."))] = "command line"
    return given, places


def _files(path: Path | Sequence[Path] | None) -> Sequence[Path]:
    return () if path is None else (path,) if isinstance(path, Path) else path


def _of_other_source(earlier: PlainValues, later: PlainValues) -> PlainValues:
    """Return values without the synthetic market of an earlier file, if a later one names another source."""
    data, source = earlier.get("data"), later.get("data")
    if not isinstance(data, dict) or not isinstance(source, dict) or source.get("source") in (None, "synthetic"):
        return earlier
    return {**earlier, "data": {name: value for name, value in data.items() if name != "synthetic"}}


def _place(location: Location, places: dict[Location, str]) -> str | None:
    """Return where the innermost part of a location was given."""
    return next((places[location[:n]] for n in range(len(location), 0, -1) if location[:n] in places), None)


def _is_within(location: Location, assigned: Any) -> bool:
    """Return True if an assignment has replaced the value at `location` of the file."""
    for part in location:
        if not isinstance(assigned, dict):
            return True
        if part not in assigned:
            return False
        assigned = assigned[part]
    return not isinstance(assigned, dict)


def read_yaml(path: Path) -> tuple[PlainValues, dict[Location, int]]:
    """Plain mapping from a YAML 1.2 file, and the line of each key.

    Raises
    ------
    InputError
        The file is missing, too large, too deep, uses aliases or has a key twice.
    """
    if not path.is_file():
        raise InputError("file not found", str(path), "check --config")
    if path.stat().st_size > MAX_YAML_BYTES:
        raise InputError(f"is larger than {MAX_YAML_BYTES} bytes", str(path), "a config is a small file")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 at byte {error.start}", str(path), "save it as UTF-8") from error
    return parse_yaml(text, str(path))


def parse_assignment(assignment: str) -> PlainValues:
    """`a.b.c=value` as a nested mapping; the value is read as YAML."""
    key, equals, text = assignment.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"{assignment!r} is not an assignment", "--set", "example: --set tuning.sampler=gp")
    value = _assigned(text, f"--set {key}")
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _assigned(text: str, where: str) -> Any:
    """Return a value as YAML, or as plain text if it is not YAML, such as %d/%m/%Y, or a single mark."""
    if len(text) == 1 and not text.isalnum() and text != "~":
        return text
    try:
        return parse_yaml(f"value: {text}", where)[0]["value"]
    except InputError:
        if not text or text[0] not in _TEXT_MARKS or "\n" in text:
            raise
        return text


def _merge(base: PlainValues, over: PlainValues) -> PlainValues:
    """`over` on top of `base`; a search-space entry is replaced whole, since half a range has no meaning."""
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        keep_parts = isinstance(old, dict) and isinstance(value, dict) and "type" not in value
        merged[name] = _merge(old, value) if keep_parts and isinstance(old, dict) else value
    return merged


def _resolve_data_path(values: PlainValues, base: Path) -> None:
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str) and not data["path"].startswith("sklearn:"):
        data["path"] = str((base / Path(data["path"]).expanduser()).resolve())
        try:
            data["path"].encode("utf-8")
        except UnicodeEncodeError:  # artifacts record it
            raise InputError("is not a UTF-8 path", ascii(data["path"]), "rename the file or its folder") from None


def _explain(error: ValidationError, values: PlainValues, source: str, places: dict[Location, str]) -> InputError:
    """The first problem in full, the number of further ones."""
    problems = error.errors(include_url=False)
    first = problems[0]
    location = tuple(part for part in first["loc"] if _is_in(part, first["loc"], values))
    where = f"{_place(location, places) or source}, {'.'.join(map(str, location)) or 'config'}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return InputError("unknown key" + more, where, nearest(str(location[-1]), _siblings(location[:-1])))
    what = first["msg"].removeprefix("Value error, ").splitlines()
    detail = what[0] if len(what) == 1 else f"{what[0]}: {' '.join(what[1:3])}"
    given = first.get("input")
    shown = f", not {given!r:.80}" if isinstance(given, str | int | float | bool | None) else ""
    return InputError(f"{detail}{shown}{more}", where, nearest_choice(first) or _remedy(first))


def _remedy(problem: Any) -> str:
    if problem["type"] in ("tuple_type", "list_type") and isinstance(problem.get("input"), str | int | float):
        return f"write a list: [{', '.join(part.strip() for part in str(problem['input']).split(','))}]"
    return "correct the value"


def _is_in(part: str | int, location: Location, values: Any) -> bool:
    """Return True if `part` is a key of the user's values; pydantic also lists the tag of a union."""
    return part not in {"float", "int", "categorical", "fixed"} or location.count(part) > 1


def _siblings(location: Location) -> list[str]:
    """Valid keys of the mapping at `location`."""
    model: type[BaseModel] = Experiment
    for part in location:
        if part == "search_space":
            return sorted({*FloatRange.model_fields, *IntRange.model_fields, *Choices.model_fields})
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        options = [annotation, *typing.get_args(annotation)]
        models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not models:
            return list(Hyperparameters.model_fields)
        model = models[0]
    return list(model.model_fields)
