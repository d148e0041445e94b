"""Boxes that hold the fixed point: proposed in floats, stated in whole numbers over one power of two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._network import Layer, Network, Vector

PLACES = 44
"""The least exponent of centers and radii."""
SWEEPS = 20_000


@dataclass(frozen=True)
class Box:
    """Centers and radii, all over `2**exponent` of their `Location`."""

    centers: tuple[int, ...]
    radii: tuple[int, ...]


@dataclass(frozen=True)
class Location:
    """The box around the fixed point, and boxes after each layer but the last."""

    exponent: int
    box: Box
    hidden: tuple[Box, ...]

    @property
    def center(self) -> Vector:
        """The point, in floats that hold it to their last place."""
        return np.array([c / (1 << self.exponent) for c in self.box.centers])

    @property
    def radius(self) -> float:
        """The largest radius, rounded up."""
        return float(np.nextafter(max(self.box.radii) / (1 << self.exponent), np.inf))


def locate(network: Network) -> Location | None:
    """Boxes around an approximate fixed point that the layers map into one another; None where none was found."""
    maps = [_Float(layer) for layer in network.layers]
    point = _fixed_point(maps, network.size)
    if point is None:
        return None
    exponent = max(PLACES, *(_needed(layer) for layer in network.layers))
    unit = 2.0**-exponent
    points = [point]
    for one in maps:
        points.append(one.image(points[-1]))
    residual = np.abs(points[-1] - point)
    points[-1] = point
    radii = _radii(maps, points, residual, unit)
    if radii is None:
        return None
    boxes = [_box(p, r, exponent) for p, r in zip(points[:-1], radii, strict=True)]
    return Location(exponent, boxes[0], tuple(boxes[1:]))


class _Float:
    """A layer in floats."""

    def __init__(self, layer: Layer) -> None:
        if layer.shift is None:
            raise ValueError("a layer with a free shift has no one fixed point")
        self.matrix, self.activation = layer.floats(), layer.activation
        self.shift = layer.shift.floats()
        self.slack = np.array([s / (1 << p) for s, p in zip(layer.shift.slack, layer.shift.places, strict=True)])
        self.moduli = float(layer.activation.slope) * np.abs(self.matrix)
        self.loose = float(layer.activation.slope) * self.slack

    def image(self, point: Vector) -> Vector:
        with np.errstate(over="ignore"):
            return self.activation(self.matrix @ point + self.shift)

    def rounding(self, point: Vector) -> Vector:
        """What the floats above may be wrong by, generously."""
        size = np.abs(self.matrix) @ np.abs(point) + np.abs(self.shift) + 1.0
        return size * (len(point) + 8) * 2.0**-53


def _needed(layer: Layer) -> int:
    """The exponent from which on the shift's places fit the rows."""
    if layer.shift is None:
        return 0
    return max((g - f for g, f in zip(layer.shift.places, layer.exponents, strict=True)), default=0)


def _fixed_point(maps: list[_Float], size: int) -> Vector | None:
    point, best = np.zeros(size), np.inf
    for sweep in range(SWEEPS):
        image = point
        for one in maps:
            image = one.image(image)
        change = float(np.abs(image - point).max(initial=0.0))
        if not np.isfinite(change):
            return None
        point = image
        if change == 0 or (sweep > 50 and change >= best and change < 1e-9 * (1 + np.abs(point).max())):
            return point
        best = min(best, change)
    return point


def _radii(maps: list[_Float], points: list[Vector], residual: Vector, unit: float) -> list[Vector] | None:
    """r_0 and the radii after each layer: what the layer makes of those before, the last at most r_0."""
    extra = [one.loose + one.rounding(p) + 3 * unit for one, p in zip(maps, points, strict=False)]
    extra[-1] = extra[-1] + residual

    def swept(first: Vector) -> list[Vector]:
        radii = [first]
        for one, more in zip(maps, extra, strict=True):
            radii.append(one.moduli @ radii[-1] + more)
        return radii

    size = len(points[0])
    product, last = np.eye(size), swept(np.zeros(size))[-1]
    for one in maps:
        product = one.moduli @ product
    try:
        first = np.linalg.solve(np.eye(size) - product, last)
    except np.linalg.LinAlgError:
        return None
    if not (np.isfinite(first).all() and (first > 0).all()):
        return None
    wider: Vector = np.asarray(first * (1 + 1e-6) + first.max() * 1e-6, dtype=np.float64)
    radii = swept(wider)
    return radii[:-1] if bool((radii[-1] <= wider).all()) else None


def _box(point: Vector, radii: Vector, exponent: int) -> Box:
    scale = 1 << exponent
    centers = tuple(round(_scaled(float(p), scale)) for p in point)
    return Box(centers, tuple(int(_scaled(float(r), scale)) + 1 for r in radii))


def _scaled(number: float, scale: int) -> int:
    numerator, denominator = number.as_integer_ratio()
    return numerator * scale // denominator
