"""How long a call may take, and whom it tells what it is doing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from deqops._errors import InputError
from deqops._numbers import as_number

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
        seconds = None if budget is None else as_number(budget)
        if seconds is not None and not seconds > 0:
            raise InputError(f"budget: got {budget!r}; give a positive number of seconds, or None")
        if progress is not None and not callable(progress):
            raise InputError(f"progress: a callable of one text is needed, got {type(progress).__name__}")
        self.budget, self._progress = seconds, progress
        self._end = math.inf if seconds is None else time.monotonic() + seconds

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
