"""What `torch.compile` does not look into, made once; only compiled code imports this file: it loads the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


call_uncompiled: Callable[..., Any] = torch.compiler.disable(_called)  # type: ignore[no-untyped-call]
"""The function's result, computed by torch operation by operation, its gradient as well."""
