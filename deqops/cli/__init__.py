"""The command line: `deqops demo | train | solve | certify | check | report | info`."""

from __future__ import annotations

from ._main import main

__all__ = ["main"]
