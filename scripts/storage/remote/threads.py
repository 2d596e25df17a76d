"""Calls in several daemon threads, for which an interrupted command does not wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_THREADS = 8


def in_parallel(call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Results of `call` for each item, in their order; its first error is raised once all threads have ended."""
    waiting: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
    for numbered in enumerate(items):
        waiting.put(numbered)
    results: dict[int, R] = {}
    errors: list[Exception] = []

    def work() -> None:
        try:
            while not errors:
                k, item = waiting.get_nowait()
                results[k] = call(item)
        except queue.Empty:
            return
        except Exception as error:
            errors.append(error)

    # The pool of the standard library would be waited for when the process ends.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_THREADS, waiting.qsize()))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[k] for k in sorted(results)]
