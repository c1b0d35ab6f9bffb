"""The writer's lock: held by one, told by name, and free again whatever became of its holder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmretrieve.errors import IndexLockedError
from mmretrieve.storage import lock as locks
from mmretrieve.storage.lock import LOCK_FILE, Owner, holder, left_behind, take

HOLD = """
import sys, time
from pathlib import Path
from mmretrieve.storage.lock import take
lock = take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
lock.release()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def record(folder: Path, **changes: object) -> Owner:
    """Leave the record of a writer that did not end well."""
    owner = replace(locks._me(), **changes)  # type: ignore[arg-type]
    (folder / LOCK_FILE).write_text(json.dumps(asdict(owner)), encoding="utf-8")
    return owner


def test_the_second_writer_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        with pytest.raises(IndexLockedError, match=f"process {process.pid} on "):
            take(tmp_path)
        found = holder(tmp_path)
        assert found is not None
        assert (found.pid, found.host) == (process.pid, platform.node())
        process.communicate("\n")
    assert holder(tmp_path) is None
    assert not left_behind(tmp_path)
    lock = take(tmp_path)
    assert lock.left_behind is None
    lock.release()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_writer_leaves_a_record_and_no_lock(tmp_path: Path, number: int) -> None:
    with hold(tmp_path) as process:
        process.send_signal(number)
    assert left_behind(tmp_path)
    assert holder(tmp_path) is None
    lock = take(tmp_path)
    assert lock.left_behind is not None
    assert f"process {process.pid} " in lock.left_behind
    lock.release()
    assert not left_behind(tmp_path)


def test_what_ended_in_an_error_stays_noted(tmp_path: Path) -> None:
    take(tmp_path).release(clean=False)
    assert left_behind(tmp_path)
    lock = take(tmp_path)
    lock.release()
    lock.release(clean=False)  # of no effect any more
    assert not left_behind(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"boot": "another"}, {"pid": 2**22 + 1}, {"started": 1}],
    ids=["rebooted", "process is gone", "number is used again"],
)
def test_records_of_the_dead_hold_no_one_up(tmp_path: Path, changes: dict[str, object]) -> None:
    owner = record(tmp_path, **changes)
    assert not owner.is_alive()
    assert holder(tmp_path) is None
    lock = take(tmp_path)
    assert lock.left_behind == str(owner)
    lock.release()


def test_another_machine_counts_while_its_heart_beats(tmp_path: Path) -> None:
    """On a disk of the network, the system's lock may be blind to other machines."""
    record(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(IndexLockedError, match="process 1 on elsewhere"):
        take(tmp_path)
    assert holder(tmp_path) is not None
    long_ago = (tmp_path / LOCK_FILE).stat().st_mtime - locks.SILENT_S - 1
    os.utime(tmp_path / LOCK_FILE, (long_ago, long_ago))
    assert holder(tmp_path) is None
    lock = take(tmp_path)
    assert lock.left_behind is not None
    assert "elsewhere" in lock.left_behind
    lock.release()
    assert [p.name for p in tmp_path.iterdir()] == [LOCK_FILE]


def test_looking_who_writes_turns_nobody_away(tmp_path: Path) -> None:
    """A writer of this process ended in an error: its record is there, its process alive, its lock free."""
    take(tmp_path).release(clean=False)
    assert holder(tmp_path) is None
    handle = os.open(tmp_path / LOCK_FILE, os.O_RDONLY)
    assert not locks._is_held(handle)
    lock = take(tmp_path)
    assert locks._is_held(handle)
    assert locks._is_refused(handle)
    lock.release()
    assert not locks._is_refused(handle)
    os.close(handle)


def test_the_heart_beats_while_a_writer_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "BEAT_S", 0.001)
    lock = take(tmp_path)
    os.utime(tmp_path / LOCK_FILE, (1, 1))
    while (tmp_path / LOCK_FILE).stat().st_mtime == 1:
        lock._ended.wait(0.001)
    lock.release()


def test_a_disk_without_locks_goes_by_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    first = take(tmp_path)
    with pytest.raises(IndexLockedError, match=f"process {os.getpid()} on"):
        take(tmp_path)
    first.release()
    take(tmp_path).release()
    record(tmp_path, boot="another")
    lock = take(tmp_path)
    assert lock.left_behind is not None
    lock.release()


def test_a_record_that_cannot_be_read_is_one_of_the_dead(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_bytes(b'{"pid": \xff')
    lock = take(tmp_path)
    assert lock.left_behind == "an unknown process"
    lock.release()


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    """A worker that outlives a killed writer must not keep the next one out."""
    lock = take(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
    ) as child:
        lock.release()
        take(tmp_path).release()
        child.communicate(b"\n")
