"""What `torch.compile` does not look into, made once; only compiled code imports this file, for it loads the compiler.

A new wrapper each time would compile its caller anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from deqops._solve import solve

solve_uncompiled: Callable[..., Any] = torch.compiler.disable(  # type: ignore[no-untyped-call]
    solve.__wrapped__  # type: ignore[attr-defined]
)
"""`deqops.solve`: between two graphs, for a solve goes on as long as its residuals tell."""
