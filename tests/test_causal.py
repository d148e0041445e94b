"""T8 `causal`: where no component waits for itself, Picard's iteration ends, exactly, after `depth` sweeps.

The truth is rational: networks of sums, products, ReLUs and floors are iterated in `Fraction`s from several starts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from checker_builder import witness
from cli_cases import edit_certificate
from exact import seeded
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import Module, cases, randn

from deqops import InputError, ModelFileError
from deqops._errors import UnsupportedOperationError
from deqops.graph import trace
from deqops.testing import assert_accepted, signed
from deqops.verify import Certificate, Converges, Norm, UniqueEquilibrium, Verdict, certify, check
from deqops.verify._dependence import Dependence
from deqops.verify._enclosures import Constants
from deqops.verify._problem import Problem
from deqops.verify._theorems import _causal
from deqops.verify.checker._levels import LevelWalk
from deqops.verify.checker._subject import Subject

Rows = list[list[Fraction]]
Vector = list[Fraction]
SEEDS = st.integers(0, 10**6)


def causal(G: Any, y: Any, *inputs: Tensor, **options: Any) -> Certificate:
    return certify(G, y, *inputs, theorem="causal", **options)


def is_certified(certificate: Certificate) -> bool:
    return certificate.verdict is Verdict.CERTIFIED


def certified(G: Any, y: Any, *inputs: Tensor, **options: Any) -> int:
    """The depth of a certificate that the checker accepts."""
    found = causal(G, y, *inputs, **options)
    assert is_certified(found), found.explain()
    report = check(found, G, y, *inputs)
    assert report.accepted, report.reasons
    assert found.depth is not None
    return found.depth


def never_certified(G: Any, y: Any, *inputs: Tensor, **options: Any) -> None:
    assert causal(G, y, *inputs, **options).verdict is not Verdict.CERTIFIED
    try:
        found = certify(G, y, *inputs, **options)
    except InputError:  # another theorem met a constant that is infinite
        return
    assert found.theorem != "causal"


# ------------------------------------------------------------------------------------------- rational networks


class Network(nn.Module):
    """`L relu(S y) + (P y) (Q y) + floor(R y) + x` with strictly triangular S, P, Q, R, triangular L, permuted."""

    def __init__(self, size: int, density: float, seed: int) -> None:
        super().__init__()
        generator = seeded(seed)

        def drawn(diagonal: int) -> Tensor:
            kept = torch.rand(size, size, generator=generator) < density
            return (torch.randint(-8, 9, (size, size), generator=generator).double() / 4 * kept).tril(diagonal)

        order = torch.randperm(size, generator=generator)
        self.L = nn.Parameter(drawn(0)[order][:, order])
        self.S, self.P, self.Q, self.R = (nn.Parameter(drawn(-1)[order][:, order]) for _ in range(4))

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        first = torch.relu(y @ self.S.T) @ self.L.T
        return first + (y @ self.P.T) * (y @ self.Q.T) + torch.floor(y @ self.R.T) + x

    def dependences(self) -> list[list[bool]]:
        """Which component of G(y) can depend on which: products of the matrices' patterns."""
        pattern = (self.L != 0).double() @ (self.S != 0).double()
        p, q = (self.P != 0).double(), (self.Q != 0).double()
        p, q = p * (q.sum(1, keepdim=True) > 0), q * (p.sum(1, keepdim=True) > 0)
        return ((pattern + p + q + (self.R != 0).double()) > 0).tolist()

    def exactly(self, y: Vector, x: Vector) -> Vector:
        L, S, P, Q, R = (rational(matrix) for matrix in (self.L, self.S, self.P, self.Q, self.R))
        first = times(L, [max(v, Fraction(0)) for v in times(S, y)])
        product = [a * b for a, b in zip(times(P, y), times(Q, y), strict=True)]
        steps = [Fraction(math.floor(v)) for v in times(R, y)]
        return [sum(parts, Fraction(0)) for parts in zip(first, product, steps, x, strict=True)]


def rational(matrix: Tensor) -> Rows:
    return [[Fraction(v) for v in row] for row in matrix.tolist()]


def times(matrix: Rows, vector: Vector) -> Vector:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


def longest_path(dependences: list[list[bool]]) -> int:
    """In components, of an acyclic relation: after so many products of it with itself nothing is left."""
    size = len(dependences)
    reach, length = [[i == j for j in range(size)] for i in range(size)], 0
    while any(any(row) for row in reach):
        length += 1
        assert length <= size
        reach = [[any(d and reach[k][j] for k, d in enumerate(row)) for j in range(size)] for row in dependences]
    return length


def swept(network: Network, y: Vector, x: Vector, sweeps: int) -> Vector:
    for _ in range(sweeps):
        y = network.exactly(y, x)
    return y


def start(size: int, seed: int) -> Vector:
    return [Fraction(int(v), 8) for v in torch.randint(-40, 41, (size,), generator=seeded(seed))]


@given(SEEDS, st.integers(1, 6), st.floats(0.1, 1.0))
def test_t8_causal_picard_ends_after_depth_sweeps_from_every_start(seed: int, size: int, density: float) -> None:
    """T8 `causal`, in rational arithmetic: the same state from all starts, and it is an equilibrium."""
    network, y = Network(size, density, seed), torch.zeros(1, size, dtype=torch.float64)
    x = start(size, seed + 1)
    depth = certified(network, y, torch.tensor([[float(v) for v in x]], dtype=torch.float64))
    assert depth == longest_path(network.dependences()) <= size
    equilibrium = swept(network, [Fraction(0)] * size, x, depth)
    assert network.exactly(equilibrium, x) == equilibrium
    for number in range(3):
        assert swept(network, start(size, seed + number + 2), x, depth) == equilibrium


@settings(max_examples=12)
@given(SEEDS, st.integers(2, 6))
def test_t8_causal_levels_are_final_sweep_by_sweep(seed: int, size: int) -> None:
    """T8: after n sweeps the components of levels <= n no longer depend on the start."""
    network, y = Network(size, 0.7, seed), torch.zeros(1, size, dtype=torch.float64)
    found = causal(network, y, y)
    assert found.evidence is not None
    assert found.depth is not None
    levels = found.evidence.tensors["levels"][0].reshape(-1).tolist()
    zero = [Fraction(0)] * size
    states = [start(size, seed + number) for number in range(3)]
    for sweep in range(1, found.depth + 1):
        states = [network.exactly(state, zero) for state in states]
        for component in range(size):
            if levels[component] <= sweep:
                assert len({state[component] for state in states}) == 1


@settings(max_examples=12)
@given(SEEDS, st.integers(2, 6), st.sampled_from([5e-324, -1e-300, 1e-17, 1.0]))
def test_t8_causal_one_entry_that_closes_a_cycle_is_seen(seed: int, size: int, entry: float) -> None:
    """T8 near-miss: a dense strict triangle, permuted, with one more entry on or above the diagonal."""
    generator = seeded(seed)
    weight = (1 + torch.rand(size, size, generator=generator, dtype=torch.float64)).tril(-1)
    column = int(torch.randint(size, (1,), generator=generator))
    row = int(torch.randint(column + 1, (1,), generator=generator))
    spoilt = weight.clone()
    spoilt[row, column] = entry
    order = torch.randperm(size, generator=generator)
    y = torch.zeros(1, size, dtype=torch.float64)
    for matrix, holds in ((weight, True), (spoilt, False)):
        W = matrix[order][:, order]
        layer = Module(lambda m, y: (y @ m.W.T).square() - torch.floor(y @ m.W.T), W=W)
        if holds:
            assert certified(layer, y) == size
        else:
            assert causal(layer, y).verdict is not Verdict.CERTIFIED


def test_t8_causal_products_of_constants_that_underflow_are_not_zero() -> None:
    """T8 near-miss: 1e-200 times 1e-200 is a dependence, though both float products are 0."""
    y, small = torch.zeros(1, 2, dtype=torch.float64), 1e-200 * torch.eye(2, dtype=torch.float64)
    assert float((small @ small).abs().max()) == float((small * small).abs().max()) == 0
    for layer in (
        Module(lambda m, y: (y @ (m.A @ m.B)).square(), A=small, B=small),
        Module(lambda m, y: (y @ (m.A * m.B)).square(), A=small, B=small),
        Module(lambda m, y: (y @ (m.A / 1e300)).square(), A=small),
    ):
        never_certified(layer, y)


# ------------------------------------------------------------------------------------------------- trajectories


def shifted(first: Tensor, y: Tensor) -> Tensor:
    """first, y_1, ..., y_{T-1} along dimension 0."""
    return torch.cat([first, y[:-1]])


def test_t8_causal_a_diffusion_trajectory_ends_in_as_many_sweeps_as_steps() -> None:
    """y_t = y_{t-1} + step(y_{t-1}) with fixed noise: 12 steps of 5 components in 12 sweeps, not 60."""
    y, noise, first = randn(12, 5), randn(12, 5, seed=1), randn(1, 5, seed=2)

    def sampler(m: Any, y: Tensor, noise: Tensor, first: Tensor) -> Tensor:
        past = shifted(first, y)
        return past + 3 * torch.nn.functional.silu(past @ m.W).square() @ m.V + noise

    G = Module(sampler, W=randn(5, 5, seed=3, scale=4), V=randn(5, 5, seed=4, scale=4))
    assert certified(G, y, noise, first, batch_dims=0) == 12
    assert all(record.free for record in causal(G, y, noise, first, batch_dims=0).inputs)


def test_t8_causal_noise_that_is_drawn_is_not_one_map() -> None:
    y = randn(4, 3)
    found = causal(lambda y: shifted(y[:1] * 0, y) + torch.randn_like(y), y, batch_dims=0)
    assert found.verdict is Verdict.UNKNOWN
    assert "rand" in found.reason


@pytest.mark.parametrize("rule", ["explicit", "implicit"])
def test_t8_causal_volterra_with_explicit_quadrature_ends_and_with_implicit_does_not(rule: str) -> None:
    """y(t) = 1 + 50 times the integral of y(s)^2 from 0 to t: the rectangle rule; the trapezoidal one uses y(t)."""
    nodes, step = 16, 1 / 16
    y = torch.zeros(nodes, dtype=torch.float64)

    def volterra(m: Any, y: Tensor) -> Tensor:
        values = 50 * step * y.square()
        past = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumsum(values, 0)[:-1]])
        return 1 + past if rule == "explicit" else 1 + past + (values - values[0]) / 2

    if rule == "explicit":
        assert certified(Module(volterra), y, batch_dims=0) == nodes
    else:
        never_certified(Module(volterra), y, batch_dims=0)


def test_t8_causal_shifts_with_wrap_around_are_seen() -> None:
    """A roll is a cycle; a roll whose first entry is replaced, or multiplied by 0, is a shift."""
    y, keep = randn(6), torch.tensor([0.0] + [1.0] * 5, dtype=torch.float64)
    never_certified(lambda y: torch.roll(y, 1, 0).exp(), y, batch_dims=0)
    assert certified(Module(lambda m, y: (m.keep * torch.roll(y, 1, 0)).exp(), keep=keep), y, batch_dims=0) == 6
    never_certified(Module(lambda m, y: (m.keep * torch.roll(y, 1, 0)).exp(), keep=keep + 1e-300), y, batch_dims=0)


# ---------------------------------------------------------------------------------------------------- attention


class Decoder(nn.Module):
    """A causal transformer block whose position t reads the state before t: Jacobi decoding of embeddings."""

    def __init__(self, length: int, width: int, fill: float, norm: str = "layer", shift: bool = True) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Parameter(randn(width, width, seed=n, scale=0.7)) for n in range(1, 5))
        self.begin = nn.Parameter(randn(1, width, seed=5))
        self.register_buffer("future", torch.ones(length, length, dtype=torch.bool).triu(1))
        self.fill, self.kind, self.shift = fill, norm, shift

    def forward(self, y: Tensor) -> Tensor:
        x = torch.cat([self.begin.expand(y.shape[0], 1, -1), y[:, :-1]], dim=1) if self.shift else y
        if self.kind == "layer":
            h = nn.functional.layer_norm(x, x.shape[-1:])
        else:
            h = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        scores = (h @ self.q) @ (h @ self.k).transpose(1, 2) / math.sqrt(x.shape[-1])
        weights = torch.softmax(scores.masked_fill(self.future, self.fill), dim=-1)
        h = x + weights @ (h @ self.v)
        return h + torch.nn.functional.gelu(h @ self.out)


@pytest.mark.parametrize("norm", ["layer", "root mean square"])
def test_t8_causal_a_decoder_ends_in_as_many_sweeps_as_positions(norm: str) -> None:
    """Jacobi decoding: 7 positions of width 4, two problems."""
    y, G = randn(2, 7, 4), Decoder(7, 4, -math.inf, norm)
    assert certified(G, y) == 7
    first, second = y, randn(2, 7, 4, seed=9)
    for _ in range(7):
        first, second = G(first), G(second)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-11)
    torch.testing.assert_close(G(first), first, rtol=0, atol=1e-11)


@pytest.mark.parametrize("fill", [-1e9, torch.finfo(torch.float64).min, -1e308, 0.0])
def test_t8_causal_a_finite_mask_is_no_independence(fill: float) -> None:
    """T8 near-miss: exp(-1e9) is 0 in floats, and positive in truth."""
    never_certified(Decoder(5, 3, fill), randn(1, 5, 3))


def test_t8_causal_attention_to_oneself_is_a_cycle() -> None:
    never_certified(Decoder(5, 3, -math.inf, shift=False), randn(1, 5, 3))


@pytest.mark.parametrize(("fill", "holds"), [(-math.inf, True), (-1e9, False)])
def test_t8_causal_a_mask_that_is_added(fill: float, holds: bool) -> None:
    def attend(m: Any, y: Tensor) -> Tensor:
        x = torch.cat([torch.ones(1, dtype=torch.float64), y[:-1]])  # a fixed first value: each row has something
        return torch.softmax(x[:, None] * x + torch.full((4, 4), fill, dtype=torch.float64).triu(1), dim=1) @ x

    if holds:
        assert certified(Module(attend), randn(4), batch_dims=0) == 4
    else:
        never_certified(Module(attend), randn(4), batch_dims=0)


def test_t8_causal_a_mask_that_is_multiplied() -> None:
    lower, y = torch.ones(4, 4, dtype=torch.float64).tril(-1), randn(4)
    product = Module(lambda m, y: (torch.sigmoid(3 * y) * m.lower) @ y + 1, lower=lower)
    assert certified(product, y, batch_dims=0) == 4
    spoilt = Module(product.function, lower=lower + 1e-300 * torch.eye(4, dtype=torch.float64))
    never_certified(spoilt, y, batch_dims=0)


def test_t8_causal_a_row_without_anything_to_attend_to_is_refused() -> None:
    """softmax of nothing but minus infinity is no number."""
    future = torch.ones(4, 4, dtype=torch.bool).triu()
    G = Module(lambda m, y: torch.softmax((y[:, None] * y).masked_fill(future, -math.inf), dim=1) @ y)
    found = causal(G, randn(4), batch_dims=0)
    assert "nothing but minus infinity" in found.reason


# --------------------------------------------------------------------------------------- domains and definitions

S = torch.ones(4, 4, dtype=torch.float64).tril(-1)
PAST: dict[str, Callable[[Tensor], Tensor]] = {
    "division by a state": lambda h: 1 / h,
    "logarithm": torch.log,
    "root": torch.sqrt,
    "inverse root": torch.rsqrt,
    "negative power": lambda h: h**-1,
    "half power": lambda h: h**0.5,
    "division by a square": lambda h: 1 / h.square(),
    "infinite clamp": lambda h: h.clamp(min=math.inf),
    "infinite constant": lambda h: h + math.inf,
    "NaN": lambda h: h * math.nan,
    "zero divisor": lambda h: h / torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64),
    "order": lambda h: torch.argsort(h).to(h.dtype),
    "minus infinity out": lambda h: h.masked_fill(torch.tensor([True, False, False, False]), -math.inf),
    "standard deviation": lambda h: h - torch.std(h, dim=-1, keepdim=True),
}


@pytest.mark.parametrize("name", list(PAST))
def test_t8_causal_what_may_be_undefined_somewhere_is_refused(name: str) -> None:
    """The iteration must be defined from every start: whatever is not shown to be is not certified."""
    never_certified(Module(lambda m, y: PAST[name](y @ m.S.T), S=S), randn(1, 4))


DEFINED: dict[str, Callable[[Tensor], Tensor]] = {
    "positive divisor": lambda h: h / (1 + h.exp()),
    "root of a square": lambda h: torch.sqrt(h.square() + 1),
    "logarithm of a sum": lambda h: torch.log(h.exp() + 1e-3),
    "log1p": lambda h: torch.log1p(h.abs()),
    "reciprocal": lambda h: torch.reciprocal(torch.maximum(h, torch.ones((), dtype=torch.float64))),
    "cube": lambda h: h**3,
    "inverse of a positive power": lambda h: (h.square() + 1) ** -0.5,
    "clamped divisor": lambda h: h / h.clamp(min=0.5),
    "jumps": lambda h: torch.where(h > 0, torch.ones_like(h), torch.round(h)),
    "soft": lambda h: torch.nn.functional.softplus(h) + torch.nn.functional.elu(h) + torch.tanh(h).erf(),
    "constant divisor": lambda h: h / torch.tensor([1.0, -2.0, 1e-300, 1.0], dtype=torch.float64),
}


@pytest.mark.parametrize("name", list(DEFINED))
def test_t8_causal_what_is_defined_everywhere_is_not_refused(name: str) -> None:
    assert certified(Module(lambda m, y: DEFINED[name](y @ m.S.T), S=S), randn(1, 4)) == 4


def test_t8_causal_reductions_and_normalisations_couple_their_dimension() -> None:
    y, G = randn(4), Module(lambda m, y: m.S @ y, S=S)
    for couple in (
        lambda h: h - h.mean(),
        lambda h: torch.softmax(h, 0),
        lambda h: nn.functional.layer_norm(h, h.shape),
        lambda h: h + h.amax(0),
        lambda h: h * h.sum(),
        lambda h: h.flip(0),
        lambda h: torch.cumsum(h.flip(0), 0),
    ):
        never_certified(Module(lambda m, y, f=couple: f(m.S @ y), S=S), y, batch_dims=0)
    assert certified(G, y, batch_dims=0) == 4
    assert certified(Module(lambda m, y: torch.cumsum(m.S @ y, 0).exp(), S=S), y, batch_dims=0) == 4


# ------------------------------------------------------------------------------------------------ certificates


def example() -> tuple[Module, Tensor, Tensor]:
    W = randn(4, 4, seed=1, scale=3).tril(-1)
    order = torch.tensor([2, 0, 3, 1])
    return Module(lambda m, y, x: (y @ m.W.T).square() + x, W=W[order][:, order]), randn(2, 4), randn(2, 4, seed=2)


def test_t8_causal_says_what_it_claims_and_no_more() -> None:
    G, y, x = example()
    found = causal(G, y, x)
    assert is_certified(found)
    assert isinstance(found.claim, Converges)
    assert found.depth == found.iterations(1e-300, 1e300) == 4
    assert found.rate is None
    assert found.factor is None
    assert found.bound is None
    assert all(record.free for record in found.inputs)
    with pytest.raises(InputError, match="bounds no error"):
        found.error_bound(G, y, x)
    damped = causal(G, y, x, damping=0.5)
    assert is_certified(damped)
    assert isinstance(damped.claim, UniqueEquilibrium)
    assert_accepted(damped, G, y, x)
    with pytest.raises(InputError, match="no rate"):
        damped.iterations(1e-3, 1.0)
    with pytest.raises(InputError, match="positive"):
        found.iterations(-1.0, 1.0)


def test_t8_causal_other_bounds_refuse_it() -> None:
    from deqops.verify import gradient_error_bound, rounding_bound, sensitivity_bound

    G, y, x = example()
    found = causal(G, y, x)
    for bound in (rounding_bound, sensitivity_bound, gradient_error_bound):
        with pytest.raises((InputError, UnsupportedOperationError)):
            bound(found, G, y, x)


@pytest.mark.parametrize("norm", ["auto", "linf", "weighted_l1", Norm("l1", (torch.full((4,), 2.0).double(),))])
def test_t8_causal_holds_in_every_norm(norm: Any) -> None:
    G, y, x = example()
    assert certified(G, y, x, norm=norm) == 4


def test_t8_causal_auto_finds_it_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    G, y, x = example()
    assert certify(G, y, x).theorem == "causal"
    monkeypatch.setattr(_causal, "LARGEST_AUTO", 3)
    assert certify(G, y, x).theorem != "causal"
    assert certified(G, y, x) == 4


def test_t8_causal_inputs_are_free_unless_their_zeros_count() -> None:
    y, x = randn(1, 4), randn(1, 4, seed=1)
    scaled = Module(lambda m, y, x: x * (y @ m.S.T).square() + torch.tanh(x), S=S)
    assert causal(scaled, y, x).inputs[0].free
    assert certified(scaled, y, x) == 4
    gate = torch.ones(4, 4, dtype=torch.float64).tril(-1)
    gated = Module(lambda m, y, g: ((g * m.W) @ y.T).T.square(), W=randn(4, 4, seed=2))
    assert certified(gated, y, gate) == 4
    assert not causal(gated, y, gate).inputs[0].free
    assert not check(causal(gated, y, gate), gated, y, gate + 1).accepted
    never_certified(gated, y, gate + 1e-300)
    divided = Module(lambda m, y, x: (y @ m.S.T) / x, S=S)
    assert not causal(divided, y, x).inputs[0].free
    assert certified(divided, y, x) == 4
    never_certified(divided, y, torch.zeros(1, 4, dtype=torch.float64))
    chosen = Module(lambda m, y, x: torch.where(x > 0, y @ m.S.T, y @ m.S), S=S)
    never_certified(chosen, y, torch.tensor([[-1.0, 1.0, 1.0, 1.0]], dtype=torch.float64))
    assert certified(chosen, y, x.abs()) == 4


def test_t8_causal_each_problem_has_its_own_order() -> None:
    """Two problems whose orders are opposite; the smaller of a tree of states comes first."""
    gates = torch.stack([S, S.T])
    G = Module(lambda m, y: torch.bmm(m.gates, y[:, :, None])[:, :, 0].exp(), gates=gates)
    y = randn(2, 4)
    assert certified(G, y, batch_dims=1) == 4
    levels = causal(G, y).evidence.tensors["levels"][0]  # type: ignore[union-attr]
    assert levels.tolist() == [[1, 2, 3, 4], [4, 3, 2, 1]]
    state = {"a": randn(2, 3), "b": randn(2, 3, seed=1)}
    tree = Module(lambda m, s: {"a": s["b"].exp(), "b": torch.zeros_like(s["b"])})  # type: ignore[arg-type,return-value]
    assert certified(tree, state) == 2


def test_t8_causal_survives_a_file(tmp_path: Path) -> None:
    G, y, x = example()
    path = tmp_path / "c.json"
    causal(G, y, x).save(path)
    assert Certificate.load(path).depth == 4
    assert_accepted(path, G, y, x)
    evidence = json.loads(path.read_text())["evidence"]
    with pytest.raises(ModelFileError, match="levels"):
        Certificate.load(edit_certificate(path, evidence=evidence | {"depth": 3}))


def spoilt(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Documents that claim more than is true, or what does not follow."""
    levels = torch.tensor([[3.0, 1.0, 4.0, 2.0]] * 2, dtype=torch.float64)

    def with_levels(changed: Tensor, depth: int) -> dict[str, Any]:
        evidence = document["evidence"] | {"depth": depth}
        hypotheses = [dict(h) for h in document["hypotheses"]]
        hypotheses[1]["value"] = float(depth).hex()
        return document | {
            "evidence": evidence, "hypotheses": hypotheses, "witnesses": {"levels_0": witness(changed)}
        }  # fmt: skip

    cases = {f"component {k} earlier": with_levels(levels.clone(), 4) for k in range(4)}
    for k in range(4):
        changed = levels.clone()
        changed[1, k] -= 1
        cases[f"component {k} earlier"] = with_levels(changed, 4)
    region = {"kind": "global"}
    first, second = document["hypotheses"]
    return cases | {
        "all at once": with_levels(torch.ones_like(levels), 1),
        "opposite": with_levels(5 - levels, 4),
        "fewer sweeps": with_levels(levels, 3),
        "more sweeps than levels": with_levels(levels, 5),
        "halves": with_levels(levels - 0.5, 4),
        "another shape": with_levels(levels[:1], 4),
        "levels below 1": with_levels(levels - 4, 0),
        "a contraction": document | {"claim": {"kind": "contraction", "norm": document["norm"], "region": region}},
        "a damped iteration": document
        | {
            "claim": {
                "kind": "converges",
                "iteration": {"kind": "picard", "damping": (0.5).hex()},
                "region": region,
            }
        },
        "a rate": document | {"rate": (0.5).hex()},
        "another theorem": document | {"theorem": "monotone"},
        "a cycle": document | {"hypotheses": [first | {"value": (1.0).hex()}, second]},
        "a larger limit": document | {"hypotheses": [first, second | {"limit": (9.0).hex()}]},
        "another model": document | {"model": {"fingerprint": "0" * 64}},
        "refuted": document | {"verdict": "refuted"},
    }


def test_t8_causal_spoilt_certificates_are_rejected() -> None:
    G, y, x = example()
    document = causal(G, y, x).document()
    assert_accepted(signed(document), G, y, x)
    for name, changed in spoilt(document).items():
        assert not check(signed(changed), G, y, x).accepted, name


def test_t8_causal_an_input_whose_zeros_count_cannot_be_declared_free() -> None:
    gate, y = torch.ones(4, 4, dtype=torch.float64).tril(-1), randn(1, 4)
    gated = Module(lambda m, y, g: ((g * m.W) @ y.T).T.square(), W=randn(4, 4, seed=2))
    document = causal(gated, y, gate).document()
    document["inputs"][0] |= {"status": "free", "sha256": None}
    assert not check(signed(document), gated, y, gate).accepted


# ------------------------------------------------------------------------------------------------ the structure

OPERATORS: dict[str, tuple[Any, Tensor, tuple[Tensor, ...], int]] = {
    **cases(),
    "decoder": (Decoder(3, 2, -math.inf), randn(1, 3, 2), (), 1),
    "cumsum": (Module(lambda m, y: torch.cumsum(y, 0).square() + torch.roll(y, (1, -1), (0, 1))), randn(3, 2), (), 0),
    "flat roll": (Module(lambda m, y: torch.roll(y, 2).tanh() * y.amax(1, keepdim=True)), randn(2, 3), (), 0),
    "network": (Network(5, 0.4, 3), randn(1, 5), (randn(1, 5, seed=1),), 1),
    "product": (Module(lambda m, y: y.T @ (m.A * y) @ m.A, A=randn(3, 3).tril()), randn(3, 3), (), 0),
    "choice": (Module(lambda m, y: torch.where(m.A > 0, y, y.T.minimum(m.A)), A=randn(3, 3)), randn(3, 3), (), 0),
}


@pytest.mark.parametrize("name", list(OPERATORS))
def test_the_structure_holds_every_derivative_and_is_the_checkers(name: str) -> None:
    """An entry of the Jacobian that is not 0 is a dependence; certifier and checker see the same dependences."""
    module, y, inputs, batch_dims = OPERATORS[name]
    problem = Problem(trace(module, y, *inputs, batch_dims=batch_dims), y, inputs)
    try:
        structure = Dependence(problem.graph, Constants(problem.graph), free=False)
    except UnsupportedOperationError:
        pytest.skip("refused by name")
    J = torch.autograd.functional.jacobian(lambda z: module(z, *inputs), y).reshape(y.numel(), y.numel())
    subject = Subject(problem.graph, frozenset(), ())
    seen = torch.zeros_like(J, dtype=torch.bool)
    for component in range(y.numel()):
        probe = torch.zeros(y.numel(), dtype=torch.bool)
        probe[component] = True
        seen[:, component] = structure.moving([probe.reshape(y.shape)])[0].reshape(-1)
        levels = [probe.reshape(y.shape).long().numpy()]
        for folded in (False, True):
            found = LevelWalk(subject, levels, folded).outputs[0].level
            assert torch.equal(torch.from_numpy(found > 0).reshape(-1), seen[:, component])
    assert bool((seen | (J == 0)).all())
    if name in ("decoder", "network", "cumsum"):
        assert not bool(seen.all())


@settings(max_examples=12)
@given(SEEDS, st.integers(1, 5), st.integers(1, 4))
def test_cumsum_and_roll_mean_what_torch_means(seed: int, rows: int, columns: int) -> None:
    """The small vocabulary's image contains the exact sums."""
    y = torch.randint(-1000, 1000, (rows, columns), generator=seeded(seed)).double() / 8
    shift = seed % 7 - 3
    for G in (
        lambda y: torch.cumsum(y, 0),
        lambda y: torch.cumsum(y, -1),
        lambda y: torch.roll(y, shift, 1),
        lambda y: torch.roll(y, (shift, 1), (0, 1)),
        lambda y: torch.roll(y, shift),
    ):
        image = Problem(trace(G, y, batch_dims=0), y, ()).image([y])[0]
        assert bool(((image.mid - G(y)).abs() <= image.rad).all())


@given(SEEDS)
def test_t8_causal_random_patterns_are_certified_just_when_acyclic(seed: int) -> None:
    """Any pattern of 4 components: certified exactly where the relation has no cycle."""
    W = torch.randn(4, 4, generator=seeded(seed), dtype=torch.float64)
    W = W * (torch.rand(4, 4, generator=seeded(seed + 1)) < 0.3)
    assume(bool(W.any()))
    y, reach = torch.zeros(1, 4, dtype=torch.float64), (W != 0).double()
    acyclic = not bool(torch.linalg.matrix_power(reach, 4).any())
    layer = Module(lambda m, y: (y @ m.W.T).square() * 7, W=W)
    if acyclic:
        assert certified(layer, y) == longest_path((W != 0).tolist())
    else:
        assert causal(layer, y).verdict is not Verdict.CERTIFIED
