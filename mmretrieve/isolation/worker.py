"""The program that a worker process runs: reads the files it is told to, one after the other.

Its standard input brings requests, its standard output takes answers away; whatever a library
prints goes to standard error. It is bound before it sees the first byte of a file, and it ends at
once when the process that started it is gone.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmretrieve.config import Settings
from mmretrieve.errors import InputError, MmretrieveError, SetupError, UsageError
from mmretrieve.isolation import wire
from mmretrieve.isolation.limits import confine, memory_is_used_up

if TYPE_CHECKING:
    from mmretrieve.datatypes import Probe
    from mmretrieve.indexers.reading import FileReader
    from mmretrieve.indexers.visual import VisualPassage

_F_SETSIG = 10
"""fcntl of Linux: which signal tells that a pipe has changed."""


def main(lifeline: int) -> None:
    """Serve until the input ends. ``lifeline``: a pipe that nobody writes to; when its other end is
    closed, which a death of the starting process does too, this one is killed."""
    answers = os.dup(1)
    os.dup2(2, 1)
    _hang_on(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    first = wire.read(_take)
    settings = Settings.from_toml(first.body["settings"])
    confine(int(first.body["memory_mb"]))
    reader = _reader(settings)
    out = _Answers(answers)
    out.send("ready", {"pid": os.getpid()})
    while True:
        try:
            request = wire.read(_take)
        except EOFError:
            return
        _serve(reader, request, out)


def _take(n_bytes: int) -> bytes:
    """Exactly so many bytes of standard input.

    Raises:
        EOFError: it has ended.
    """
    parts, left = [], n_bytes
    while left:
        part = os.read(0, left)
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _hang_on(lifeline: int) -> None:
    """Have the kernel kill this process when the other end of a pipe is closed: that works even
    while a library holds the interpreter."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    if sys.platform.startswith("linux"):
        fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()


def _follow(lifeline: int) -> None:
    """The same by reading, for an end that came before the kernel was asked."""
    os.read(lifeline, 1)
    os._exit(1)


def _reader(settings: Settings) -> FileReader:
    """A reader with the slow imports behind it."""
    import mmretrieve.indexers.visual  # noqa: F401 - loads FFmpeg and OpenCV
    from mmretrieve.indexers.reading import FileReader

    return FileReader(settings)


_Answer = tuple[str, dict[str, Any], list[bytes]]
"""Kind, body, and runs of bytes."""


class _Answers:
    """Sends to whoever started this process; safe to share between threads."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()

    def send(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        pieces = wire.encode(kind, body, blobs)
        with self._lock:
            wire.write(self._handle, pieces)

    def probed(self, probe: Probe) -> None:
        from mmretrieve.isolation.records import plain_probe

        self.send("probe", plain_probe(probe))

    def seen(self, passage: VisualPassage) -> None:
        from mmretrieve.isolation.records import plain_passage

        self.send("passage", *plain_passage(passage))

    def warn(self, message: str) -> None:
        self.send("warning", {"text": message[:10_000]})


def _serve(reader: FileReader, request: wire.Message, out: _Answers) -> None:
    try:
        answer = _answer(reader, request, out)
        if memory_is_used_up():
            # What a library left out for want of memory looks like damage, or like nothing at all.
            answer = _NO_MEMORY
        out.send(*answer)
    except BrokenPipeError:
        raise SystemExit(1) from None


_NO_MEMORY: _Answer = ("failed", {"error": "MemoryError", "text": ""}, [])


def _answer(reader: FileReader, request: wire.Message, out: _Answers) -> _Answer:
    """What is to be said of a file in the end."""
    try:
        return _ANSWERS[request.kind](reader, request, out)
    except MemoryError:
        return _NO_MEMORY
    except (InputError, SetupError, UsageError) as error:
        return "failed", {"error": _known(error), "text": str(error)[:10_000]}, []
    except BrokenPipeError:
        raise
    except Exception as error:  # whatever a library raises about one file ends that file alone
        told = f"{type(error).__name__}: {error}"
        return "failed", {"error": "Exception", "text": told[:2_000]}, []


def _read(reader: FileReader, request: wire.Message, out: _Answers) -> _Answer:
    from mmretrieve.isolation.records import plain_reading, read_wanted

    path, wanted = Path(os.fsdecode(request.blobs[0])), read_wanted(request.body)
    return "reading", plain_reading(reader.read(path, out, wanted), wanted), []


def _hear(reader: FileReader, request: wire.Message, out: _Answers) -> _Answer:
    """Send the sound of each stretch that has some; a full pipe makes this wait, so that no more than one
    is under way."""
    from mmretrieve.indexers.hearing import hear
    from mmretrieve.isolation.sounds import plain_sound, read_spans

    path, spans = Path(os.fsdecode(request.blobs[0])), read_spans(request.body)
    for number, sound in enumerate(hear(path, spans, out.warn)):
        if sound is not None:
            out.send("sound", *plain_sound(number, sound))
    return "heard", {}, []


def _picture(_: FileReader, request: wire.Message, __: _Answers) -> _Answer:
    from mmretrieve.documents import Picture
    from mmretrieve.isolation.records import plain_picture

    pixels = Picture(Path(os.fsdecode(request.blobs[0]))).pixels()
    return "picture", *plain_picture(pixels)


_ANSWERS = {"read": _read, "hear": _hear, "picture": _picture}


def _known(error: MmretrieveError) -> str:
    """The name of an error by which the other side knows it."""
    return type(error).__name__
