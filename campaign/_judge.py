"""Whether what a certificate document claims is true of a layer, decided in rational and ball arithmetic.

The judge reads the document as `docs/certificate.md` describes it and believes none of it.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flint import ctx, fmpq

from . import _judge_numbers
from ._exact import Rational, RationalMatrix, identity, is_semidefinite, is_stable, norm_at_most, rational
from ._judge_numbers import Box, Facts
from ._layers import ORDERS, PRECISION, Layer, conjugated, damped, distance, limit
from ._operators import Operator

_RATED = ("picard", "damped", "local_picard")
_GRID = tuple(fmpq(k, 2) for k in (-3, -1, 0, 1, 4))
Point = list[Rational]
_OTHERS = 3  # values of inputs called free that a causal claim is judged at


def judge(document: dict[str, Any], operator: Operator) -> list[str]:
    """Everything in the document that is false of the operator; empty for verdict unknown."""
    verdict = document["verdict"]
    if verdict == "unknown" or not is_known(document):
        return []
    before, ctx.prec = ctx.prec, PRECISION
    try:
        wrong = _identity(document, operator)
        judged = _Judge(document, operator)
        wrong += judged.certified() if verdict == "certified" else judged.refuted()
        for other in _with_free_inputs_changed(document, operator):
            wrong += _Judge(document, other).certified()
        return wrong
    finally:
        ctx.prec = before


def is_known(document: dict[str, Any]) -> bool:
    """Whether the region is of a kind that is judged here."""
    return document["region"]["kind"] in ("global", "ball", "box")


def _identity(document: dict[str, Any], operator: Operator) -> list[str]:
    wrong = []
    if document["model"]["fingerprint"] != operator.graph.fingerprint:
        wrong.append("another model's fingerprint")
    if document["batch_dims"] != operator.graph.batch_dims:
        wrong.append("batch_dims")
    if [leaf["shape"] for leaf in document["state"]] != [list(operator.state.shape)]:
        wrong.append("the state's shape")
    free = _free(document)
    if free - operator.biases and document["theorem"] != "causal":
        wrong.append("an input that matters is called free")
    moves = document["region"]["kind"] != "global" or document["claim"]["kind"] != "unique_equilibrium"
    if free and (moves if document["verdict"] == "refuted" else document["region"]["kind"] != "global"):
        wrong.append("an input that moves the equilibrium is called free")
    return wrong


def _free(document: dict[str, Any]) -> frozenset[int]:
    return frozenset(number for number, entry in enumerate(document["inputs"]) if entry["status"] == "free")


def _with_free_inputs_changed(document: dict[str, Any], operator: Operator) -> list[Operator]:
    """T8 may hold whatever a weight is, as on a graph without cycles: then it holds for other values, too."""
    free = _free(document) - operator.biases
    if document["theorem"] != "causal" or not free:
        return []
    rng = np.random.default_rng(0)
    return [operator.with_other(free, rng) for _ in range(_OTHERS)]


class _Judge:
    def __init__(self, document: dict[str, Any], operator: Operator) -> None:
        self._document = document
        self._layer = _read_for(document, operator)
        self._problems = operator.state.shape[0] if operator.graph.batch_dims else 1
        self._order, self._weights = self._norm(document["norm"] or {"order": "l2", "weights": None})

    def certified(self) -> list[str]:
        """What a certified claim implies and is not so."""
        kind = self._document["region"]["kind"]
        if kind != "global":
            return self._local() if kind == "ball" else self._local_in_boxes()
        wrong = self._one_equilibrium(self._layer.equilibria())
        claim = self._document["claim"]
        if claim["kind"] == "contraction" and self._document["rate"] is None:
            wrong.append("a contraction without a rate")
        if self._document["theorem"] in _RATED:
            wrong += self._rates(self._layer.reached, self._around([fmpq(0)] * self._layer.size, fmpq(1)))
        if self._document["theorem"] == "monotone":
            wrong += self._monotone()
        wrong += self._further(_judge_numbers.THEOREMS, self._document["theorem"])
        if self._document["theorem"] in ("log_norm", "one_sided", "powers", "quadratic", "componentwise"):
            wrong += self._factor(_number(self._document["evidence"]["factor"]))
        if claim["kind"] == "converges" and self._layer.activation is None:
            iterated = damped(self._layer.A, self._damping())
            wrong += [] if is_stable(iterated) else ["the iteration has a spectral radius of at least 1"]
        return wrong

    def _further(self, judges: Mapping[str, Callable[[Facts], list[str]]], name: str) -> list[str]:
        return judges[name](self._facts()) if name in judges else []

    def _facts(self) -> Facts:
        """The document's evidence, read."""
        evidence, region, rate = self._document["evidence"], self._document["region"], self._document["rate"]
        listed = {name: part for name, part in evidence.items() if isinstance(part, list)}
        states = {"first", "second", "point", "points", "levels", "lower", "upper", "vector"} & listed.keys()
        ball = region["kind"] == "ball"
        return Facts(
            self._layer,
            self._order,
            self._weights,
            self._damping(),
            None if rate is None else _number(rate),
            {name: _number(part) for name, part in evidence.items() if isinstance(part, str) and name != "kind"},
            {name: part for name, part in evidence.items() if isinstance(part, int)},
            {name: self._states(name, listed[name], evidence) for name in states},
            self._points(region["center"], self._problems) if ball else [],
            _number(region["radius"]) if ball else fmpq(0),
            self._boxes() if region["kind"] == "box" else [],
        )

    def _states(self, name: str, names: list[str], evidence: dict[str, Any]) -> list[Point]:
        """The points of one name: of a cycle those of its problem, one after the other; one vector for all problems."""
        if name != "points":
            return self._points(names, 1 if name == "vector" else self._problems)
        shape = self._document["witnesses"][names[0]]["shape"]
        every = self._points(names, shape[0] * self._problems)
        return every[evidence["problem"] :: self._problems]

    # ------------------------------------------------------------------------------------------- everywhere

    def _one_equilibrium(self, found: list[Point] | None) -> list[str]:
        wrong = [] if found is None or len(found) == 1 else [f"there are {len(found)} equilibria"]
        if self._layer.every_c and self._layer.activation is not None:
            determinants = [(identity(self._layer.size) - M).det() for M in self._layer.reached]
            if min(determinants) < 0 < max(determinants):
                wrong.append("det(I - M) changes sign: not one equilibrium for every bias")
        return wrong

    def _damping(self) -> Rational:
        iteration = self._document["claim"].get("iteration")
        return fmpq(1) if iteration is None else _number(iteration["damping"])

    def _rates(self, reached: list[RationalMatrix], points: list[Point]) -> list[str]:
        """The rate and the bound against difference quotients that G has, limits of them and those of some points."""
        rate, bound = (_number(v) for v in (self._document["rate"], self._document["evidence"]["bound"]))
        b = self._damping()
        wrong = [] if rate < 1 else ["the rate is not below 1"]
        wrong += self._quotients(points, bound, rate, b)
        for M in reached:
            if not self._norm_at_most(M, bound):
                wrong.append("the bound is below the Lipschitz constant")
            if not self._norm_at_most(damped(M, b), rate):
                wrong.append("the rate is below the iteration's Lipschitz constant")
        return wrong[:2]

    def _quotients(self, points: list[Point], bound: Rational, rate: Rational, b: Rational) -> list[str]:
        images = [self._layer(y) for y in points]
        wrong = []
        for k in range(1, len(points)):
            (y, z), (u, v) = points[k - 1 : k + 1], images[k - 1 : k + 1]
            before = distance(y, z, self._order, self._weights)
            if distance(u, v, self._order, self._weights) > limit(bound, self._order) * before:
                wrong.append("two points are moved further apart than the bound allows")
            first, second = ([(1 - b) * a + b * g for a, g in zip(*pair, strict=True)] for pair in ((y, u), (z, v)))
            if distance(first, second, self._order, self._weights) > limit(rate, self._order) * before:
                wrong.append("two points are moved further apart than the rate allows")
        return wrong

    def _norm_at_most(self, matrix: RationalMatrix, limit_: Rational, *, strictly: bool = False) -> bool:
        return norm_at_most(conjugated(matrix, self._weights), self._order, limit_, strictly=strictly)

    def _monotone(self) -> list[str]:
        """mu by the inequality itself, the factor by exact equilibria and other points."""
        mu, factor = (_number(self._document["evidence"][name]) for name in ("mu", "factor"))
        wrong, layer, factor_of = [], self._layer, self._single()
        if factor_of is None or layer.activation is None:
            return ["theorem monotone is about s(W z + c)"]
        if not mu > 0:
            wrong.append("mu is not positive")
        ends = sorted(factor_of * slope for slope in (layer.activation.lower, layer.activation.upper))
        V, eye = conjugated(layer.W, self._weights), identity(layer.size)
        product = (eye - V * ends[0]).transpose() * (eye - V * ends[1])
        H = (product + product.transpose()) / 2 - eye * mu
        if layer.activation.name != "gelu" and not is_semidefinite(H.numer_denom()[0]):
            wrong.append("mu exceeds what the inequality allows")
        return wrong + self._factor(factor)

    def _single(self) -> Rational | None:
        """The factor k of a layer `k s(W z + c)`."""
        layer = self._layer
        if layer.Q is None or layer.activation is None or any(x != 0 for x in layer.A.entries()):
            return None
        factor = layer.Q[0, 0]
        return factor if identity(layer.size) * factor == layer.Q else None

    def _factor(self, factor: Rational) -> list[str]:
        found = self._layer.equilibria()
        if not found:
            return []
        for offset in itertools.islice(itertools.product(_GRID, repeat=self._layer.size), 1, 40):
            y = [a + b for a, b in zip(found[0], offset, strict=True)]
            error = distance(y, found[0], self._order, self._weights)
            residual = distance(self._layer(y), y, self._order, self._weights)
            if error > limit(factor, self._order) * residual:
                return ["the factor is too small"]
        return []

    # ------------------------------------------------------------------------------------------------ balls

    def _local(self) -> list[str]:
        region, wrong = self._document["region"], []
        centers, found = self._points(region["center"], self._problems), self._layer.equilibria()
        for center in centers:
            inside = None if found is None else [y for y in found if self._within(y, center, region)]
            if inside is not None and len(inside) != 1:
                wrong.append(f"the ball holds {len(inside)} equilibria")
        if self._document["theorem"] != "local_picard":
            return wrong + self._further(_judge_numbers.THEOREMS, self._document["theorem"])
        if region["norm"] != self._document["norm"]:
            return ["the ball has another norm"]
        return wrong + self._self_maps(centers, _number(region["radius"]))

    def _self_maps(self, centers: list[Point], radius: Rational) -> list[str]:
        """T2's numbers: the constants on the ball, the centre's residual, the damping."""
        evidence, wrong = self._document["evidence"], []
        for center in centers:
            points = self._around(center, radius)
            wrong += self._rates([M for M in map(self._layer.at, points) if M is not None], points)
            moved = distance(self._layer(center), center, self._order, self._weights)
            if moved > limit(_number(evidence["residual"]), self._order):
                wrong.append("the residual is too small")
            if moved > limit((1 - _number(evidence["bound"])) * radius, self._order):
                wrong.append("the centre is moved further than (1 - q) r")
        b = self._damping()
        return wrong if 0 < b <= 1 else [*wrong, "a damping that leaves the ball"]

    def _within(self, y: Point, center: Point, region: dict[str, Any]) -> bool:
        order, weights = self._norm(region["norm"])
        return bool(distance(y, center, order, weights) <= limit(_number(region["radius"]), order))

    def _around(self, center: Point, radius: Rational) -> list[Point]:
        """The centre and points of the ball on either side of it along each coordinate."""
        points = [center]
        for i in range(len(center)):
            reach = radius if self._weights is None else radius / self._weights[i]
            for step in (fmpq(99, 100), fmpq(1, 2**30), fmpq(-1, 2**30), fmpq(-99, 100)):
                points.append([v + step * reach if j == i else v for j, v in enumerate(center)])
        return points

    # ------------------------------------------------------------------------------------------------ boxes

    def _boxes(self) -> list[Box]:
        """One per problem."""
        ends = (self._points(self._document["region"][side], self._problems) for side in ("lower", "upper"))
        return [Box(*pair) for pair in zip(*ends, strict=True)]

    def _local_in_boxes(self) -> list[str]:
        wrong, found = [], self._layer.equilibria()
        for box in self._boxes():
            inside = None if found is None else [y for y in found if box.holds(y)]
            if inside is not None and len(inside) != 1:
                wrong.append(f"the box holds {len(inside)} equilibria")
        if self._document["theorem"] != "local_picard":
            return wrong + self._further(_judge_numbers.THEOREMS, self._document["theorem"])
        outside = _number(self._document["evidence"]["outside"])
        for box in self._boxes():
            points = box.points()
            wrong += self._rates([M for M in map(self._layer.at, points) if M is not None], points)
            wrong += _judge_numbers.kept(self._layer, box, outside)
        b = self._damping()
        return wrong if 0 < b <= 1 else [*wrong, "a damping that leaves the box"]

    # ------------------------------------------------------------------------------------------ refutations

    def refuted(self) -> list[str]:
        """A refutation of a claim that holds, or one whose points do not refute."""
        claim = self._document["claim"]
        if claim["kind"] == "contraction":
            return self._refuted_contraction()
        b = self._damping()
        outer = [damped(M, b) for M in self._layer.outer]
        wrong = self._further(_judge_numbers.WITNESSES, self._document["evidence"]["kind"])
        if any(all(norm_at_most(M, order, fmpq(1), strictly=True) for M in outer) for order in ORDERS):
            wrong.append("the iteration is a contraction everywhere")
        found = self._layer.equilibria()
        if claim["kind"] == "unique_equilibrium" and claim["region"]["kind"] == "global":
            one = self._one_for_every_bias() if self._layer.every_c else found is not None and len(found) == 1
            wrong += ["there is exactly one equilibrium"] if one else []
        if self._layer.activation is None and is_stable(damped(self._layer.A, b)):
            wrong.append("the linear iteration converges")
        return wrong

    def _one_for_every_bias(self) -> bool:
        """Piecewise linear single layers: I - M has one sign of its determinant over all pieces."""
        if self._single() is None or self._layer.activation is None or not self._layer.activation.kinked:
            return False
        return all((identity(self._layer.size) - M).det() > 0 for M in self._layer.outer)

    def _refuted_contraction(self) -> list[str]:
        wrong = []
        if all(self._norm_at_most(M, fmpq(1), strictly=True) for M in self._layer.outer):
            wrong.append("G is a contraction in this norm")
        evidence = self._document["evidence"]
        if evidence["kind"] != "two_points":
            return wrong + self._further(_judge_numbers.WITNESSES, evidence["kind"])
        number = evidence["problem"]
        y, z = (self._points(evidence[name], self._problems)[number] for name in ("first", "second"))
        after = distance(self._layer(y), self._layer(z), self._order, self._weights)
        before = distance(y, z, self._order, self._weights)
        if after < before or y == z:
            wrong.append("G brings the two points closer")
        region = self._document["region"]
        if region["kind"] == "ball":
            center = self._points(region["center"], self._problems)[number]
            if not all(self._within(point, center, region) for point in (y, z)):
                wrong.append("a point lies outside the ball")
        if region["kind"] == "box" and any(self._boxes()[number].misses(point) for point in (y, z)):
            wrong.append("a point lies outside the box")
        return wrong

    def _norm(self, entry: dict[str, Any]) -> tuple[str, Point | None]:
        return entry["order"], None if entry["weights"] is None else self._points(entry["weights"], 1)[0]

    def _points(self, names: list[str], problems: int) -> list[Point]:
        """The witness' numbers, problem by problem."""
        entry = self._document["witnesses"][names[0]]
        values = np.frombuffer(base64.b64decode(entry["data"]), "<f8").reshape(problems, -1)
        return [[rational(v) for v in row] for row in values]


def _read_for(document: dict[str, Any], operator: Operator) -> Layer:
    """The layer, for every bias where the document says so."""
    free = {number for number, entry in enumerate(document["inputs"]) if entry["status"] == "free"}
    first = min(operator.biases)
    return replace(operator.layer, every_c=first in free)


def _number(text: str) -> Rational:
    return rational(float.fromhex(text))
