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


class _Held(io.TextIOBase):
    """A stream in front of another: what some threads write is kept, everything else goes through."""

    def __init__(self, through: TextIO) -> None:
        self.through = through
        self.kept: dict[int, list[str]] = {}  # by thread

    def write(self, text: str, /) -> int:
        mine = self.kept.get(threading.get_ident())
        if mine is None:
            return self.through.write(text)
        mine.append(text)
        return len(text)

    def flush(self) -> None:
        self.through.flush()

    def fileno(self) -> int:
        return self.through.fileno()

    def isatty(self) -> bool:
        return self.through.isatty()


_lock = threading.Lock()
_held: _Held | None = None  # in front of stderr, while any thread keeps its lines back


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back this thread's lines to stderr, and drop them where the block fails: the error says what is wrong."""
    own = threading.get_ident()
    if sys.stderr is None or (_held is not None and own in _held.kept):
        yield
        return
    stream, lines = _enter(own)
    try:
        yield
        stream.through.write("".join(lines))
    finally:
        _leave(stream, own)


def _is_told(record: logging.LogRecord) -> bool:
    """Whether a record comes from a thread that keeps nothing back."""
    return _held is None or record.thread not in _held.kept


def _enter(own: int) -> tuple[_Held, list[str]]:
    global _held
    with _lock:
        if _held is None:
            _held = _Held(sys.stderr)
            sys.stderr = _held
            _NOISY.addFilter(_is_told)
        _held.kept[own] = []
        return _held, _held.kept[own]


def _leave(stream: _Held, own: int) -> None:
    """The last thread that leaves puts back what was there, unless someone else has replaced it since."""
    global _held
    with _lock:
        del stream.kept[own]
        if stream.kept:
            return
        _held = None
        _NOISY.removeFilter(_is_told)
        if sys.stderr is stream:
            sys.stderr = stream.through
