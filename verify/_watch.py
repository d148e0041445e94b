"""How long a call may take, and whom it tells what it is doing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from deqops._errors import InputError

Progress = Callable[[str], None]


class Watch:
    """A stop-watch that is asked between attempts and inside long loops, and passes on what is being done.

    Args:
        budget: seconds from now, None for as long as it takes.
        progress: called with a few words when an attempt starts and when it ends.

    Raises:
        InputError: the budget is not positive.
    """

    def __init__(self, budget: float | None = None, progress: Progress | None = None) -> None:
        if budget is not None and not budget > 0:
            raise InputError(f"budget: got {budget!r}; give a positive number of seconds, or None")
        self.budget, self._progress = budget, progress
        self._end = math.inf if budget is None else time.monotonic() + budget

    def prefixed(self, prefix: str) -> Watch:
        """The same watch, which says something before everything else."""
        other = Watch(None, None if self._progress is None else lambda text: self.tell(prefix + text))
        other.budget, other._end = self.budget, self._end
        return other

    @property
    def spent(self) -> bool:
        """Whether the budget is used up: what was found so far is what there is."""
        return time.monotonic() >= self._end

    def tell(self, text: str) -> None:
        """Say what is being done, or what it gave."""
        if self._progress is not None:
            self._progress(text)
