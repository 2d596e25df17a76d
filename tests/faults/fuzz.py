"""Input that nobody would write: tables, configs, damaged artifacts and traps, each made from a seed."""

import gzip
import io
import os
import pickle
import random
import zipfile

import numpy as np
import torch

from scripts.config.experiment import Experiment
from scripts.config.yaml_text import dump_yaml
from scripts.storage.artifacts import pack_tensors

_CELLS = [
    b"", b"nan", b"inf", b"-inf", b"1e308", b"-1", b"0", b"1,5", b"$3", b"=1+1", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf",
    b'"', b"''", b"<script>", b"../x", b"9" * 400, b"2020-02-30", b"20200101", b"1577836800", b"2020-01-01T00:00+02:00",
    b"01/02/2020", b"NA", b"None", b"True", b"\n", b"\r\n", b";", b"\t", "ä".encode(), "ä".encode("latin-1"), b"1_000",
]  # fmt: skip


def table(seed):
    """Bytes of a market file with some accidents."""
    generator = random.Random(seed)
    lines = _market(generator)
    for _ in range(generator.choice((1, 1, 1, 2, 5))):
        lines = generator.choice(_TABLE_ACCIDENTS)(lines, generator)
    content = b"\n".join(lines)
    for _ in range(generator.choice((0, 0, 0, 1, 3))):
        content = damaged(content, generator)
    return gzip.compress(content) if generator.random() < 0.1 else content


def _market(generator):
    rng = np.random.default_rng(generator.randrange(2**32))
    lines = [b"date,ticker,open,high,low,close,volume"]
    for ticker in ("AAA", "BBB"):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 160)))
        for day, price in zip(np.arange("2020-01-01", "2020-06-09", dtype="datetime64[D]"), close, strict=True):
            low, high = price * 0.99, price * 1.01
            lines.append(f"{day},{ticker},{price:.4f},{high:.4f},{low:.4f},{price:.4f},{1000}".encode())
    return lines


def _change_cell(lines, generator):
    row = generator.randrange(len(lines)) if lines else 0
    cells = lines[row].split(b",") if lines else [b""]
    cells[generator.randrange(len(cells))] = generator.choice(_CELLS)
    return [*lines[:row], b",".join(cells), *lines[row + 1 :]]


def _change_column(lines, generator):
    column, cell = generator.randrange(7), generator.choice(_CELLS)
    return [b",".join(c if k != column or not row else cell for k, c in enumerate(line.split(b","))) for row, line in
            enumerate(lines)]  # fmt: skip


def _drop_column(lines, generator):
    column = generator.randrange(7)
    return [b",".join(c for k, c in enumerate(line.split(b",")) if k != column) for line in lines]


def _repeat_column(lines, generator):
    column, times = generator.randrange(3), generator.choice((1, 2, 3000))
    return [line + (b"," + (line.split(b",") + [b""] * 3)[column]) * times for line in lines[:50]]


def _delimiter(lines, generator):
    return [line.replace(b",", generator.choice((b";", b"\t", b"|", b" "))) for line in lines]


def _rows(lines, generator):
    if generator.random() < 0.2:
        return generator.choice((lines[1:], lines[:1], lines[::-1], []))
    first, last = sorted(generator.randrange(1, len(lines) + 1) for _ in range(2)) if len(lines) > 1 else (0, 0)
    return generator.choice((lines[:first] + lines[last:], lines + lines[first:last]))


def _shuffle(lines, generator):
    return lines[:1] + generator.sample(lines[1:], len(lines[1:]))


_TABLE_ACCIDENTS = (
    *(_change_cell, _change_cell, _change_cell, _change_column, _drop_column, _repeat_column, _delimiter),
    *(_rows, _shuffle),
)
_VALUES = [
    None, True, -1, 0, 1, 2**63, 1e308, float("nan"), float("inf"), "", "x", "../..", "<script>", "1e5", "no", [], [1],
    [[]], {}, {"a": 1}, {"type": "int", "low": 5, "high": 1}, {"type": "float", "low": -1, "high": 0, "log": True},
    {"type": "categorical", "choices": []}, "\x00", "os.system:echo", "ä" * 1000,
]  # fmt: skip


def config(seed):
    """Text of a config with some accidents."""
    generator = random.Random(seed)
    values = Experiment().recorded()
    for _ in range(generator.randrange(1, 5)):
        _change_value(values, generator)
    text = dump_yaml({k: v for k, v in values.items() if generator.random() < 0.7})
    lines = text.split("\n")
    for _ in range(generator.choice((0, 0, 1, 4))):
        row = generator.randrange(len(lines))
        lines[row] = generator.choice(
            (
                lines[row] * 2,
                " " + lines[row],
                "&a " + lines[row],
                "- " + lines[row],
                lines[row][::-1],
                "*a",
                "!!python/x",
            )
        )
    return "\n".join(lines)


def _change_value(values, generator):
    """Replace, add or remove a value somewhere."""
    while True:
        key = generator.choice(list(values))
        if isinstance(values[key], dict) and values[key] and generator.random() < 0.8:
            values = values[key]
            continue
        change = generator.randrange(4)
        if change == 0:
            values[generator.choice(("x", key + "s", "__class__", "seed"))] = generator.choice(_VALUES)
        elif change == 1 and len(values) > 1:
            del values[key]
        else:
            values[key] = generator.choice(_VALUES)
        return


def damaged(content, generator):
    """Content with a flipped bit, a piece lost, doubled or overwritten, or cut off; never the same as before."""
    if not content:
        return b"\x00"
    first, length = generator.randrange(len(content)), generator.choice((1, 2, 64, 4096))
    piece = content[first : first + length]
    flipped = bytes([content[first] ^ 1 << generator.randrange(8)])
    changed = generator.choice(
        (
            content[:first] + flipped + content[first + 1 :],
            content[:first] + content[first + length :],
            content[:first] + piece + content[first:],
            content[:first] + bytes(len(piece)) + content[first + length :],
            content[:first],
        )
    )
    return changed if changed != content else content + b"\x00"


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return (self.call, self.arguments)


def trap(seed, canary):
    """Bytes of a model file that makes the folder `canary` where it is unpickled, in one of many disguises."""
    generator = random.Random(seed)
    call = generator.choice(
        (
            Trap(os.mkdir, str(canary)),
            Trap(eval, f"__import__('os').mkdir({str(canary)!r})"),
            Trap(exec, f"import os; os.mkdir({str(canary)!r})"),
            Trap(os.system, f"mkdir {canary}"),
        )
    )
    content = {"schema_version": 2, "artifact": "final_model", "preprocessor": {"width": 8}, "members": [{}]}
    place = generator.choice(list(content))
    content[place] = generator.choice((call, [call], {"x": call}, (1, (call,)), {call: 1} if call.__hash__ else call))
    kind = generator.randrange(5)
    if kind == 0:
        return pickle.dumps(content, protocol=generator.randrange(2, 6))
    if kind == 1:
        return pack_tensors(content)  # whoever can write the file can also make its digest
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=kind != 2)
    if kind == 3:
        return buffer.getvalue()
    return _repacked(buffer.getvalue()) if kind == 4 else buffer.getvalue()


def _repacked(content):
    """The archive with its entries compressed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return packed.getvalue()
