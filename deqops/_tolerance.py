"""When to stop: a residual, or a proven distance to the equilibrium."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from deqops._errors import InputError


class ProvenDistances(Protocol):
    """Proven distances of a state to its equilibria; `l2` is (problems,) float64."""

    @property
    def l2(self) -> Tensor:
        """Upper bounds in the l2 norm, per problem."""


@runtime_checkable
class ErrorCertificate(Protocol):
    """What the core asks of a certificate."""

    def error_bound(self, G: Any, y: Any, *inputs: Any) -> Any:
        """Proven distances of y to the equilibrium of G, as `ProvenDistances`."""


@dataclass(frozen=True)
class Tolerance:
    """Stop where `||G(z) - z|| <= absolute + relative * ||G(z)||`, l2 over all leaves, per problem.

    Args:
        absolute: of the residual.
        relative: of the residual, to the image.
        error: stop only once the *proven* distance to the equilibrium is at most this (l2); needs a certificate.
        certificate: fills in `Solution.error_bound`.

    Raises:
        InputError: a negative or non-finite tolerance, or `error` without a certificate.
    """

    absolute: float = 0.0
    relative: float = 1e-5
    error: float | None = None
    certificate: ErrorCertificate | None = None

    def __post_init__(self) -> None:
        for name in ("absolute", "relative"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(f"{name}: a tolerance must be finite and not negative, got {value!r}")
        if self.error is not None and not (self.error > 0 and math.isfinite(self.error)):
            raise InputError(f"error: a proven error must be positive and finite, got {self.error!r}")
        if self.error is not None and self.certificate is None:
            raise InputError("error: a proven error needs certificate=...; make one with deqops.verify.certify")

    def threshold(self, image_norm: Tensor) -> Tensor:
        """The largest residual that stops, per problem."""
        return self.absolute + self.relative * image_norm
