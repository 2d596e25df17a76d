"""How fast epochs come in, over the last minute."""

from __future__ import annotations

import time
from collections import deque

_EVERY_S, _OVER_S = 5.0, 60.0


class Pace:
    """Epochs a minute; one may ask as often as one likes, it answers every few seconds."""

    def __init__(self) -> None:
        self._marks = deque([(time.monotonic(), 0)])

    def epochs_per_minute(self, n_epochs: int) -> float | None:
        """Pace now that `n_epochs` have come in since the start; None where it has answered a moment ago."""
        now, (then, _) = time.monotonic(), self._marks[-1]
        if now - then < _EVERY_S:
            return None
        self._marks.append((now, n_epochs))
        while now - self._marks[0][0] > _OVER_S:
            self._marks.popleft()
        began, n_before = self._marks[0]
        return 60.0 * (n_epochs - n_before) / (now - began)
