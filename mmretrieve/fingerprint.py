"""What a file is, whatever it is called: the hash of its bytes."""

from __future__ import annotations

from pathlib import Path

from mmretrieve.errors import MediaError

_HEX_DIGITS = 32


def fingerprint(path: Path) -> str:
    """32 hex digits (128 bits) of the BLAKE3 hash of all bytes: the ``video_id``.

    Raises:
        MediaError: the file cannot be read.
    """
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO)
    try:
        hasher.update_mmap(path)
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror or error})") from error
    return hasher.hexdigest()[:_HEX_DIGITS]
