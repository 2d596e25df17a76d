"""Count of openings of the sealed test set, from a ledger in the run directory and one of this user.

A second opening of the same rows is a second chance, from any directory. Every opening has an id and is
written to both ledgers before anything is seen. The count is the union of both. So a moved or copied run counts no
opening twice, and a lost ledger is restored from the other one.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from scripts.data.row_sketch import share_rows
from scripts.evaluation.user_ledger import MAX_BYTES, NAME, Entry, UserLedger, damage, parsed
from scripts.storage.durable_files import append_line, read_regular
from scripts.storage.printable import listed
from scripts.storage.run_dir import RunDir


@dataclass(frozen=True)
class Look:
    """A model on sealed rows.

    Attributes
    ----------
    data : str
        "sealed", or the SHA-256 of another file with sealed rows.
    sealed_fingerprint, sealed_sketch : str
        Of the sealed rows, as in `Dataset`.
    run : str
        Run directory or URL, as shown to other runs.
    shared : bool
        Whether other runs count it. A placebo's labels are permuted, so that it does not see those of the sealed rows.
    """

    model_sha256: str
    data: str
    sealed_fingerprint: str
    sealed_sketch: str
    run: str
    shared: bool = True

    @property
    def fields(self) -> dict[str, str]:
        """Model and rows, as they are recorded."""
        return {"model_sha256": self.model_sha256, "data": self.data, "sealed_fingerprint": self.sealed_fingerprint}

    def is_of(self, entry: Entry) -> bool:
        """True if an entry is about the same model on the same rows; earlier versions recorded no fingerprint."""
        return all(getattr(entry, name) in ("", value) for name, value in self.fields.items())

    def may_share_rows(self, entry: Entry) -> bool:
        """Return True if an entry is about some of the same sealed rows."""
        return entry.sealed_fingerprint == self.sealed_fingerprint or share_rows(entry.rows, self.sealed_sketch)


@dataclass(frozen=True)
class Openings:
    """Openings of some sealed rows so far.

    Attributes
    ----------
    id : str
        Of the opening that the evaluation in progress belongs to; empty if it opens nothing.
    by_others : tuple of str
        Names of the other runs, one for each of their openings.
    on_parts : int
        Number of openings that saw only a part of these rows, or more than these.
    warnings : tuple of str
        Why the count may be too low.
    """

    number: int
    id: str = ""
    by_others: tuple[str, ...] = ()
    on_parts: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The count as it is reported."""
        text = "once" if self.number == 1 else f"{self.number} times"
        if self.by_others:
            names = [name if n == 1 else f"{name} ({n})" for name, n in Counter(self.by_others).items()]
            text += f", {len(self.by_others)} of them by other runs: {listed(names)}"
        return text + (f"; {self.on_parts} of them on overlapping rows" if self.on_parts else "")


def n_openings(run_dir: RunDir) -> int:
    """Number of openings in the ledger of a run, inherited ones included."""
    return len(openings_of(run_dir))


def n_inherited(run_dir: RunDir) -> int:
    """Number of openings in the ledger of a run that happened in other runs."""
    return sum(entry.inherited_from != "" for entry in openings_of(run_dir))


def openings_of(run_dir: RunDir) -> list[Entry]:
    """Openings in the ledger of a run."""
    return [entry for entry in _read(run_dir.openings)[0] if entry.is_opening]


def not_in(run_dir: RunDir, entries: list[Entry]) -> list[Entry]:
    """Return the openings that the ledger of a run lacks."""
    known = {entry.identity for entry in openings_of(run_dir)}
    return [entry for entry in entries if entry.identity not in known]


def inherit(run_dir: RunDir, entries: list[Entry], source: str) -> None:
    """Add openings of another run; one that it has inherited itself keeps the name of where it happened."""
    for entry in entries:
        _append(run_dir.openings, entry if entry.inherited_from else _from(entry, source))


def known_openings(run_dir: RunDir, look: Look) -> Openings:
    """Count the openings of these rows without adding one."""
    local, damaged = _read(run_dir.openings)
    with UserLedger.held() as shared:
        found = _merged(look, local, shared.entries) if look.shared else []
    return _counted([*local, *found], "", damaged, look, shared.warnings)


def count_opening(run_dir: RunDir, look: Look, again: bool) -> Openings:
    """Record an opening in both ledgers, unless this look is recorded already, and count all of these rows.

    The same model on the same rows gives the same result, so that making it again is not a further look: neither to
    replace lost files nor to resume an evaluation that was interrupted.

    Parameters
    ----------
    again : bool
        The user asks for a further look (--fresh): it counts once the last one has a result.

    Raises
    ------
    InputError
        The ledger of the run is not a regular file.
    EnvironmentFailed
        The run directory cannot be written. A user's ledger that cannot be used is a warning.
    """
    local, damaged = _read(run_dir.openings)
    if not look.shared:
        opened, new = _opening(look, local, again)
        for entry in new:
            _append(run_dir.openings, entry)
        return _counted([*local, *new], opened, damaged, look)
    with UserLedger.held() as shared:
        merged = _merged(look, local, shared.entries)
        opened, new = _opening(look, [*local, *merged], again)
        there = {entry.key for entry in shared.entries}
        shared.add([_as_shared(entry, look) for entry in (*local, *new) if entry.key not in there])
        for entry in (*merged, *new):
            _append(run_dir.openings, entry)
    return _counted([*local, *merged, *new], opened, damaged, look, shared.warnings)


def record_result(run_dir: RunDir, look: Look, opened: str, figures: Mapping[str, object]) -> None:
    """Record the result of an opening in both ledgers, once."""
    entry = _stamped("result", opened, look, figures)
    if not _has_result(_read(run_dir.openings)[0], opened):
        _append(run_dir.openings, entry)
    if look.shared:
        with UserLedger.held() as shared:
            shared.add([] if _has_result(shared.entries, opened) else [_as_shared(entry, look)])


def _has_result(entries: list[Entry], opened: str) -> bool:
    return ("result", opened) in {entry.key for entry in entries}


def _opening(look: Look, entries: list[Entry], again: bool) -> tuple[str, list[Entry]]:
    """Id of the opening that this look belongs to, and the entry to be recorded if it is a new one."""
    last, finished = "", False
    for entry in filter(look.is_of, entries):
        if entry.is_opening:
            last, finished = entry.identity, False
        elif entry.id in ("", last):
            finished = True
    if last and not (again and finished):
        return last, []
    new = _stamped("opening", secrets.token_hex(8), look, {"run": look.run, "rows": look.sealed_sketch})
    return new.id, [new]


def _stamped(event: str, identifier: str, look: Look, further: Mapping[str, object]) -> Entry:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Entry.model_validate({"time": now, "event": event, "id": identifier, **look.fields, **further})


def _from(entry: Entry, source: str) -> Entry:
    return entry.model_copy(update={"inherited_from": source})


def _merged(look: Look, local: list[Entry], shared: list[Entry]) -> list[Entry]:
    """Return entries about some of the same rows that only the user's ledger has, in the form of the run's ledger."""
    there = {entry.key for entry in local}
    found = [entry for entry in shared if entry.key not in there and look.may_share_rows(entry)]
    return [entry if entry.run == look.run else _from(entry, entry.run or "unknown") for entry in found]


def _as_shared(entry: Entry, look: Look) -> Entry:
    """An entry of the run's ledger for that of the user; earlier versions recorded neither run nor rows."""
    source = entry.inherited_from or look.run
    defaults = {"id": entry.identity, "sealed_fingerprint": look.sealed_fingerprint, "run": source}
    defaults |= {"rows": look.sealed_sketch} if entry.is_opening else {}
    body = defaults | entry.body()
    return Entry.model_validate({name: value for name, value in body.items() if name != "inherited_from"})


def _counted(entries: list[Entry], opened: str, damaged: int, look: Look, warnings: Sequence[str] = ()) -> Openings:
    openings = [entry for entry in entries if entry.is_opening]
    sources = [entry.inherited_from for entry in openings if entry.inherited_from]
    others = [PurePosixPath(source).name or source for source in sources]
    parts = sum(entry.sealed_fingerprint not in ("", look.sealed_fingerprint) for entry in openings)
    return Openings(len(openings), opened, tuple(others), parts, (*damage(damaged, NAME), *warnings))


def _read(path: Path) -> tuple[list[Entry], int]:
    """Entries of a ledger, and its number of damaged lines."""
    try:
        return parsed(read_regular(path, MAX_BYTES, "move it out of the way"))
    except FileNotFoundError:
        return [], 0


def _append(path: Path, entry: Entry) -> None:
    """Add a line; a line that a kill cut short does not swallow it."""
    content = read_regular(path, MAX_BYTES) if path.exists() else b""
    torn = content != b"" and not content.endswith(b"\n")
    append_line(path, ("\n" if torn else "") + entry.line())
