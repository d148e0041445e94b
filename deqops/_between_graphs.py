"""`torch.compile` of what calls a solve: the graph ends before it, and a new one begins after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def between_graphs(solve: Callable[P, R]) -> Callable[P, R]:
    """`solve`, which the compiler calls as it is: its loop goes on as long as the residuals tell.

    A trace of it would be that of one input. An operator that is compiled itself stays so inside.
    """

    @wraps(solve)
    def called(*arguments: P.args, **options: P.kwargs) -> R:
        if torch.compiler.is_dynamo_compiling():
            from deqops._uncompiled import solve_uncompiled

            result: R = solve_uncompiled(*arguments, **options)
            return result
        return solve(*arguments, **options)

    return called
