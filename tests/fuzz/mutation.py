"""Hostile inputs from good ones: bytes, fields, lines and trees are changed, by a seeded draw."""

import gzip
import json
import random
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import yaml

_NUMBERS = (
    b"0", b"-1", b"-0", b"1", b"2147483648", b"4294967296", b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775809", b"1" * 25, b"9" * 5000, b"1e5", b"1e308",
    b"1e400", b"-1e400", b"nan", b"NaN", b"inf", b"-inf", b"1.5", b".", b"", b"0x10", b"1_000",
    b" 7", b"007", b"+3", "\u00b2".encode(), "\u0663\u0664".encode(), "\uff11".encode(),
    "\u2460".encode(), b"1,000", b"None", b"true",
)  # fmt: skip
_PIECES = (
    b"\x00", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\r\n", b"\n", b"\t", b"\t\t", b" ", b",", b";",
    b'"', b"'", b"\\", b"%", b"%zz", b"{", b"}", b"[", b"]", b"<", b">", b"#", b"##", b"*", b"&a",
    b"*a", b"!!python/object/apply:os.system [id]", b"!!binary x", b"!!timestamp x", b"<<: *a",
    b"? ", b"---\n", b"...\n", b"\xed\xa0\x80", b"\xc3", "\u2028".encode(), "\u0085".encode(),
    "\U0001f9ec".encode(), b"\x0b", b"\x0c", b"\x1c", b"../../x", b"/etc/passwd", b"~",
    b"2024-99-99", b"1:99:99", b"A" * 3000, b"\t" * 300, b"(" * 60, b"[" * 60, b"{" * 60,
    b"not " * 60, b"a: " * 60, b"- " * 60, b"\xf4\x90\x80\x80", b"track", b"browser", b"NA", b".",
    b"-", b"null",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 10**9, 2**31, 2**63, -(2**63) - 1, 10**30, 1e308,
    float("nan"), float("inf"), "", " ", "x", "\x00", "..", "../x", "/etc/passwd", "\u00b2", "1e5",
    "nan", "A" * 3000, "\ud83e", [], {}, [[]], [None], [0], {"": None}, {"x": {}}, [1] * 500,
)  # fmt: skip
_LONGEST = 1 << 16  # of an input; beyond it mutation would only grow it

_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def mutated(seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random) -> bytes:
    """One of the seeds after one to six changes."""
    data = draw.choice(seeds)
    tree = _tree(data)
    if tree is not None and draw.random() < 0.6:
        data = _changed_tree(tree, draw)
        if draw.random() < 0.7:
            return data
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 6))):
        change = draw.choice(_CHANGES)
        data = change(data, seeds, words, draw)[:_LONGEST]
    if draw.random() < 0.02:
        data = gzip.compress(data, 1, mtime=0)
        if draw.random() < 0.5:
            data = data[: draw.randrange(len(data))]
    return data


Change = Callable[[bytes, Sequence[bytes], Sequence[bytes], random.Random], bytes]


def _span(data: bytes, draw: random.Random) -> tuple[int, int]:
    begin = draw.randrange(len(data) + 1)
    return begin, min(len(data), begin + int(draw.expovariate(1 / 12)) + 1)


def _flip(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    if not data:
        return b"\x00"
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def _byte(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]


def _delete(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    begin, end = _span(data, draw)
    return data[:begin] + data[end:]


def _repeat(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    begin, end = _span(data, draw)
    return data[:end] + data[begin:end] * draw.choice((1, 2, 200)) + data[end:]


def _insert(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    place = draw.choice((0, len(data), draw.randrange(len(data) + 1)))
    piece = draw.choice(words) if words and draw.random() < 0.6 else draw.choice(_PIECES)
    return data[:place] + piece + data[place:]


def _number(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return _insert(data, seeds, words, draw)
    one = draw.choice(found)
    return data[: one.start()] + draw.choice(_NUMBERS) + data[one.end() :]


def _splice(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    other = draw.choice(seeds)
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def _line(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    """A line is left out, said twice, moved, emptied, or cut short."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    match draw.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            lines.insert(draw.randrange(len(lines)), lines.pop(at))
        case 3:
            lines[at] = b""
        case _:
            lines[at] = lines[at][: draw.randrange(len(lines[at]) + 1)]
    return b"\n".join(lines)


def _cell(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    """A field of a line becomes something else."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    separator = next((mark for mark in (b"\t", b",", b" ", b"=") if mark in lines[at]), b"\t")
    cells = lines[at].split(separator)
    place = draw.randrange(len(cells))
    match draw.randrange(6):
        case 0:
            cells[place] = draw.choice(_NUMBERS)
        case 1:
            cells[place] = draw.choice(_PIECES)
        case 2:
            del cells[place]
        case 3:
            cells.insert(place, draw.choice(cells))
        case 4:
            cells[place] = draw.choice(words) if words else b""
        case _:
            other = draw.randrange(len(cells))
            cells[place], cells[other] = cells[other], cells[place]
    lines[at] = separator.join(cells)
    return b"\n".join(lines)


def _spelling(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random
) -> bytes:
    """Another line end, encoding or separator throughout."""
    match draw.randrange(7):
        case 0:
            return data.replace(b"\n", b"\r\n")
        case 1:
            return data.replace(b"\n", b"\r")
        case 2:
            return data.decode(errors="replace").encode("utf-16")
        case 3:
            return b"\xef\xbb\xbf" + data
        case 4:
            return data.replace(b"\t", b" ")
        case 5:
            return data.replace(b"\t", b",")
        case _:
            return data[: draw.randrange(len(data) + 1)]


_CHANGES: tuple[Change, ...] = (
    _flip, _byte, _delete, _repeat, _insert, _number, _number, _splice, _line, _cell, _cell,
    _spelling,
)  # fmt: skip


@lru_cache(1024)
def _tree(data: bytes) -> Any:
    """What JSON or YAML of nested keys says, as JSON again, whose copies are changed; or None."""
    if b"&" in data:  # written out, some aliases would not end
        return None
    try:
        found = json.loads(data) if data[:1] == b"{" else yaml.safe_load(data)
        return json.dumps(found) if isinstance(found, dict) else None
    except Exception:  # PyYAML raises what it likes
        return None


def _changed_tree(text: str, draw: random.Random) -> bytes:
    tree = json.loads(text)
    for _ in range(draw.choice((1, 1, 2, 3))):
        holder = tree
        while True:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            if not keys:
                break
            key = draw.choice(keys)
            if isinstance(holder[key], dict | list) and holder[key] and draw.random() < 0.85:
                holder = holder[key]
                continue
            _change_at(holder, key, draw)
            break
    try:
        return json.dumps(tree).encode()[: 4 * _LONGEST]
    except (ValueError, RecursionError):  # within itself, or too deep
        return text.encode()


def _change_at(holder: Any, key: Any, draw: random.Random) -> None:
    match draw.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[draw.choice((f"{key}s", "", "x", "\x00"))] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[key] = holder[draw.choice(list(holder))]
        case 3:
            for _ in range(draw.choice((1, 3, 80))):
                holder[key] = [holder[key]] if draw.random() < 0.9 else {"x": holder[key]}
        case 4 if isinstance(holder[key], int | float):
            holder[key] = draw.choice((-holder[key], holder[key] + 1, holder[key] * 10**9, 0))
        case _:
            holder[key] = draw.choice(_VALUES)
