"""Text from videos is untrusted: nothing of it may steer a terminal or hide what is shown."""

from __future__ import annotations

import re
from pathlib import Path

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS
    r"|\x1b[ -/]*[0-~]"
)
_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_INVISIBLE = re.compile(f"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u2060\ufeff{_BIDI}]")
_SPACE = re.compile(r"\s+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSAFE_IN_JSON = re.compile(f"[\x7f-\x9f\u2028\u2029\ufeff{_BIDI}\ud800-\udfff]")


def clean(text: str) -> str:
    """One line that can be printed: without terminal sequences, control characters and characters
    that change the direction of writing; line breaks and runs of white space become one space."""
    visible = _INVISIBLE.sub("", _SEQUENCES.sub("", text))
    return _SURROGATE.sub("\ufffd", _SPACE.sub(" ", visible))


def escape_json(document: str) -> str:
    r"""JSON whose strings hold no character that steers a terminal: those become ``\\u`` escapes,
    which any reader turns back, so nothing is lost."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def shown_path(path: str) -> str:
    """A path as short as it can be: relative when it lies below the working directory."""
    try:
        return clean(str(Path(path).relative_to(Path.cwd())))
    except (OSError, ValueError):
        return clean(path)


def plural(count: int, noun: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(n_bytes: int) -> str:
    """A size for people, in powers of 1000."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
