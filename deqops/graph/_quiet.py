"""`torch.export` without what it writes to the terminal when it fails."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_NOISY = logging.getLogger("torch.fx.experimental.symbolic_shapes")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back this thread's lines to stderr, and drop them where the block fails: the error says what is wrong.

    For one thread at a time: blocks that overlap would put each other's stream back.
    """
    before, owner = sys.stderr, threading.get_ident()
    if before is None:  # as in a program without a terminal
        yield
        return
    held = _Held(before, owner)

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != owner

    _NOISY.addFilter(of_others)
    sys.stderr = held
    try:
        yield
        before.write(held.text())
    finally:
        _NOISY.removeFilter(of_others)
        if sys.stderr is held:
            sys.stderr = before


class _Held(io.TextIOBase):
    """A stream that keeps what one thread writes; everything else goes through."""

    def __init__(self, through: TextIO, owner: int) -> None:
        self._through, self._owner, self._parts = through, owner, list[str]()

    def write(self, text: str, /) -> int:
        if threading.get_ident() != self._owner:
            return self._through.write(text)
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        self._through.flush()

    def fileno(self) -> int:
        return self._through.fileno()

    def isatty(self) -> bool:
        return self._through.isatty()

    def text(self) -> str:
        """What was kept."""
        return "".join(self._parts)
