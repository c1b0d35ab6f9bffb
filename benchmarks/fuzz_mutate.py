"""Damage done to inputs of ``fuzz``: every mutation follows from the random numbers it is given."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000)
_BOXES = (
    b"moov", b"mvhd", b"tkhd", b"mdhd", b"stsd", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"co64",
    b"avcC", b"hvcC", b"elst", b"udta", b"meta", b"ilst", b"trun", b"tfhd", b"mdat", b"ftyp", b"hdlr",
    b"\x1a\x45\xdf\xa3", b"\x16\x54\xae\x6b", b"\x15\x49\xa9\x66", b"\x1f\x43\xb6\x75", b"\x19\x41\xa4\x69",
    b"RIFF", b"strh", b"strf", b"idx1", b"OggS", b"fmt ", b"data", b"\x47\x40",
)  # fmt: skip
_NUMBERS = (
    b"0", b"-1", b"1e999", b"-1e999", b"NaN", b"Infinity", b"99999999999999999999", b"1e308", b"0.0000001",
    b"9" * 5_000, b"null", b'""', b"[]", b"{}", b"true",
)  # fmt: skip
_TEXTS = (
    b"\x1b[31m", b"\x1b]8;;http://x\x07", b"\xe2\x80\xae", b"\x9b2J", b"[red]", b"[/]", b"\0", b"\r", b"\n\n",
    b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"=cmd|' /C calc'!A0", b"--> ",
    b"00:00:00,000 --> 99:59:59,999\n", b"WEBVTT\n\n", b"{\\p1}m 0 0 l 1 1{\\p0}", b"Dialogue: 0,",
    b"Format: Start, End, Text\n", b"<c.x><00:00:01.000>", b"&lt;", b"&#x1F;", b"<v " + b"a" * 3_000 + b">",
    b'{"segments": ', b'"words": ', b"../../../etc/passwd", b"%n%s%s", b"' OR 1=1 --", b"\xf0\x9f\x92\xa9",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, "", -1, 0, 10**400, 1e308, -1e308, float("nan"), float("inf"), 2**63, -(2**63), 0.1, [], {},
    "\ud800", "\0", "x" * 5_000, "\x1b[2J", "=1", [[[]]], {"": None}, "NaN", "00:00:01.000", ["a", 1, None],
)  # fmt: skip


def mutate(data: bytes, others: Sequence[bytes], rng: Random, text: bool) -> bytes:
    """``data`` after one to six mutations. ``others`` are spliced in; ``text`` adds what damages words and
    numbers in place of headers."""
    kinds = _COMMON + (_TEXTUAL if text else _BINARY)
    for _ in range(1 + min(5, int(rng.expovariate(0.7)))):
        if rng.random() < 0.08 and others:
            data = _splice(data, rng.choice(others), rng)
        else:
            data = rng.choice(kinds)(data, rng)
    return data


def _flip(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(1 << rng.randrange(6)):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _set(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        if out:
            out[rng.randrange(len(out))] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    return bytes(out)


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _drop(data: bytes, rng: Random) -> bytes:
    first, last = _span(data, rng)
    return data[:first] + data[last:]


def _repeat(data: bytes, rng: Random) -> bytes:
    first, last = _span(data, rng)
    times = rng.choice((1, 2, 8, 64))
    return data[:last] + data[first:last] * min(times, 1 + 200_000 // max(1, last - first))


def _swap(data: bytes, rng: Random) -> bytes:
    first, last = _span(data, rng)
    middle = (first + last) // 2
    return data[:first] + data[middle:last] + data[first:middle] + data[last:]


def _insert(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(1 << rng.randrange(9)) + data[at:]


def _splice(data: bytes, other: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _header_number(data: bytes, rng: Random) -> bytes:
    """An edge value where a header keeps its numbers: behind a known mark, else early in the file."""
    found = [at for mark in _BOXES if (at := data.find(mark, rng.randrange(len(data) + 1))) >= 0]
    at = rng.choice(found) + rng.randrange(-4, 64) if found else rng.randrange(1 + len(data) // 8)
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice((*_EDGES, rng.getrandbits(32))) & ((1 << (8 * size)) - 1)
    order = "little" if rng.random() < 0.4 else "big"
    at = max(0, at)
    return data[:at] + value.to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def _mark(data: bytes, rng: Random) -> bytes:
    """Turn one known mark into another."""
    found = [(at, mark) for mark in _BOXES if (at := data.find(mark)) >= 0]
    if not found:
        return _flip(data, rng)
    at, old = rng.choice(found)
    return data[:at] + rng.choice(_BOXES) + data[at + len(old) :]


def _number(data: bytes, rng: Random) -> bytes:
    """Another number in place of one of the text's."""
    found = list(re.finditer(rb"\d+(?:\.\d+)?", data[:100_000]))
    if not found:
        return _word(data, rng)
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(_NUMBERS) + data[one.end() :]


def _word(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_TEXTS) + data[at:]


def _lines(data: bytes, rng: Random) -> bytes:
    """Lines said again and again, or in another order."""
    lines = data.split(b"\n")
    first = rng.randrange(len(lines))
    part = lines[first : first + rng.randrange(1, 8)]
    if rng.random() < 0.3:
        rng.shuffle(lines)
        return b"\n".join(lines)
    times = rng.choice((1, 10, 300, 3_000))
    return b"\n".join(lines[:first] + part * min(times, 1 + 60_000 // (1 + len(b"".join(part)))))


def _nest(data: bytes, rng: Random) -> bytes:
    """Brackets in brackets."""
    at, depth = rng.randrange(len(data) + 1), rng.choice((3, 100, 5_000, 60_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"{", b"}"), (b"<b>", b"")))
    return (
        data[:at] + opening * depth + (closing * depth if rng.random() < 0.5 else b"") + data[at:]
    )


def _structure(data: bytes, rng: Random) -> bytes:
    """JSON whose form holds, with a value replaced, moved or said again."""
    try:
        whole: Any = [json.loads(data)]
    except (ValueError, RecursionError):
        return _number(data, rng)
    holder: Any = whole
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            break
        key = rng.choice(keys)
        if not isinstance(holder[key], dict | list) or (holder is not whole and rng.random() < 0.3):
            holder[key] = rng.choice((*_VALUES, [holder[key]] * 50, {"start": holder[key]}))
            break
        holder = holder[key]
    return json.dumps(whole[0], ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _recode(data: bytes, rng: Random) -> bytes:
    encoding = rng.choice(("utf-16", "utf-16-be", "utf-32", "cp1252", "utf-7"))
    return data.decode("utf-8", "replace").encode(encoding, "replace")


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    first = rng.randrange(len(data) + 1)
    return first, min(len(data), first + rng.randrange(1 << rng.randrange(1, 13)))


_COMMON: tuple[Mutation, ...] = (_flip, _set, _cut, _drop, _repeat, _swap, _insert)
_BINARY: tuple[Mutation, ...] = (_header_number, _header_number, _header_number, _mark, _flip)
_TEXTUAL: tuple[Mutation, ...] = (
    *(_structure, _structure, _structure, _structure, _number, _number),
    *(_word, _word, _lines, _nest, _recode),
)
