"""What a file is, whatever it is called: the hash of its bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmretrieve.errors import MediaError, StoppedError
from mmretrieve.regular import open_regular

_HEX_DIGITS = 32
_BLOCK_BYTES = 8 << 20


def fingerprint(path: Path, goes_on: Callable[[], bool] = lambda: True) -> str:
    """32 hex digits (128 bits) of the BLAKE3 hash of all bytes: the ``video_id``. A file may take long;
    ``goes_on`` is asked every few megabytes.

    Raises:
        MediaError: the file cannot be read.
        StoppedError: the work does not go on.
    """
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO)
    block = bytearray(_BLOCK_BYTES)
    try:
        # Read, not mapped: a file that is cut short meanwhile would end this process.
        with open_regular(path) as file:
            while n_bytes := file.readinto(block):
                if not goes_on():
                    raise StoppedError(f"{path} was not read to its end")
                hasher.update(memoryview(block)[:n_bytes])
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror or error})") from error
    return hasher.hexdigest()[:_HEX_DIGITS]
