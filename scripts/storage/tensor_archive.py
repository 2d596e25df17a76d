"""Check that an archive has exactly the layout of torch.save, before PyTorch reads it.

Zip readers disagree about a file with two directories, and a compressed entry can have any size once unpacked. A
pickle that runs no code can still allocate any amount of memory. So the entries must be contiguous and uncompressed,
followed by the directory, and the pickle may only contain the types of Hyper's own states.
"""

from __future__ import annotations

import pickletools
import re
import struct
from collections.abc import Iterator

MAX_PICKLE_BYTES = 64 * 2**20  # everything except tensors: names, settings, learning curves
_END, _END64, _LOCATOR = struct.Struct("<4s4H2IH"), struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")
_CENTRAL, _LOCAL = struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s5H3I2H")
_WHOLE_32 = 0xFFFFFFFF  # the value is in the extra field, in 64 bits
_DESCRIPTOR = 24  # maximum bytes between two entries
_NAMES = re.compile(rb"archive/(data\.pkl|byteorder|version|data/\d+|\.\w+|\.data/\w+)")
_GLOBALS = re.compile(
    r"torch\._utils _rebuild_(tensor_v2|parameter)|collections OrderedDict|(builtins|__builtin__) (set|complex)|"
    r"torch (\w+Storage|Size|device|bool|bfloat16|(u?int|float|complex)\d+)|torch\.storage UntypedStorage"
)
# Each creates a container or a memo entry, of some hundred bytes, from one or two bytes of the file.
_MAKERS = {"MARK", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_MAKER_BYTES, _ALWAYS_FINE = 128, 2**29
_REFUSED = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER"}


def check_archive(content: bytes, comment_length: int) -> None:
    """Raise ValueError unless `content` has the layout of torch.save, with a comment of `comment_length` bytes."""
    try:
        pickle = _check_layout(memoryview(content), comment_length)
    except struct.error as error:
        raise ValueError(f"its archive is truncated ({error})") from error
    _check_pickle(bytes(pickle), len(content))


def _check_layout(content: memoryview, comment_length: int) -> memoryview:
    """Return the pickle of an archive whose entries are stored contiguously, each once."""
    end = len(content) - comment_length - _END.size
    end64 = end - _LOCATOR.size - _END64.size
    if end64 < 0:
        raise ValueError("its archive is too short")
    marker, *_, n_32, size_32, start_32, comment = _END.unpack_from(content, end)
    marker_64, _, _, _, _, _, _, n_entries, size, start = _END64.unpack_from(content, end64)
    locator, _, end64_found, _ = _LOCATOR.unpack_from(content, end64 + _END64.size)
    markers = (marker, marker_64, locator) == (b"PK\5\6", b"PK\6\6", b"PK\6\7")
    short = (min(n_entries, 0xFFFF), min(size, _WHOLE_32), min(start, _WHOLE_32))
    if not markers or comment != comment_length or end64_found != end64 or (n_32, size_32, start_32) != short:
        raise ValueError("its archive does not end like one of torch.save")
    if start + size != end64:
        raise ValueError("its archive has more than one directory, or a gap")
    pickle, names, expected = None, set[bytes](), 0
    for name, offset, n_bytes in _entries(content, start, end64, n_entries):
        if not expected <= offset <= expected + _DESCRIPTOR or name in names or not _NAMES.fullmatch(name):
            raise ValueError("its archive has entries that torch.save does not write")
        names.add(name)
        first = _data_start(content, offset, name)
        expected = first + n_bytes
        if name == b"archive/data.pkl":
            pickle = content[first:expected]
    if pickle is None or not expected <= start <= expected + _DESCRIPTOR:
        raise ValueError("its archive has a gap, or is empty")
    return pickle


def _entries(content: memoryview, start: int, end: int, n_entries: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, header offset and size of every entry, from the directory between `start` and `end`."""
    at = start
    for _ in range(n_entries):
        fields = _CENTRAL.unpack_from(content, at)
        marker, flags, method = fields[0], fields[3], fields[4]
        packed, n_bytes, lengths, offset = *fields[8:10], fields[10:13], fields[-1]
        extra_at = at + _CENTRAL.size + lengths[0]
        at = extra_at + lengths[1] + lengths[2]
        if marker != b"PK\1\2" or at > end:
            raise ValueError("the directory of its archive is damaged")
        sizes = _wide([n_bytes, packed, offset], bytes(content[extra_at : extra_at + lengths[1]]))
        if method != 0 or sizes[0] != sizes[1] or flags & 1:
            raise ValueError("its archive would unpack to more than its size")
        yield bytes(content[extra_at - lengths[0] : extra_at]), sizes[2], sizes[0]
    if at != end:
        raise ValueError("the directory of its archive has a gap")


def _wide(values: list[int], extra: bytes) -> list[int]:
    """Return sizes and offset, with 64-bit values from the extra field."""
    if _WHOLE_32 not in values:
        return values
    if extra[:2] != b"\1\0":
        raise ValueError("the directory of its archive is damaged")
    wide = iter(struct.unpack_from(f"<{values.count(_WHOLE_32)}Q", extra, 4))
    return [next(wide) if value == _WHOLE_32 else value for value in values]


def _data_start(content: memoryview, offset: int, name: bytes) -> int:
    """Return the offset of the data of the entry whose header is at `offset`."""
    marker, *_, n_name, n_extra = _LOCAL.unpack_from(content, offset)
    at = offset + _LOCAL.size
    if marker != b"PK\3\4" or bytes(content[at : at + n_name]) != name:
        raise ValueError("an entry of its archive is not at the position in its directory")
    return at + n_name + n_extra


def _check_pickle(pickle: bytes, n_bytes: int) -> None:
    """Raise ValueError if a pickle contains other types than Hyper's states, or expands excessively."""
    if len(pickle) > MAX_PICKLE_BYTES:
        raise ValueError(f"its content without tensors is larger than {MAX_PICKLE_BYTES} bytes")
    max_objects, made = max(_ALWAYS_FINE, 10 * n_bytes) // _MAKER_BYTES, 0
    for operation, argument, _ in pickletools.genops(pickle):
        if operation.name in _REFUSED or (operation.name == "GLOBAL" and not _GLOBALS.fullmatch(str(argument))):
            raise ValueError(f"it names {str(argument)[:80]!r}, which Hyper's states do not contain")
        made += operation.name in _MAKERS
        if made > max_objects:
            raise ValueError("it would take far more memory than its size")
