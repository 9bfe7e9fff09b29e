"""Runs tasks in a few threads and gives what they return in the order of the tasks."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_MAX_THREADS = 4  # what comes back is put together by one thread, which is the limit before this

Result = TypeVar("Result")


def in_order(tasks: Iterator[Callable[[], Result]]) -> Iterator[Result]:
    """Run tasks, a few at once and no more ahead, so that their results do not pile up.

    Args:
        tasks: functions without arguments; asked for by the caller's thread.
    """
    n_threads = max(1, min(os.cpu_count() or 1, _MAX_THREADS))
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_threads) as threads:
        for task in tasks:
            waiting.append(threads.submit(task))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
