"""Work on files in parallel, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

TELL_EVERY_S = 1.0
_T = TypeVar("_T")


def pooled(
    tasks: Iterator[Callable[[], _T]],
    jobs: int,
    on_wait: Callable[[], None],
    on_stop: Callable[[], None],
) -> Generator[_T]:
    """Results in the order in which they are ready, with at most ``jobs`` + 1 tasks under way so that
    what waits to be committed stays small.

    Args:
        tasks: taken one by one, in the calling thread.
        jobs: tasks at once.
        on_wait: called about once a second while nothing is ready.
        on_stop: called when the work ends early, before tasks under way are waited for.
    """
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="video")
    pending: set[Future[_T]] = set()
    done = False
    try:
        while True:
            while len(pending) <= jobs and (task := next(tasks, None)) is not None:
                pending.add(pool.submit(task))
            if not pending:
                done = True
                return
            ready, pending = wait(pending, TELL_EVERY_S, return_when=FIRST_COMPLETED)
            if not ready:
                on_wait()
            for future in ready:
                yield future.result()
    finally:
        if not done:
            for future in pending:
                future.cancel()
            on_stop()
        pool.shutdown(wait=True, cancel_futures=True)
