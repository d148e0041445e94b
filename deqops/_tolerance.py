"""When to stop: a residual, or a proven distance to the equilibrium."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deqops._errors import InputError
from deqops._numbers import as_number, is_number, keep_plain

Norms = TypeVar("Norms", Tensor, NDArray[np.float64])


class ProvenDistances(Protocol):
    """Proven distances of a state to the equilibrium, per problem."""

    @property
    def l2(self) -> Tensor:
        """Upper bounds in l2 over all leaves, (problems,) float64; infinite where nothing is proven."""


@runtime_checkable
class ErrorCertificate(Protocol):
    """What the core asks of a certificate (`deqops.verify.certify` makes one)."""

    def error_bound(self, G: Any, y: Any, *inputs: Any) -> Any:
        """`ProvenDistances` of the state y to the equilibrium of G at these inputs."""


@dataclass(frozen=True)
class Tolerance:
    """Stop a problem where `||G(z) - z|| <= absolute + relative ||G(z)||`, l2 over all of its leaves.

    Args:
        absolute: of the residual.
        relative: of the residual, to the size of G(z).
        error: stop only where, besides, the *proven* l2 distance of G(z) to the equilibrium is at most this.
            The proof is attempted at the first candidate and again when the residual has shrunk by the factor
            that was missing. Out of reach in the state's dtype, it ends as `STAGNATED`.
        certificate: proves distances; fills in `Solution.error_bound`.

    Raises:
        InputError: a tolerance that is negative or not finite, or `error` without a certificate.

    Theorem: T1 `picard` turns residuals into errors where a constant q < 1 is proven.
    """

    absolute: float = 0.0
    relative: float = 1e-5
    error: float | None = None
    certificate: ErrorCertificate | None = None

    def __post_init__(self) -> None:
        keep_plain(self, "absolute", "relative", "error")
        for name in ("absolute", "relative"):
            value = getattr(self, name)
            if not (_is_finite(value) and value >= 0):
                raise InputError(f"{name}: a tolerance must be finite and not negative, got {value!r}")
        if self.error is not None and not (_is_finite(self.error) and self.error > 0):
            raise InputError(f"error: a proven error must be finite and above 0, got {self.error!r}")
        if self.error is not None and self.certificate is None:
            raise InputError("error: a proven error needs certificate=; make one with deqops.verify.certify")
        certificate: object = self.certificate
        if certificate is not None and not isinstance(certificate, ErrorCertificate):
            got = type(certificate).__name__
            raise InputError(f"certificate: an object with error_bound(G, y, *inputs) is needed, got {got}")

    def threshold(self, image_norm: Norms) -> Norms:
        """The largest residual that stops, per problem, from ||G(z)||."""
        return self.absolute + self.relative * image_norm


def _is_finite(value: object) -> bool:
    return is_number(value) and math.isfinite(as_number(value))
