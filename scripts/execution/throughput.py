"""Throughput in epochs over the last minute."""

from __future__ import annotations

from collections import deque

_EVERY_S, _OVER_S = 5.0, 60.0


class Throughput:
    """Epochs per minute, updated every few seconds.

    Parameters
    ----------
    began_s : float
        Moment of `time.monotonic` from which epochs are counted.
    """

    def __init__(self, began_s: float) -> None:
        self._marks = deque([(began_s, 0)])

    def epochs_per_minute(self, n_epochs: int, now: float) -> float | None:
        """Return the throughput at the time `now` after `n_epochs`; None if it was returned a moment ago."""
        if now - self._marks[-1][0] < _EVERY_S:
            return None
        self._marks.append((now, n_epochs))
        # Where epochs take minutes, the pace is over the last time that passed without a word.
        while len(self._marks) > 2 and now - self._marks[0][0] > _OVER_S:
            self._marks.popleft()
        began, n_before = self._marks[0]
        return 60.0 * (n_epochs - n_before) / (now - began)
