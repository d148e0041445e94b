"""torchdeq's solvers behind ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from deqops._errors import InputError

from ._foreign import Foreign, Image, as_options

NAMES = ("fixed_point_iter", "simple_fixed_point_iter", "anderson", "broyden")


@dataclass(frozen=True)
class TorchDEQ(Foreign):
    """A solver of torchdeq; the loop counts, judges and stops, and starts it anew where it ends too early.

    Args:
        name: "fixed_point_iter", "simple_fixed_point_iter", "anderson" or "broyden".
        options: passed on to it, for example `{"m": 4}`.

    Raises:
        InputError: the name is none of these, torchdeq is not installed, or the options are no dict; (by the solve) it
            fails on them.

    Source: Geng and Kolter, *TorchDEQ: A Library for Deep Equilibrium Models*, arXiv:2310.18605.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise InputError(f"name: one of {', '.join(NAMES)} is needed, got {self.name!r}")
        object.__setattr__(self, "options", as_options(self.options))
        _get_solver()

    def search(self, image: Image, start: Tensor) -> object:
        """200 iterations: its Broyden allocates all of them at the start."""
        settings = {"max_iter": 200, "tol": 0.0, "stop_mode": "abs", **self.options}

        def damped(z: Tensor, tau: float = 1.0) -> Tensor:  # as torchdeq's functions of layers are
            return image(z) if tau == 1.0 else tau * image(z) + (1.0 - tau) * z

        return _get_solver()(self.name)(damped, start, **settings)


def _get_solver() -> Callable[[str], Callable[..., Any]]:
    try:
        from torchdeq.solver import get_solver
    except ImportError as error:
        raise InputError("solver: TorchDEQ needs the package torchdeq; pip install torchdeq") from error
    return get_solver  # type: ignore[no-any-return]
