"""One self-contained HTML page about a run: what is claimed, what is proven, what is not."""

from __future__ import annotations

from ._write import write_report

__all__ = ["write_report"]
