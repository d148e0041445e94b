"""The tier `exact`: the inequalities of the Coq checkers in Python's whole numbers. No proof stands behind it.

Written after `proofs/network/SupNorm.v` and `Located.v`, and on nothing but the numbers of a proof; tanh and the
logistic sigmoid are enclosed by python-flint's balls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import flint

from ._euclid import EuclideanProof, common_rows, gap_of
from ._float_layer import UNIT, FloatBox, needed_slack
from ._locate import Box, Location
from ._network import Activation, Layer, Network, Shift
from ._sup_norm import SupNorm, SupNormProof

PRECISION = 160


def contraction_fault(network: Network, proof: SupNormProof | EuclideanProof) -> str:
    """What is wrong with a proof of contraction; "" where it holds."""
    return sup_norm_fault(network, proof) if isinstance(proof, SupNormProof) else euclidean_fault(network, proof)


def euclidean_fault(network: Network, proof: EuclideanProof) -> str:
    """The same in the Euclidean norm."""
    if len(proof.spectra) != len(network.layers) or not network.exact:
        return "there is not one spectrum for each layer"
    if not math.prod((one.rate for one in proof.spectra), start=Fraction(1)) <= proof.rate < 1:
        return "the product of the layers' constants is larger than the constant, or that is not below 1"
    for number, (layer, one) in enumerate(zip(network.layers, proof.spectra, strict=True), 1):
        gap = gap_of(common_rows(layer, one.scale), one.factor, one.level)
        limit = one.rate / layer.activation.slope * (1 << one.scale)
        if gap > one.gap or one.level + one.gap > limit * limit:
            return f"layer {number}: has a larger constant than {float(one.rate):.9g}"
    return ""


def sup_norm_fault(network: Network, proof: SupNormProof) -> str:
    """What is wrong with a proof of contraction; "" where it holds."""
    norms = (proof.norm, *proof.hidden, proof.norm)
    if len(norms) != len(network.layers) + 1 or len(proof.norm.entries) != network.size:
        return "there is not one norm for each layer, of its size"
    if not 0 <= proof.rate < 1:
        return "the constant is not below 1"
    for number, norm in enumerate(norms):
        if not _norm_holds(norm):
            return f"norm {number}: a reciprocal is too small"
    for number, layer in enumerate(network.layers):
        limit = (proof.rate if number == len(network.layers) - 1 else Fraction(1)) / (1 + layer.slack)
        if not _layer_holds(layer, norms[number], norms[number + 1], limit):
            return f"layer {number + 1}: a row has a larger constant than {float(limit):.9g}"
    return ""


def _norm_holds(norm: SupNorm) -> bool:
    pairs = zip(norm.entries, norm.reciprocals, strict=True)
    return norm.unit > 0 and norm.whole > 0 and all(m > 0 and u >= 0 and u * m >= norm.whole for m, u in pairs)


def _layer_holds(layer: Layer, inner: SupNorm, outer: SupNorm, limit: Fraction) -> bool:
    slope = layer.activation.slope
    for row, exponent, entry in zip(layer.mantissas, layer.exponents, outer.entries, strict=True):
        total = sum(abs(int(a)) * u for a, u in zip(row, inner.reciprocals, strict=True))
        left = slope.numerator * inner.unit * entry * total * limit.denominator
        right = limit.numerator * slope.denominator * outer.unit * inner.whole << exponent
        if exponent < 0 or left > right:
            return False
    return True


def location_fault(network: Network, location: Location) -> str:
    """What is wrong with boxes around a fixed point; "" where each layer maps its box into the next."""
    boxes = (location.box, *location.hidden, location.box)
    if len(boxes) != len(network.layers) + 1 or min(location.box.radii) < 0:
        return "there is not one box for each layer"
    for number, layer in enumerate(network.layers):
        if layer.shift is None or not _maps(layer, layer.shift, location.exponent, boxes[number], boxes[number + 1]):
            return f"layer {number + 1}: does not map its box into the next"
    return ""


def _maps(layer: Layer, shift: Shift, exponent: int, inner: Box, outer: Box) -> bool:
    rows = zip(
        layer.mantissas,
        layer.exponents,
        shift.places,
        shift.values,
        shift.slack,
        outer.centers,
        outer.radii,
        strict=True,
    )
    for row, own, place, value, slack, center, radius in rows:
        scale = Fraction(1, 1 << (own + exponent))
        at_center = _dot(row, inner.centers) * scale + Fraction(value, 1 << place)
        spread = _dot([abs(int(a)) for a in row], inner.radii) * scale + Fraction(slack, 1 << place)
        room = Fraction(radius, 1 << exponent) - layer.activation.slope * spread
        if not _close(layer.activation, at_center, Fraction(center, 1 << exponent), room):
            return False
    return True


def floats_fault(network: Network, floats: FloatBox) -> str:
    """What is wrong with the box that a float32 program does not leave; "" where nothing is."""
    layer = replace(network.layers[0], shift=floats.shift)
    fault = location_fault(replace(network, layers=(layer,)), floats.location)
    if fault:
        return f"with rounding: {fault}"
    if (1 + UNIT) ** floats.deep > 1 + floats.growth:
        return "the roundings grow by more than is said"
    numbers = (floats.shift.places, floats.large, floats.location.exponent, floats.location.box)
    needed = needed_slack(layer, *numbers, floats.many, floats.growth)
    enough = all(s <= has for s, has in zip(needed, floats.shift.slack, strict=True))
    return "" if enough else "rounding needs more slack than there is"


def _dot(row: Sequence[int], numbers: Sequence[int]) -> int:
    return sum(int(a) * b for a, b in zip(row, numbers, strict=True))


def _close(activation: Activation, at: Fraction, value: Fraction, room: Fraction) -> bool:
    """Whether `abs(phi(at) - value) <= room`."""
    if activation.name in ("tanh", "sigmoid"):
        return _ball_close(activation.name, at, value, room)
    if activation.name == "relu":
        at = max(at, Fraction(0))
    elif activation.name == "leaky_relu":
        at = at if at >= 0 else activation.numbers[0] * at
    elif activation.name != "identity":
        return False
    return abs(at - value) <= room


def _ball_close(name: str, at: Fraction, value: Fraction, room: Fraction) -> bool:
    with flint.ctx.workprec(PRECISION):
        x = _ball(at)
        image = x.tanh() if name == "tanh" else 1 / (1 + (-x).exp())
        return bool(abs(image - _ball(value)) <= _ball(room))


def _ball(number: Fraction) -> flint.arb:
    return flint.arb(flint.fmpq(number.numerator, number.denominator))
