"""Messages between the engine and its workers: a JSON object and some runs of bytes.

Nothing here can name code: no pickle, no class names. A message is ``size of the JSON`` (4 bytes,
little endian), the JSON, then the bytes that its ``blobs`` entry, a list of sizes, announces.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_JSON_BYTES = 64 << 20
MAX_BLOB_BYTES = 256 << 20
"""All blobs of one message together: the keyframes of one passage."""
MAX_BLOBS = 10_000
_SIZE = struct.Struct("<I")


class WireError(Exception):
    """Bytes that are no message."""


@dataclass(frozen=True, slots=True)
class Message:
    """``kind`` says what it is about, ``body`` is plain JSON data."""

    kind: str
    body: dict[str, Any]
    blobs: tuple[bytes, ...] = ()


def encode(kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """A message as pieces to be written one after the other.

    Raises:
        WireError: larger than the other side takes.
    """
    envelope = {"kind": kind, "body": body, "blobs": [len(blob) for blob in blobs]}
    text = json.dumps(envelope, allow_nan=False, ensure_ascii=False)
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_JSON_BYTES or sum(map(len, blobs)) > MAX_BLOB_BYTES:
        raise WireError(f"a message of {len(data)} bytes and {len(blobs)} blobs is too large")
    return [_SIZE.pack(len(data)), data, *blobs]


def write(handle: int, pieces: Sequence[bytes]) -> None:
    """Write all of a message to a file descriptor.

    Raises:
        OSError: nobody reads it any more.
    """
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[os.write(handle, left) :]


def read(take: Callable[[int], bytes]) -> Message:
    """The next message. ``take`` gives exactly so many bytes; what it raises is passed on.

    Raises:
        WireError: not of the form of a message, or larger than allowed.
    """
    (size,) = _SIZE.unpack(take(_SIZE.size))
    if size > MAX_JSON_BYTES:
        raise WireError(f"a message of {size} bytes, expected at most {MAX_JSON_BYTES}")
    try:
        envelope = json.loads(take(size).decode("utf-8", "surrogatepass"), parse_constant=_refuse)
        kind, body, sizes = (envelope[name] for name in ("kind", "body", "blobs"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"no message: {type(error).__name__}") from error
    fits = isinstance(kind, str) and isinstance(body, dict) and isinstance(sizes, list)
    if not fits or len(sizes) > MAX_BLOBS:
        raise WireError("a message of another form")
    if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) > MAX_BLOB_BYTES:
        raise WireError("blobs of sizes that cannot be")
    return Message(kind, body, tuple(take(size) for size in sizes))


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
