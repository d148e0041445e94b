"""The bridge to float32 in Coq: for one layer of sums, how far rounding takes the iterates from the fixed point.

The program may evaluate each sum in any order, fused or not; what is used of it is how many roundings follow one
another, how many there are, and how large the terms of the shift are (`floats_ok` in `proofs/network/Floats.v`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from deqops._errors import DeqopsError
from deqops.graph import ConcreteGraph

from ._locate import Box, Location, locate
from ._network import Layer, Network, Shift
from ._recognise import term_sizes

PLACES = 44
UNIT, LEAST = Fraction(1, 2**24), Fraction(1, 2**150)
PLAIN = frozenset({"matmul", "add", "reshape", "permute", "expand", "slice", "select", "cat", "relu"})
ROUNDS = 6


@dataclass(frozen=True)
class FloatBox:
    """A box that the program's iterates do not leave.

    Attributes:
        location: the box and its exponent.
        shift: the layer's, with the slack that rounding needs.
        large: bounds of the moduli of the shift's terms together, over the shift's places.
        deep: roundings one after the other in one entry.
        many: roundings in one entry.
        growth: at least `(1 + 2^-24)^deep - 1`.
    """

    location: Location
    shift: Shift
    large: tuple[int, ...]
    deep: int
    many: int
    growth: Fraction


def float_box(graph: ConcreteGraph, network: Network, location: Location, problem: int) -> FloatBox | str:
    """The box for a float32 layer of relu, or why there is none."""
    layer = network.layers[0]
    if len(network.layers) > 1 or layer.activation.name not in ("relu", "identity"):
        return "in Coq only single layers of relu are bounded"
    if layer.shift is None or not (layer.shift.exact and network.exact):
        return "the layer's numbers are not known exactly"
    if not all(_plain(graph, number) for number in range(len(graph.nodes))):
        return "the program is no plain sum of products in float32"
    try:
        sizes = term_sizes(graph, problem)
    except DeqopsError as error:
        return str(error)
    depths = [graph.shape(node.operands[0])[-1] for node in graph.nodes if node.op == "matmul"]
    adds = sum(node.op == "add" for node in graph.nodes)
    deep, many = sum(depths) + len(depths) + adds, 2 * sum(depths) + adds
    found = _settled(network, layer.shift, sizes, location, deep, many)
    return "no box was found" if found is None else found


def _plain(graph: ConcreteGraph, number: int) -> bool:
    node = graph.nodes[number]
    return node.op in PLAIN and node.dtype == torch.float32


def _settled(
    network: Network, shift: Shift, sizes: list[Fraction], location: Location, deep: int, many: int
) -> FloatBox | None:
    """Slack and box that fit each other, found by repetition."""
    places = tuple(max(p, PLACES) for p in shift.places)
    values = tuple(v << (q - p) for v, p, q in zip(shift.values, shift.places, places, strict=True))
    large = tuple(-(-(s.numerator << q) // s.denominator) for s, q in zip(sizes, places, strict=True))
    exact = (1 + UNIT) ** deep - 1
    growth = Fraction((exact.numerator << 60) // exact.denominator + 1, 1 << 60)
    box, layer = location.box, network.layers[0]
    for _ in range(ROUNDS):
        needed = needed_slack(layer, places, large, location.exponent, box, many, growth)
        rounded = Shift(places, values, tuple(int(s * Fraction(101, 100)) + 1 for s in needed))
        wide = locate(replace(network, layers=(replace(layer, shift=rounded),)))
        if wide is None:
            return None
        needed = needed_slack(layer, places, large, wide.exponent, wide.box, many, growth)
        if all(s <= has for s, has in zip(needed, rounded.slack, strict=True)):
            return FloatBox(wide, rounded, large, deep, many, growth)
        box, location = wide.box, wide
    return None


def needed_slack(
    layer: Layer, places: tuple[int, ...], large: tuple[int, ...], exponent: int, box: Box, many: int, growth: Fraction
) -> list[Fraction]:
    """What rounding may add to each entry, over the shift's places."""
    reach = [abs(c) + r for c, r in zip(box.centers, box.radii, strict=True)]
    result = []
    for row, own, place, size in zip(layer.mantissas, layer.exponents, places, large, strict=True):
        products = Fraction(sum(abs(int(a)) * x for a, x in zip(row, reach, strict=True)), 1 << (own + exponent))
        error = growth * (Fraction(size, 1 << place) + products) + many * (1 + growth) * LEAST
        result.append(error * (1 << place))
    return result
