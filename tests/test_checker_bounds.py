"""The checker's bounds: sound and tight, against exact or independently computed truth."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from checker_builder import GraphBuilder
from flint import arb, ctx, fmpq_mat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker import _definite
from deqops.verify.checker import _matrix as matrices
from deqops.verify.checker._blocks import _block_norms
from deqops.verify.checker._elementary import elementary
from deqops.verify.checker._gains import lipschitz_bound, row_norms
from deqops.verify.checker._matrix import Matrix
from deqops.verify.checker._matrix_norm import collatz_wielandt_bound, factored_bound, spectral_bound
from deqops.verify.checker._network import Walk
from deqops.verify.checker._refusal import Rejected
from deqops.verify.checker._stack import simple_bound
from deqops.verify.checker._values import Values


@pytest.fixture(autouse=True)
def _precision():
    with ball.working_precision():
        yield


def constant_of(graph: Any, order: str, weights: list[torch.Tensor] | None = None) -> float:
    walk = Walk(graph, Values(graph, None, frozenset()))
    scaled = None if weights is None else [ball.exact(w) for w in weights]
    return float(lipschitz_bound(walk.network.sources, walk.outputs, order, scaled))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ----------------------------------------------------------------------------------------------- matrix norms


def gram_exceeds(matrix: torch.Tensor, bound: float) -> bool:
    """Whether ||W||_2 >= bound, decided exactly: bound^2 I - W^T W has a pivot that is not positive."""
    n = matrix.shape[1]
    w = [[Fraction(float(x)) for x in row] for row in matrix]
    t = Fraction(bound) ** 2
    a = [[(t if i == j else 0) - sum(r[i] * r[j] for r in w) for j in range(n)] for i in range(n)]
    for k in range(n):
        if a[k][k] <= 0:
            return True
        for i in range(k + 1, n):
            factor = a[i][k] / a[k][k]
            a[i] = [x - factor * y for x, y in zip(a[i], a[k], strict=True)]
    return False


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([1e-30, 1.0, 1e30]))
def test_factored_bound_is_above_the_exact_norm_and_close(m: int, n: int, seed: int, scale: float) -> None:
    w = random(m, n, seed=seed) * scale
    with ball.working_precision():
        bound = float(factored_bound(ball.exact(w)))
    slightly_above = math.nextafter(bound, math.inf)
    assert not gram_exceeds(w, slightly_above)
    assert bound <= float(np.linalg.norm(w.numpy(), 2)) * (1 + 1e-13)


@pytest.mark.parametrize("n", [64, 200])
def test_factored_bound_is_tight_for_householder_products(n: int) -> None:
    size = 2 ** int(math.log2(n))
    signs = torch.where(random(size) < 0, -1.0, 1.0).double()
    house = torch.eye(size, dtype=torch.float64) - 2 * torch.outer(signs, signs) / size  # norm exactly 1
    bound = factored_bound(ball.exact(house))
    assert bool(bound >= 1)
    assert bool(bound <= 1 + arb(2) ** -42)


def test_factored_bound_of_rank_deficient_zero_and_tiny_matrices() -> None:
    column = random(5, 1)
    outer = column @ torch.ones(1, 4, dtype=torch.float64)
    truth = float(outer.norm())
    assert truth * (1 - 1e-15) <= float(factored_bound(ball.exact(outer))) <= truth * (1 + 1e-13)
    assert factored_bound(ball.exact(torch.zeros(3, 3))) == 0
    tiny = factored_bound(ball.exact(torch.tensor([[5e-324]], dtype=torch.float64)))
    assert arb(5e-324) <= tiny <= arb(5e-324) * (1 + arb(2) ** -40)


def test_factored_bound_counts_the_radius_of_its_entries() -> None:
    thick = np.array([[arb(1, 0.25), arb(0)], [arb(0), arb(0.5)]], dtype=object)
    assert bool(factored_bound(thick) >= 1.25)


def test_norms_of_entries_that_are_nearly_0_are_numbers() -> None:
    """A sum of squares of such balls reaches below 0, where no root is."""
    tiny = ball.full(arb(0, 2.0**-160), (2, 2))
    assert 2.0**-160 <= float(factored_bound(tiny)) < 2.0**-158
    assert float(simple_bound(ball.absolute(tiny))) < 2.0**-158
    assert float(row_norms(matrices.from_dense(tiny))[0]) < 2.0**-158


@pytest.mark.parametrize("radius", [2.0**-20, 2.0**-10, 0.5])
def test_the_lowest_eigenvalue_counts_the_radius_of_its_entries(radius: float) -> None:
    """`[[1 + e, 1], [1, 1 + e]]` has e, and with entries that far off as little as `e - 2 radius`."""
    e = 2.0**-20
    diagonal, other = arb(1 + e, radius), arb(1, radius)
    bound = _definite.lowest_eigenvalue(np.array([[diagonal, other], [other, diagonal]], dtype=object))
    assert -5 * radius < float(bound) <= e - 2 * radius


@pytest.mark.parametrize("least", [2.0**-30, 0.03, 5.0])
def test_the_lowest_eigenvalue_is_close_and_leaves_room_for_the_radius(least: float) -> None:
    """Far from 0 it is worth more than "positive": entries may be off by nearly as much."""
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    matrix = turned @ np.diag([least, 1.0, 1.5, 2.0, 7.0, 9.0]) @ turned.T
    exact = ball.balls(((matrix + matrix.T) / 2).reshape(-1).tolist(), (6, 6))
    bound, true = float(_definite.lowest_eigenvalue(exact)), min(least, 1.0)
    assert true - 1e-8 <= bound <= true + 1e-12
    thick = ball.each(lambda entry: arb(entry.mid(), 2.0**-12), exact)
    if least > 0.01:
        assert bool(_definite.lowest_eigenvalue(thick) > 0)


def test_the_lowest_eigenvalue_counts_what_a_wrong_factor_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factor is LAPACK's; here it is one of `[[1, 1 - e], [1 - e, 1]]`, which is positive definite."""
    right, off = _definite.factor_in_integers, 2.0**-20 * (1 - np.eye(2))
    monkeypatch.setattr(_definite, "factor_in_integers", lambda matrix, bits: right(matrix - off / 2, bits))
    bound = _definite.lowest_eigenvalue(ball.full(1, (2, 2)))
    assert -(2.0**-19) < float(bound) <= 0


@pytest.mark.parametrize("signed", [False, True])
def test_collatz_wielandt_bounds_sparse_matrices(signed: bool) -> None:
    dense = random(12, 9, seed=3)
    dense = torch.where(random(12, 9, seed=4).abs() < 0.8, torch.zeros_like(dense), dense)
    dense = dense if signed else dense.abs()
    matrix = matrices.from_dense(ball.exact(dense))
    truth = float(np.linalg.norm(dense.abs().numpy(), 2))
    bound = float(collatz_wielandt_bound(matrix))
    assert truth * (1 - 1e-15) <= bound <= truth * (1 + 1e-12)
    assert float(np.linalg.norm(dense.numpy(), 2)) * (1 - 1e-15) <= float(spectral_bound(matrix)) <= bound


def normalised_graph(nodes: int, seed: int) -> tuple[matrices.Matrix, int]:
    """A symmetric graph of several components with exact symmetric normalisation (norm exactly 1)."""
    rng = np.random.default_rng(seed)
    a = np.triu(rng.random((nodes, nodes)) < 1.5 / nodes, 1)
    a = (a | a.T | np.eye(nodes, dtype=bool)).astype(int)
    rows, cols = np.nonzero(a)
    root = [1 / arb(int(d)).sqrt() for d in a.sum(0)]
    values = np.array([root[i] * root[j] for i, j in zip(rows, cols, strict=True)], dtype=object)
    return matrices.Matrix(rows, cols, values, (nodes, nodes)), len(rows)


@pytest.mark.parametrize("seed", range(4))
def test_a_symmetrically_normalised_graph_has_norm_one(seed: int) -> None:
    matrix, edges = normalised_graph(300, seed)
    assert edges > 300
    bound = collatz_wielandt_bound(matrix)
    assert bool(bound >= 1 - arb(2) ** -100)
    assert bool(bound <= 1 + arb(2) ** -45)


def test_sparse_products_and_sums_are_exact() -> None:
    a, b, c = (
        torch.randint(-3, 4, shape).double() * (random(*shape, seed=s) > 0)
        for s, shape in ((1, (5, 7)), (2, (7, 4)), (3, (5, 4)))
    )
    sparse = [matrices.from_dense(ball.exact(t)) for t in (a, b, c)]
    product = matrices.product(sparse[0], sparse[1])
    assert product is not None
    total = matrices.sum_of(product, sparse[2]).dense()
    exact = fmpq_mat(5, 7, [int(x) for x in a.flatten()]) * fmpq_mat(7, 4, [int(x) for x in b.flatten()])
    exact = exact + fmpq_mat(5, 4, [int(x) for x in c.flatten()])
    assert all(x == arb(int(y.numer())) for x, y in zip(total.flat, exact.entries(), strict=True))


# ----------------------------------------------------------------------------------------- elementwise slopes

PLAIN = [
    "tanh",
    "sigmoid",
    "relu",
    "relu6",
    "abs",
    "softsign",
    "silu",
    "mish",
    "selu",
    "hardswish",
    "erf",
    "atan",
    "sin",
    "cos",
]
FUNCTIONS = [(name, {}) for name in PLAIN] + [
    ("gelu", {"approximate": "none"}),
    ("gelu", {"approximate": "tanh"}),
    ("leaky_relu", {"negative_slope": 0.1}),
    ("elu", {"alpha": 1.5}),
    ("softplus", {"beta": 2.0, "threshold": 20.0}),
    ("hardtanh", {"minimum": -0.5, "maximum": 2.0}),
    ("clamp", {"minimum": None, "maximum": 1.0}),
]
TORCH = {
    "gelu": torch.nn.functional.gelu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "elu": torch.nn.functional.elu,
    "softplus": torch.nn.functional.softplus,
    "hardtanh": lambda x, minimum, maximum: x.clamp(minimum, maximum),
    "clamp": lambda x, minimum, maximum: x.clamp(minimum, maximum),
    "relu6": torch.nn.functional.relu6,
    "softsign": torch.nn.functional.softsign,
    "silu": torch.nn.functional.silu,
    "mish": torch.nn.functional.mish,
    "selu": torch.nn.functional.selu,
    "hardswish": torch.nn.functional.hardswish,
}


@pytest.mark.parametrize(("name", "attributes"), FUNCTIONS)
def test_values_agree_with_torch_and_global_slopes_are_reached(name: str, attributes: dict[str, Any]) -> None:
    table = elementary(name, attributes)
    assert table is not None
    x = torch.linspace(-9, 9, 3601, dtype=torch.float64)
    y = TORCH.get(name, getattr(torch, name, None))(x, **attributes)
    ours = [table.at(arb(float(v))) for v in x[::40]]
    assert max(abs(float(a) - float(b)) for a, b in zip(ours, y[::40], strict=True)) < 1e-8
    quotients = float(((y[1:] - y[:-1]) / (x[1:] - x[:-1])).abs().max())
    bound = max(abs(float(end)) for end in table.global_slopes())
    assert quotients <= bound + 1e-9
    assert bound <= quotients + 6e-3


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: str(function[0]))
@example(-3.0, 1.0)  # the slope's sign on either side of 0, and a break or a turn within
@example(2.0, 1.0)
@example(-1.0, 2.0)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(-6, 6), st.floats(0, 3))
def test_images_and_slopes_over_intervals(function: tuple[str, dict[str, Any]], low: float, width: float) -> None:
    name, attributes = function
    with ball.working_precision():
        table = elementary(name, attributes)
        high = low + width
        bottom, top = (float(v) for v in table.image(arb(low), arb(high)))
        least, most = (float(end) for end in table.slopes(arb(low), arb(high)))
        slope = max(abs(least), abs(most))
    x = torch.linspace(low, high, 801, dtype=torch.float64)
    y = TORCH.get(name, getattr(torch, name, None))(x, **attributes)
    assert bottom - 1e-8 <= float(y.min())
    assert float(y.max()) <= top + 1e-8
    assert bottom >= float(y.min()) - 0.01 * width - 1e-8
    assert top <= float(y.max()) + 0.01 * width + 1e-8
    if width > 0.01:
        signed = (y[1:] - y[:-1]) / (x[1:] - x[:-1])
        assert least - 1e-6 <= float(signed.min())
        assert float(signed.max()) <= most + 1e-6
        quotients = float(signed.abs().max())
        if name not in ("relu", "relu6", "leaky_relu", "hardtanh", "clamp", "selu", "hardswish", "elu"):
            assert slope <= quotients + 0.02


@pytest.mark.parametrize(
    ("name", "attributes"),
    [("gelu", {"approximate": "none"}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("mish", {})],
)
def test_pieces_are_monotone(name: str, attributes: dict[str, Any]) -> None:
    """Away from the breakpoints the slope changes neither its sign nor its direction."""
    table = elementary(name, attributes)
    ctx.prec = 2000  # tells numbers near 1 apart far out in the tails
    grid = [arb(k) / 16 for k in range(-16 * 12, 16 * 12)]
    slope = table.pieces[0][1]
    values = [slope(x) for x in grid]
    turns = [
        g for a, b, c, g in zip(values, values[1:], values[2:], grid[1:], strict=False) if not (a < b < c or a > b > c)
    ]
    signs = [g for a, b, g in zip(values, values[1:], grid, strict=False) if not (a * b > 0)]
    for x in turns + signs:
        assert any(abs(x - point) <= arb(1) / 8 for point in table.breaks)
    assert len(turns) <= 6
    assert len(signs) <= 2
    assert abs(slope(arb(-60))) < 1e-20
    assert abs(slope(arb(60)) - 1) < 1e-20


def test_refusals_of_functions() -> None:
    assert elementary("exp", {}).global_slopes() is None
    assert elementary("sign", {}) is None
    with pytest.raises(Rejected, match="domain"):
        elementary("log", {}).slopes(arb(-1), arb(2))
    with pytest.raises(Rejected, match="softplus"):
        elementary("softplus", {"beta": 1.0, "threshold": 1.0})


# -------------------------------------------------------------------------------------------- whole operators


def exact_norm(matrix: torch.Tensor, order: str) -> float:
    return float(np.linalg.norm(matrix.numpy(), {"l1": 1, "l2": 2, "linf": np.inf}[order]))


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
@pytest.mark.parametrize("kind", ["plain", "residual", "two_sided", "reshaped", "stacked", "mean", "message"])
def test_linear_operators_get_their_norm(order: str, kind: str) -> None:
    """Operators that are one matrix: the bound is the norm of the Jacobian, computed by torch."""
    state = random(4, 3)
    build = GraphBuilder(state)
    z = build.state[0]
    w, a = build.constant(random(3, 3, seed=1)), build.constant(random(4, 4, seed=2))
    index = build.constant(torch.tensor([0, 1, 1, 2, 3, 0]))
    target = build.constant(torch.tensor([1, 0, 2, 1, 3, 3]))
    weight = build.constant(random(6, 1, seed=5))
    if kind == "plain":
        out = build.op("matmul", z, w)
    elif kind == "residual":
        out = build.op("sub", build.op("mul", build.constant(2.0), z), build.op("matmul", z, w))
    elif kind == "two_sided":
        out = build.op("matmul", a, build.op("matmul", z, w))
    elif kind == "reshaped":
        flat = build.op("reshape", build.op("permute", build.op("matmul", z, w), dims=(1, 0)), shape=(1, 3, 4))
        out = build.op("permute", build.op("reshape", flat, shape=(3, 4)), dims=(1, 0))
    elif kind == "stacked":
        top = build.op("slice", z, dim=0, start=0, stop=3, step=2)
        out = build.op("cat", top, build.op("slice", build.op("matmul", z, w), dim=0, start=1, stop=3, step=1), dim=0)
    elif kind == "mean":
        out = build.op("sub", z, build.op("mean", z, dims=(0,), keepdim=True))
    else:
        messages = build.op("mul", weight, build.op("index_select", z, index, dim=0))
        out = build.op("index_add", build.constant(torch.zeros(4, 3, dtype=torch.float64)), target, messages, dim=0)
    graph = build.graph(out)
    truth = exact_norm(_jacobian(graph, state), order)
    bound = constant_of(graph, order)
    assert truth * (1 - 1e-14) <= bound
    if kind != "stacked" or order != "l2":
        assert bound <= truth * (1 + 1e-12)
    else:
        assert bound <= truth * 1.5


def _jacobian(graph: Any, state: torch.Tensor) -> torch.Tensor:
    from checker_builder import _RUN

    def run(flat: torch.Tensor) -> torch.Tensor:
        values = {v: leaf.tensor for v, leaf in graph.leaves.items()} | {graph.state[0]: flat.reshape(state.shape)}
        for node in graph.nodes:
            values[node.output] = _RUN[node.op](*[values[v] for v in node.operands], **node.attributes)
        return values[graph.outputs[0]].flatten()

    return torch.autograd.functional.jacobian(run, state.flatten())


@pytest.mark.parametrize("order", ["l1", "linf"])
def test_weighted_norms_of_a_nonnegative_matrix(order: str) -> None:
    build = GraphBuilder(random(4))
    w, weight = random(4, 4, seed=1).abs(), random(4, seed=2).abs() + 0.1
    graph = build.graph(build.op("tanh", build.op("matmul", build.constant(w), build.state[0])))
    truth = exact_norm(torch.diag(weight) @ w @ torch.diag(1 / weight), order)
    assert constant_of(graph, order, [weight]) == pytest.approx(truth, rel=1e-13)


def test_weighted_l2_norm_along_the_last_dimension() -> None:
    build = GraphBuilder(random(5, 4))
    w, weight = random(4, 4, seed=1), random(4, seed=2).abs() + 0.1
    hidden = build.op("tanh", build.op("matmul", build.state[0], build.constant(w)))
    graph = build.graph(build.op("add", hidden, build.op("mul", build.constant(0.25), build.state[0])))
    truth = exact_norm(torch.diag(weight) @ w.T @ torch.diag(1 / weight), "l2") + 0.25
    assert constant_of(graph, "l2", [weight.expand(5, 4)]) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_random_networks_are_bounded_above_sampled_gains(order: str) -> None:
    """Two layers, a residual branch, two leaves of the state: no sampled pair is stretched by more."""
    first, second = random(4), random(3, seed=9)
    build = GraphBuilder(first, second)
    a, b = build.state
    u, v, w = (build.constant(random(*s, seed=k)) for k, s in ((1, (5, 4)), (2, (4, 5)), (3, (3, 4))))
    hidden = build.op("gelu", build.op("matmul", u, a), approximate="none")
    new_a = build.op("sub", build.op("matmul", v, hidden), build.op("mul", build.constant(0.5), a))
    new_b = build.op("tanh", build.op("add", build.op("matmul", w, a), b))
    graph = build.graph(new_a, new_b)
    bound = constant_of(graph, order)
    matrices_ = [graph.leaves[k].tensor for k in (u, v, w)]

    def run(x: torch.Tensor) -> torch.Tensor:
        p, q = x[..., :4], x[..., 4:]
        h = torch.nn.functional.gelu(p @ matrices_[0].T)
        return torch.cat([h @ matrices_[1].T - 0.5 * p, torch.tanh(p @ matrices_[2].T + q)], -1)

    x, step = random(4000, 7, seed=5) * 2, random(4000, 7, seed=6) * 1e-2
    number = {"l1": 1, "l2": 2, "linf": math.inf}[order]
    ratio = (run(x + step) - run(x)).norm(number, dim=1) / step.norm(number, dim=1)
    assert float(ratio.max()) <= bound
    assert bound <= 3 * float(ratio.max())


def test_batches_count_every_problem() -> None:
    """An elementwise factor that differs between problems: the largest one decides."""
    build = GraphBuilder(random(2, 3), batch_dims=1)
    factor = torch.tensor([[0.5, 0.25, 0.1], [0.1, 0.9, 0.2]], dtype=torch.float64)
    graph = build.graph(build.op("mul", build.state[0], build.constant(factor)))
    for order in ("l1", "l2", "linf"):
        assert constant_of(graph, order) == pytest.approx(0.9, rel=1e-15)


# ----------------------------------------------------------------------------------------------------- values


def test_symmetric_normalisation_is_enclosed_with_isolated_nodes() -> None:
    """deg^-1/2 with infinities masked away, as message passing exports it."""
    build = GraphBuilder(random(3, 1))
    degree = build.op(
        "index_add",
        build.constant(torch.zeros(3)),
        build.constant(torch.tensor([0, 0, 1])),
        build.constant(torch.ones(3)),
        dim=0,
    )
    root = build.op("pow_scalar", degree, exponent=-0.5)
    infinite = build.op("eq", root, build.constant(math.inf))
    root = build.op("where", infinite, build.constant(0.0), root)
    column = build.op("reshape", root, shape=(3, 1))
    graph = build.graph(build.op("mul", build.state[0], column))
    values = Values(graph, None, frozenset(), watched=frozenset({root})).balls(root)
    assert values[0].overlaps(1 / arb(2).sqrt())
    assert values[0].rad() < arb(2) ** -140
    assert values[1] == 1
    assert values[2] == 0
    assert constant_of(graph, "l2") == 1.0


def test_nan_never_bounds() -> None:
    build = GraphBuilder(random(3))
    bad = build.op("log", build.constant(torch.tensor([1.0, -1.0, 2.0])))
    for out in (build.op("mul", build.state[0], bad), build.op("add", build.state[0], bad)):
        graph = build.graph(out)
        for order in ("l1", "l2", "linf"):
            with pytest.raises(Rejected, match="NaN"):
                constant_of(graph, order)


@pytest.mark.parametrize("how", ["factor", "comparison", "domain", "index"])
def test_unknown_inputs_cannot_enter_a_bound(how: str) -> None:
    build = GraphBuilder(random(3))
    x = build.input(torch.ones(3))
    z = build.state[0]
    if how == "factor":
        out = build.op("mul", z, x)
    elif how == "comparison":
        out = build.op("where", build.op("eq", x, build.constant(0.0)), z, build.op("neg", z))
    elif how == "domain":
        out = build.op("add", z, build.op("log", x))
    else:
        out = build.op("index_select", z, build.input(torch.tensor([0, 1, 2])), dim=0)
    graph = build.graph(out)
    with pytest.raises(Rejected, match="free"):
        Walk(graph, Values(graph, None, frozenset({0, 1})))


def test_unknown_inputs_may_be_added() -> None:
    build = GraphBuilder(random(3))
    out = build.op("add", build.op("neg", build.state[0]), build.op("tanh", build.input(torch.ones(3))))
    graph = build.graph(out)
    walk = Walk(graph, Values(graph, None, frozenset({0})))
    assert lipschitz_bound(walk.network.sources, walk.outputs, "linf", None) == 1


@pytest.mark.parametrize("name", ["square", "exp", "log", "aten.fft"])
def test_operations_without_a_constant_are_refused_by_name(name: str) -> None:
    build = GraphBuilder(random(3))
    graph = build.graph(build.op("neg", build.state[0]))
    node = graph.nodes[0]
    strange = type(node)(name, node.operands, {}, node.output, node.shape, node.dtype, f"aten.{name}")
    graph = type(graph)(graph.leaves, (strange,), graph.outputs, 0, "", ())
    with pytest.raises(Rejected, match=name):
        constant_of(graph, "l2")


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 7, 64])
def test_powers_of_balls_around_zero_are_balls(exponent: int) -> None:
    """python-flint's own power of a ball whose middle is 0 is NaN."""
    found = ball.whole_power(arb(0, 0.5), exponent)
    assert all(found.contains(arb(end) ** exponent) for end in (-0.5, -0.25, 0.5))
    assert not found.abs_upper() > 0.5**exponent * (1 + 1e-6)
    assert ball.square(arb(0, 0.5)).contains(arb(0.25))


def test_blocks_of_slopes_around_zero_have_norms() -> None:
    values = ball.balls([arb(0, 0.25), arb(0, 0.25), arb(0.5)], (3,))
    matrix = Matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), values, (2, 2))
    (norm,) = _block_norms(matrix, 2)[2]
    assert norm.is_finite()
    assert 0.75 < norm < 1
