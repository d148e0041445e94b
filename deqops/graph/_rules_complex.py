"""Complex values from real ones, and real ones from complex."""

from __future__ import annotations

from typing import Any

import torch

from deqops.graph._arguments import Arguments, applied, combined, expanded, rank_of, reshaped
from deqops.graph._items import Complex
from deqops.graph._lowering import Lowering, lowers
from deqops.graph._rules_activations import angle_of


@lowers("real", "resolve_conj", "resolve_neg", "conj_physical")
def _real_itself(low: Lowering, a: Arguments) -> Any:
    return low.as_dynamic(a["self"])


@lowers("real", of_complex=True)
def _real(low: Lowering, a: Arguments) -> Any:
    return a["self"].real


@lowers("imag", of_complex=True)
def _imaginary(low: Lowering, a: Arguments) -> Any:
    return a["self"].imaginary


@lowers("resolve_conj", "resolve_neg", of_complex=True)
def _itself(low: Lowering, a: Arguments) -> Any:
    return a["self"]


@lowers("_conj", "conj_physical", of_complex=True)
def _conjugate(low: Lowering, a: Arguments) -> Any:
    return conjugated(low, a["self"])


def conjugated(low: Lowering, z: Complex) -> Complex:
    """The same with the other sign of the imaginary part."""
    return Complex(z.real, applied(low, "neg", z.imaginary))


@lowers("mH", "matrix_H", "adjoint", of_complex=True)
def _adjoint(low: Lowering, a: Arguments) -> Any:
    z = conjugated(low, a["self"])
    rank = rank_of(low.as_dynamic(z.real))
    dims = (*range(rank - 2), rank - 1, rank - 2)
    parts = [low.emit("permute", [part], lambda x: x.permute(dims), dims=dims) for part in z.parts]
    return Complex(*parts)


@lowers("exp", of_complex=True)
def _exponential(low: Lowering, a: Arguments) -> Any:
    """e^x (cos y + i sin y)."""
    x, y = a["self"].parts
    size = applied(low, "exp", x)
    return Complex(*(combined(low, "mul", size, applied(low, op, y)) for op in ("cos", "sin")))


@lowers("div.Tensor", "div.Scalar", "true_divide.Tensor", "divide.Tensor", of_complex=True)
def _quotient(low: Lowering, a: Arguments) -> Any:
    """By a complex number c: times the parts of its conjugate, over |c|^2."""
    if not isinstance(a["other"], Complex):
        return NotImplemented
    whole = combined(low, "add", *(applied(low, "square", part) for part in a["other"].parts))
    inverse = [combined(low, "div", part, whole) for part in conjugated(low, a["other"]).parts]
    if not isinstance(a["self"], Complex):
        return Complex(*(combined(low, "mul", a["self"], part) for part in inverse))
    x, y = a["self"].parts
    u, v = inverse
    real = combined(low, "sub", combined(low, "mul", x, u), combined(low, "mul", y, v))
    return Complex(real, combined(low, "add", combined(low, "mul", x, v), combined(low, "mul", y, u)))


@lowers("abs", of_complex=True)
def _modulus(low: Lowering, a: Arguments) -> Any:
    """sqrt(x^2 + y^2): no slope at 0."""
    x, y = (applied(low, "square", part) for part in a["self"].parts)
    return applied(low, "sqrt", combined(low, "add", x, y))


@lowers("angle", of_complex=True)
def _angle(low: Lowering, a: Arguments) -> Any:
    return angle_of(low, *a["self"].parts)


@lowers("view_as_real", of_complex=True)
def _as_real(low: Lowering, a: Arguments) -> Any:
    parts = [low.as_dynamic(part) for part in a["self"].parts]
    last = [reshaped(low, part, (*part.shape, 1), []) for part in parts]
    return low.emit("cat", last, lambda *xs: torch.cat(xs, -1), dim=len(parts[0].shape))


@lowers("view_as_complex")
def _as_complex(low: Lowering, a: Arguments) -> Any:
    x = low.as_dynamic(a["self"])
    dim = len(x.shape) - 1
    return Complex(*(low.emit("select", [x], lambda t, i=i: t.select(dim, i), dim=dim, index=i) for i in (0, 1)))


@lowers("polar")
def _polar(low: Lowering, a: Arguments) -> Any:
    """r cos(t) + i r sin(t)."""
    return Complex(*(combined(low, "mul", a["abs"], applied(low, op, a["angle"])) for op in ("cos", "sin")))


@lowers("complex")
def _complex(low: Lowering, a: Arguments) -> Any:
    real, imaginary = (low.as_dynamic(a[name]) for name in ("real", "imag"))
    shape = tuple(torch.complex(real.meta, imaginary.meta).shape)
    return Complex(*(x if x.shape == shape else expanded(low, x, shape, []) for x in (real, imaginary)))
