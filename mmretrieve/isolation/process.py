"""One worker process as the engine sees it: started, asked, watched, and killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mmretrieve import errors
from mmretrieve.errors import (
    InputError,
    MemoryLimitError,
    MmretrieveError,
    SetupError,
    StoppedError,
    TimeLimitError,
    WorkerCrashError,
)
from mmretrieve.indexers.reading import EVERYTHING
from mmretrieve.isolation import records, sounds, wire
from mmretrieve.isolation.limits import peak_bytes, resident_bytes, time_limit_s

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmretrieve.config import Settings
    from mmretrieve.datatypes import Probe, Sound
    from mmretrieve.indexers.hearing import Span
    from mmretrieve.indexers.reading import Listener, Reading, Wanted
    from mmretrieve.indexers.warn import Warn

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    "from mmretrieve.isolation.worker import main; main(int(sys.argv[1]))"
)
_TICK_S = 0.25
_LONGEST_TICK_S = 1.0
"""A wait that seemed longer was a sleep of this process or the machine, in which a worker slept too."""
START_S = 120.0
"""Seconds that a worker may take until it can read; then another takes its place."""

_MIB = 1 << 20
_ROOM = 1.25
"""Resident memory may be so much of the bound: the system's own bound does not count mapped files."""
_RETRY = "the same command with --retry-failed tries it again"
_PASSED_ON = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MmretrieveError)
}


class Worker:
    """A process that reads files, one at a time."""

    def __init__(self, settings: Settings) -> None:
        """Starts the process and does not wait for it.

        Raises:
            SetupError: it cannot be started.
        """
        self._limits = settings.limits
        self._ready = False
        self._stopped = False
        self._buffer = bytearray()
        self._spent_s = 0.0
        self._reap = threading.Lock()
        self._talk: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        theirs, self._lifeline = os.pipe()
        try:
            self._process = _start(theirs, self._talk)
        except OSError as error:
            os.close(self._lifeline)
            self._talk.close()
            raise SetupError(
                f"no process can be started to read videos ({error}): free some memory, or allow "
                "more processes"
            ) from error
        finally:
            os.close(theirs)
        # Text form leaves out nothing, and what it names cannot run code.
        body = {"settings": settings.to_toml(), "memory_mb": settings.limits.memory_mb}
        self.n_files = 0
        with contextlib.suppress(OSError):  # a process that is gone is met when it is waited for
            self._write(wire.encode("settings", body))

    @property
    def pid(self) -> int:
        """Number of the process, which is also that of its group."""
        return self._process.pid

    def read(self, path: Path, listener: Listener, wanted: Wanted = EVERYTHING) -> Reading:
        """Have a file read. After any error but those of the file itself the worker is dead.

        Raises:
            InputError: what the worker found wrong with the file, or a bound was reached, or the
                worker died of it.
            SetupError: the worker lacks something.
            StoppedError: :meth:`kill` was called meanwhile.
        """
        with self._answering(path):
            self._ask("read", records.plain_wanted(wanted), path)
            return self._conversation(path, listener, wanted)

    def hear(
        self, path: Path, probe: Probe, spans: Sequence[Span], warn: Warn
    ) -> Iterator[Sound | None]:
        """Have the sound of stretches of a file read, one after the other as they are asked for. After
        any error, and where not all of them are, the worker is dead.

        Raises:
            InputError: a bound was reached, or the worker died of the file.
            StoppedError: :meth:`kill` was called meanwhile.
        """
        with self._answering(path):
            self._ask("hear", sounds.plain_spans(spans), path)
            yield from self._sounds(path, probe, spans, warn)

    def picture(self, path: Path) -> NDArray[np.uint8]:
        """Have a picture decoded: ``(height, width, 3)`` uint8 RGB as displayed.

        Raises:
            InputError: it cannot be read, a bound was reached, or the worker died of it.
            StoppedError: :meth:`kill` was called meanwhile.
        """
        with self._answering(path):
            self._ask("picture", {}, path)
            message = self._next(path, None)
            if message.kind == "picture":
                return records.read_picture(message.body, message.blobs)
            raise self._other(path, message)

    def _ask(self, kind: str, body: dict[str, Any], path: Path) -> None:
        self.await_ready()
        self.n_files += 1
        self._spent_s = 0.0
        with contextlib.suppress(OSError):
            self._write(wire.encode(kind, body, [os.fsencode(path)]))

    @contextlib.contextmanager
    def _answering(self, path: Path) -> Iterator[None]:
        """What to make of it when the worker does not answer as it should."""
        try:
            yield
        except EOFError:
            raise self._post_mortem(path) from None
        except (wire.WireError, records.MalformedError) as error:
            self.kill()
            raise WorkerCrashError(
                f"{path.name}: the process that read it sent what cannot be ({error}) and was "
                f"stopped; the file may be made to attack programs: do not open it; {_RETRY}"
            ) from error
        except (InputError, SetupError, errors.UsageError):
            raise
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End the process and all that it started, now. May be called from any thread."""
        self._stopped = True
        self._end()

    def close(self) -> None:
        """Kill it, and release what it held."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout, self._talk):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        with self._reap:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1

    def is_alive(self) -> bool:
        """Whether it can take another file."""
        return not self._stopped and self._process.poll() is None

    def was_killed(self) -> bool:
        """Whether a signal ended it."""
        return (self._process.poll() or 0) < 0

    def peak_bytes(self) -> int:
        """The most memory that it has taken; 0 if unknown or if it is gone."""
        return peak_bytes(self.pid) or 0

    def resident_bytes(self) -> int:
        """Memory that it takes now; 0 if unknown."""
        return resident_bytes(self.pid) or 0

    def _end(self) -> None:
        with self._reap:
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _write(self, pieces: list[bytes]) -> None:
        assert self._process.stdin is not None
        wire.write(self._process.stdin.fileno(), pieces)

    def await_ready(self) -> None:
        """Wait until it can read.

        Raises:
            SetupError: it does not start.
            StoppedError: :meth:`kill` was called meanwhile.
        """
        if self._ready:
            return
        try:
            message = wire.read(lambda n: self._take(n, START_S))
        except (EOFError, TimeLimitError, wire.WireError) as error:
            if self._stopped and isinstance(error, EOFError):
                raise StoppedError("the run was stopped") from None
            self._end()
            raise SetupError(
                f"the process that reads videos does not start: {self._last_words() or error}; "
                "`mmretrieve doctor` names what is missing, and [limits] memory_mb in the settings "
                "may be too small for the models"
            ) from error
        self._ready = message.kind == "ready"

    def _next(self, path: Path, probe: Probe | None) -> wire.Message:
        """The next message about a file, within its bounds."""
        limit_s = time_limit_s(self._limits, probe)
        try:
            return wire.read(lambda n: self._take(n, limit_s))
        except TimeLimitError:
            self._end()
            raise TimeLimitError(
                f"{path.name}: not read within {limit_s:.0f} s, and given up: the file may be "
                "damaged or made to keep programs busy; if it is sound, raise time_floor_s or "
                f"time_factor in [limits] of the settings; {_RETRY}"
            ) from None
        except MemoryLimitError:
            self._end()
            raise self._too_much_memory(path) from None

    def _sounds(
        self, path: Path, probe: Probe, spans: Sequence[Span], warn: Warn
    ) -> Iterator[Sound | None]:
        place = 0
        while True:
            message = self._next(path, probe)
            if message.kind == "sound":
                number, sound = sounds.read_sound(message.body, message.blobs, place, spans)
                yield from [None] * (number - place)
                yield sound
                place = number + 1
            elif message.kind == "warning":
                warn(str(message.body.get("text"))[:10_000])
            elif message.kind == "heard":
                yield from [None] * (len(spans) - place)
                return
            else:
                raise self._other(path, message)

    def _conversation(self, path: Path, listener: Listener, wanted: Wanted) -> Reading:
        probe: Probe | None = None
        while True:
            message = self._next(path, probe)
            if message.kind == "probe":
                probe = records.read_probe(message.body)
                listener.probed(probe)
            elif message.kind == "passage":
                listener.seen(records.read_passage(message.body, message.blobs))
            elif message.kind == "warning":
                listener.warn(str(message.body.get("text"))[:10_000])
            elif message.kind == "reading" and probe is not None:
                return records.read_reading(message.body, probe, wanted)
            else:
                raise self._other(path, message)

    def _other(self, path: Path, message: wire.Message) -> Exception:
        """What a message says that does not bring what was asked for."""
        if message.kind != "failed":
            return records.MalformedError(f"a message {message.kind[:20]!r} out of turn")
        name, text = str(message.body.get("error")), str(message.body.get("text"))
        if name == "MemoryError":
            self._end()
            return self._too_much_memory(path)
        kind = _PASSED_ON.get(name)
        if kind is not None and issubclass(kind, InputError | SetupError | errors.UsageError):
            return kind(text)
        self._end()
        return WorkerCrashError(f"{path.name}: reading it failed ({text[:500]}); {_RETRY}")

    def _too_much_memory(self, path: Path) -> MemoryLimitError:
        return MemoryLimitError(
            f"{path.name}: reading it takes more than {self._limits.memory_mb} MB of memory, and was "
            "given up: the file may be made to exhaust memory; if it is sound, raise memory_mb in "
            f"[limits] of the settings; {_RETRY}"
        )

    def _post_mortem(self, path: Path) -> MmretrieveError:
        """What to say of a file whose worker is gone."""
        if self._stopped:
            return StoppedError("the run was stopped")
        self._end()
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return MemoryLimitError(
                f"{path.name}: the system killed the process that read it, most likely for want of "
                f"memory: close other programs, or index with fewer --jobs; {_RETRY}"
            )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return WorkerCrashError(
            f"{path.name}: the process that read it died ({how}): the file is damaged, or made to "
            f"attack programs; convert it again from its source; {_RETRY}"
        )

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._talk.seek(0, os.SEEK_END)
            self._talk.seek(max(0, self._talk.tell() - 4000))
            lines = self._talk.read().decode("utf-8", "replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")[:500]
        return ""

    def _take(self, n_bytes: int, limit_s: float) -> bytes:
        """Exactly so many bytes of the worker's answers.

        Raises:
            EOFError: it is gone.
            TimeLimitError: the worker was waited for longer than ``limit_s`` for this file.
            MemoryLimitError: it takes more memory than it may.
        """
        while len(self._buffer) < n_bytes:
            assert self._process.stdout is not None
            handle, start = self._process.stdout.fileno(), time.monotonic()
            ready = select.select([handle], [], [], _TICK_S)[0]
            self._spent_s += min(time.monotonic() - start, _LONGEST_TICK_S)
            if ready:
                data = os.read(handle, 1 << 20)
                if not data:
                    raise EOFError
                self._buffer += data
            elif self._stopped:
                raise EOFError
            if self._spent_s > limit_s:
                raise TimeLimitError("too slow")
            if not ready and self.resident_bytes() > self._limits.memory_mb * _MIB * _ROOM:
                raise MemoryLimitError("too large")
        with memoryview(self._buffer) as view:
            taken = bytes(view[:n_bytes])
        del self._buffer[:n_bytes]
        return taken


def _start(lifeline: int, talk: IO[bytes]) -> subprocess.Popen[bytes]:
    """The same Python with the same places to import from, and never the working directory: that
    may be a library of strangers' files."""
    home = str(Path(__file__).parents[2])
    path = [*dict.fromkeys(entry for entry in (*sys.path, home) if Path(entry).is_absolute())]
    command = [sys.executable, "-P", "-c", _PROGRAM, str(lifeline), json.dumps(path)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=talk,
        pass_fds=[lifeline],
        start_new_session=True,
        bufsize=0,
    )
