"""scipy.optimize.root behind our solvers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError

from ._foreign import Foreign, Image, as_options

NONLIN = ("broyden1", "broyden2", "anderson", "linearmixing", "diagbroyden", "excitingmixing", "krylov")
METHODS = ("hybr", "lm", *NONLIN, "df-sane")
ROUNDING = 64.0
"""Units of rounding that an image may be wrong by: MINPACK's differences are as wide as the square root of that."""


@dataclass(frozen=True)
class SciPy(Foreign):
    """A method of `scipy.optimize.root` on G(z) - z; it computes in float64, its points are rounded to the state.

    Derivatives are scipy's finite differences, each an evaluation of G; the loop counts them all.

    Args:
        method: one that needs no more than the function: "hybr", "lm", "broyden1", "broyden2", "anderson",
            "linearmixing", "diagbroyden", "excitingmixing", "krylov" or "df-sane".
        options: passed on as `root(options=...)`.

    Raises:
        InputError: the method is none of these, or the options are no dict; (by the solve) it fails on them.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method: one of {', '.join(METHODS)} is needed, got {self.method!r}")
        object.__setattr__(self, "options", as_options(self.options))

    def search(self, image: Image, start: Tensor) -> object:
        """Calls `root` without a tolerance of its own."""
        from scipy.optimize import root

        def residual(v: Any) -> Any:
            point = torch.from_numpy(v.copy()).to(start).reshape(start.shape)
            difference = image(point).double() - point.double()
            return difference.reshape(-1).cpu().numpy()

        settings = {**_settings(self.method, torch.finfo(start.dtype).eps), **self.options}
        begin = start.double().reshape(-1).cpu().numpy()
        return root(residual, begin, method=self.method, options=settings)


def _settings(method: str, unit: float) -> dict[str, Any]:
    """No stop of its own before the loop's; differences wide enough for the state's dtype."""
    if method == "hybr":
        return {"maxfev": 10**6, "xtol": 0.0, "eps": ROUNDING * unit}
    if method == "lm":
        return {"maxiter": 10**6, "xtol": 0.0, "ftol": 0.0, "eps": ROUNDING * unit}
    if method == "df-sane":
        return {"maxfev": 10**6, "fatol": 0.0, "ftol": 0.0}
    return {"maxiter": 10**6, "fatol": 1e-300, **({"jac_options": {"rdiff": unit**0.5}} if method == "krylov" else {})}
