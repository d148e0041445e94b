"""Sorted values: the same function as torch's, derivatives in their ranges, and MaxMin activations of norm 1."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from flint import arb
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from vocabulary import assert_same_function, evaluate

from deqops.graph import check_independent, trace, with_sorted_pairs
from deqops.verify import Ball, Box, Norm, Verdict, certify, check, lipschitz_bound
from deqops.verify._enclosures import enclose_image
from deqops.verify._local import local_jacobian
from deqops.verify._midrad import MidRad
from deqops.verify._permutations import Permutations, in_order, permutations_over
from deqops.verify._problem import Problem
from deqops.verify._smooth import is_differentiable
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker._permutations import Permutations as Checked
from deqops.verify.checker._permutations import permutations_over as checked_over
from deqops.verify.checker._permutations import sorted_at
from deqops.verify.checker._refusal import Rejected

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def orthogonal(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(normal(n, n, seed=seed))[0]


def middles(balls: Any) -> list[float]:
    return [float(entry.mid()) for entry in balls.reshape(-1)]


READ: dict[str, Callable[[Tensor], Any]] = {
    "sort": lambda z: torch.sort(z).values,
    "descending": lambda z: torch.sort(z, dim=1, descending=True, stable=True)[0],
    "sort of the batch's other dimension": lambda z: z.sort(-2)[0],
    "msort": lambda z: torch.msort(z),
    "topk": lambda z: z.topk(2, dim=-1).values,
    "smallest": lambda z: torch.topk(z, 3, dim=1, largest=False).values,
    "largest, in any order": lambda z: z.topk(1, sorted=False).values,
    "kthvalue": lambda z: z.kthvalue(2, dim=1).values,
    "kthvalue, kept": lambda z: z.kthvalue(4, keepdim=True)[0],
    "median": lambda z: z.median(),
    "median of a dimension": lambda z: z.median(-1)[0],
    "median, kept": lambda z: torch.median(z, dim=1, keepdim=True).values,
}


@pytest.mark.parametrize("name", list(READ))
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_same_function_as_torchs(name: str, dtype: torch.dtype) -> None:
    z = normal(2, 4, 5).to(dtype)
    z[0, 1] = z[0, 2] = z[1, 3]
    assert_same_function(READ[name], z)


def test_numbers_alone_are_in_order() -> None:
    graph = trace(lambda z: torch.sort(z).values, torch.tensor(1.5), batch_dims=0).concrete(torch.tensor(1.5))
    assert not graph.nodes


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda z: z.topk(3, sorted=False).values.sum(-1, keepdim=True) * z, "topk"),
        (lambda z: z.sort().indices * z, "sort"),
        (lambda z: z.gather(1, z.argsort(1)), "argsort"),
        (lambda z: (z > 0).sort(1)[0] * z, "sort"),
        (lambda z: z.median(1)[1][:, None] * z, "median"),
    ],
)
def test_places_integers_and_open_orders_are_refused_by_name(function: Any, why: str) -> None:
    certificate = certify(function, normal(2, 4))
    assert certificate.verdict is Verdict.UNKNOWN
    assert why in certificate.reason


def test_a_sort_across_problems_mixes_them() -> None:
    certificate = certify(lambda z: 0.5 * z.sort(0).values, normal(3, 4))
    assert certificate.verdict is Verdict.UNKNOWN
    assert "mixes the problems" in certificate.reason
    check_independent(trace(lambda z: z.sort(1).values, normal(3, 4)).concrete(normal(3, 4)))


# ---------------------------------------------------------------------------------------------- values and slopes


@given(st.integers(0, 10_000), st.sampled_from([0.0, 1e-3, 0.5, 3.0]))
@example(seed=0, width=0.0)
def test_the_sorted_enclosure_holds_every_choice_and_its_ends_are_met(seed: int, width: float) -> None:
    center, radius = normal(3, 5, seed=seed), width * normal(3, 5, seed=seed + 1).abs()
    box = MidRad(center, radius)
    found = in_order(box, 1)
    lower, upper = box.lower(), box.upper()
    for share in torch.rand(20, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE):
        value = torch.minimum(torch.maximum(lower + share * (upper - lower), lower), upper).sort(1)[0]
        assert bool(((found.lower() <= value) & (value <= found.upper())).all())
    assert torch.allclose(found.lower(), lower.sort(1)[0], rtol=1e-15, atol=1e-15)
    assert torch.allclose(found.upper(), upper.sort(1)[0], rtol=1e-15, atol=1e-15)


@given(st.integers(0, 10_000), st.sampled_from([1e-3, 0.3, 2.0]))
def test_slopes_lemma_the_places_that_a_value_takes_are_kept(seed: int, width: float) -> None:
    """`sort(y) - sort(z) = C (y - z)`: no permutation that occurs in the box is left out, and no place for nothing."""
    box = MidRad(normal(4, 4, seed=seed), torch.full((4, 4), width, dtype=DOUBLE))
    kept = permutations_over(box).kept
    assert kept is not None
    share = 2 * torch.rand(50, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) - 1
    places = (box.mid + width * share).sort(-1).indices  # (samples, groups, place) -> value
    met = torch.zeros_like(kept)
    for sample in places:
        met |= nn.functional.one_hot(sample, 4).bool()
    assert bool((kept | ~met).all())
    apart = (box.mid[:, :, None] - box.mid[:, None]).abs() > 2 * width + 1e-9
    decided = (apart | torch.eye(4, dtype=torch.bool)).all(dim=2).all(dim=1)
    assert torch.equal(kept[decided].sum(-1), torch.ones_like(kept[decided].sum(-1)))


@given(st.integers(0, 10_000), st.sampled_from([1e-3, 0.3, 2.0]))
def test_the_checker_keeps_the_same_places(seed: int, width: float) -> None:
    box = MidRad(normal(3, 4, seed=seed), torch.full((3, 4), width, dtype=DOUBLE))
    low, high = (ball.exact(end) for end in (box.lower(), box.upper()))
    kept = permutations_over(box).kept
    assert kept is not None
    own = checked_over(low, high).kept
    assert own is not None
    assert own.tolist() == kept.tolist()


def test_the_checker_sorts_enclosed_numbers() -> None:
    """As they are where their order is certain, else what holds every order."""
    node = trace(lambda z: z.sort().values, normal(1, 3)).concrete(normal(1, 3)).nodes[0]
    apart = ball.balls([3.0, arb(1, 0.25), arb(2, 0.25)], (1, 3))
    first, second, third = sorted_at(node, apart, 1)[0]
    assert (str(first), str(second), str(third)) == (str(apart[0, 1]), str(apart[0, 2]), str(apart[0, 0]))
    near = sorted_at(node, ball.balls([arb(1, 0.5), arb(1.25, 0.5), 9.0], (1, 3)), 1)[0]
    assert all(near[0].contains(x) and near[1].contains(y) for x, y in ((0.5, 0.75), (1.5, 1.75), (1.0, 1.25)))
    assert bool(near[0] < 1.6)
    assert bool(near[1] > 0.7)
    assert near[2] == 9
    with pytest.raises(Rejected, match="finite"):
        sorted_at(node, ball.balls([arb.nan(), 1.0, 2.0], (1, 3)), 1)


@given(st.integers(0, 10_000))
def test_slopes_lemma_columns_of_all_permutations_kept(seed: int) -> None:
    """`C x` of intervals x: certifier and checker enclose each permutation that the kept places allow."""
    box = MidRad(normal(2, 3, seed=seed), torch.full((2, 3), 0.5, dtype=DOUBLE))
    x = MidRad(normal(2, 3, 2, seed=seed + 1), normal(2, 3, 2, seed=seed + 2).abs())
    choices = permutations_over(box)
    assert choices.kept is not None
    found = choices.columns(x)
    own = checked_over(*(ball.exact(end) for end in (box.lower(), box.upper())))
    middle, radius = own.columns(ball.exact(x.mid), ball.exact(x.rad))
    for order in itertools.permutations(range(3)):
        allowed = choices.kept[:, torch.arange(3), list(order)].all(dim=1)
        for group in allowed.nonzero()[:, 0].tolist():
            for end in (x.lower(), x.upper()):
                moved = end[group, list(order)]
                assert bool(((found.lower()[group] <= moved) & (moved <= found.upper()[group])).all())
                for place, column in itertools.product(range(3), range(2)):
                    off = abs(middle[group, place, column] - float(moved[place, column]))
                    assert float(off.mid()) <= float(radius[group, place, column].mid()) + 1e-12
    y = normal(2, 3, seed=seed + 3).abs()
    back = choices.magnitude_transposed_times(y)
    assert bool((back >= torch.where(choices.kept.mT, y[:, None], 0.0).amax(-1)).all())
    for checked, found_here in (
        (own.magnitude, choices.magnitude_times),
        (own.magnitude_transposed, choices.magnitude_transposed_times),
    ):
        assert middles(checked(ball.exact(y))) == found_here(y).reshape(-1).tolist()


def test_large_sorts_are_taken_as_a_whole_and_say_no_less_than_their_parts() -> None:
    """Where the places are not kept one by one, bounds are those of all places kept."""
    everything = torch.ones(2, 3, 3, dtype=torch.bool)
    x, y = MidRad(normal(2, 3, 2), normal(2, 3, 2, seed=1).abs()), normal(2, 3, seed=2).abs()
    whole, parts = Permutations(None), Permutations(everything)
    assert torch.equal(whole.columns(x).mid, parts.columns(x).mid)
    assert torch.equal(whole.magnitude_times(y), parts.magnitude_times(y))
    assert torch.equal(whole.magnitude_transposed_times(y), parts.magnitude_transposed_times(y))
    assert not whole.is_one
    mine, theirs = Checked(None), Checked(everything.numpy())
    for one, other in zip(*(p.columns(ball.exact(x.mid), ball.exact(x.rad)) for p in (mine, theirs)), strict=True):
        assert middles(one) == middles(other)
    assert middles(mine.magnitude(ball.exact(y))) == middles(theirs.magnitude(ball.exact(y)))
    assert not mine.smooth
    z = normal(1, 5000)
    for region in (None, Ball(z, 0.1)):
        bound = lipschitz_bound(lambda z: 0.5 * z.sort().values, z, norm="linf", region=region)
        assert bound.upper == 0.5
    certificate = certify(lambda z: 0.5 * z.sort().values, z, norm="linf", theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, lambda z: 0.5 * z.sort().values, z).accepted


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_sort_has_norm_1_everywhere_and_on_regions(norm: str) -> None:
    z = normal(2, 6)
    for region in (None, Ball(z, 0.3), Box(z - 0.2, z + 0.1)):
        for function in (READ["sort"], READ["descending"], lambda z: z.topk(6, -1).values):
            bound = lipschitz_bound(function, z, norm=norm, region=region)
            assert 1.0 <= bound.upper <= 1.0 + 1e-12


def test_a_sort_whose_order_is_known_is_a_permutation() -> None:
    """Then it has a derivative: Newton-Kantorovich's theorem applies, and signs are known."""
    z = torch.tensor([[3.0, -1.0, 1.0]], dtype=DOUBLE)
    W = orthogonal(3, 1)

    def G(z: Tensor) -> Tensor:
        return 0.2 * (z + 0.1 * torch.tanh(z)).sort(1).values @ W + torch.tensor([[3.0, -1.0, 1.0]], dtype=DOUBLE)

    for radius, known in ((0.4, True), (2.0, False)):
        jacobian = local_jacobian(Problem(trace(G, z), z, ()), Ball(z, radius), Norm("linf"))
        assert is_differentiable(jacobian) is known
    certificate = certify(G, z, region=Ball(z, 2.0), theorem="local_picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, G, z).accepted


def test_ties_have_no_derivative() -> None:
    z = torch.zeros(1, 3, dtype=DOUBLE)
    certificate = certify(lambda z: 0.5 * z.sort(1).values, z, region=Ball(z, 0.1), theorem="newton_kantorovich")
    assert certificate.verdict is Verdict.UNKNOWN


# ------------------------------------------------------------------------------------------------ larger and smaller

MAXMIN: dict[str, Callable[[Tensor], Tensor]] = {
    "chunks": lambda z: (lambda a, b: torch.cat([torch.max(a, b), torch.min(a, b)], -1))(*z.chunk(2, -1)),
    "slices, the smaller first": lambda z: torch.cat(
        [torch.minimum(z[:, 1::2], z[:, ::2]), torch.maximum(z[:, ::2], z[:, 1::2])], dim=1
    ),
    "largest and smallest": lambda z: torch.cat([z.view(-1, 2, 4).max(1)[0], z.view(-1, 2, 4).min(1)[0]], 1),
    "along the last": lambda z: torch.cat([z.view(-1, 4, 2).amax(-1), z.view(-1, 4, 2).amin(-1)], 1),
    "kept": lambda z: torch.cat(
        [z.view(-1, 4, 2).amax(2, keepdim=True), z.view(-1, 4, 2).amin(2, keepdim=True)], 2
    ).flatten(1),
    "sorted groups": lambda z: z.view(-1, 2, 4).sort(-1)[0].flatten(1),
}


class Network(nn.Module):
    """`0.95 U act(W z + b) + c`, W and U orthogonal: a contraction where the activation has norm 1."""

    def __init__(self, activation: Callable[[Tensor], Tensor], layers: int) -> None:
        super().__init__()
        self.activation = activation
        self.maps = nn.ModuleList(nn.Linear(8, 8, dtype=DOUBLE) for _ in range(layers))
        for number, one in enumerate(self.maps):
            one.weight.data, one.bias.data = orthogonal(8, number), normal(8, seed=50 + number)

    def forward(self, z: Tensor) -> Tensor:
        *inner, last = self.maps
        for one in inner:
            z = self.activation(one(z))
        result: Tensor = 0.95 * last(z)
        return result


@pytest.mark.parametrize("name", list(MAXMIN))
@pytest.mark.parametrize("layers", [2, 4])
def test_picard_networks_of_maxmin_and_orthogonal_layers_are_certified(name: str, layers: int) -> None:
    """T1, everywhere: products of norms know that both together have norm 1."""
    module, z = Network(MAXMIN[name], layers).eval(), normal(2, 8)
    certificate = certify(module, z)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "picard"
    assert certificate.rate is not None
    assert 0.95 <= certificate.rate <= 0.95 + 1e-6
    assert check(certificate, module, z).accepted
    for norm in ("l1", "l2", "linf"):
        assert lipschitz_bound(MAXMIN[name], z, norm=norm).upper == pytest.approx(1.0, abs=1e-12)


def test_picard_channels_of_a_convolution() -> None:
    torch.manual_seed(0)
    weight = orthogonal(6, 3)[:, :, None, None]

    def G(z: Tensor) -> Tensor:
        a, b = nn.functional.conv2d(z, weight).split(3, dim=1)
        return 0.9 * nn.functional.conv2d(torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1), weight)

    z = normal(1, 6, 3, 3)
    certificate = certify(G, z, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate == pytest.approx(0.9, abs=1e-6)
    assert check(certificate, G, z).accepted


def test_picard_multipliers_say_what_they_said() -> None:
    """Slopes of single pairs are kept beside the sort: of matrices that are not orthogonal they say more."""
    W = [normal(8, 8, seed=number) / 8**0.5 for number in range(4)]

    def G(z: Tensor) -> Tensor:
        for w in W[:-1]:
            z = MAXMIN["chunks"](z @ w)
        return z @ W[-1]

    bound = lipschitz_bound(G, normal(1, 8))
    norms = torch.stack([torch.linalg.matrix_norm(w, 2) for w in W]).prod()
    assert bound.method == "multipliers"
    assert bound.lower_estimate <= bound.upper < 0.9 * float(norms)


NOT_PAIRS: dict[str, Callable[[Tensor], Tensor]] = {
    "other values": lambda z: torch.maximum(z, z.roll(1, 1)) + torch.minimum(z, z.roll(2, 1)),
    "the larger one alone": lambda z: torch.maximum(z, z.roll(1, 1)),
    "of a constant": lambda z: torch.maximum(z, torch.ones(8)) + torch.minimum(z, torch.ones(8)),
    "other dimensions": lambda z: z.view(-1, 2, 4).amax(1).repeat(1, 2) + z.view(-1, 2, 4).amin(2).repeat(1, 4),
    "broadcast": lambda z: torch.maximum(z[:, :1], z) + torch.minimum(z[:, :1], z),
    "a relu of a difference": lambda z: z + torch.relu(z - z.roll(1, 1)),
}


@pytest.mark.parametrize("name", list(NOT_PAIRS))
def test_what_is_no_pair_stays(name: str) -> None:
    z = normal(2, 8)
    graph = trace(NOT_PAIRS[name], z).concrete(z)
    assert with_sorted_pairs(graph) is graph


@pytest.mark.parametrize("name", list(MAXMIN))
def test_the_function_stays_the_same(name: str) -> None:
    z = normal(3, 8)
    graph = trace(MAXMIN[name], z).concrete(z)
    paired = with_sorted_pairs(graph)
    assert [node.op for node in paired.nodes].count("sort") == 1
    for seed in range(5):
        state = normal(3, 8, seed=seed)
        state[0, 1] = state[0, 2] = state[0, 5]
        assert torch.equal(evaluate(paired, [state])[0], MAXMIN[name](state))


def test_a_pair_of_the_same_values_in_the_other_order() -> None:
    """`max(a, b)` and `min(b, a)`, each computed from slices of its own."""
    z = normal(2, 8)
    graph = with_sorted_pairs(trace(MAXMIN["slices, the smaller first"], z).concrete(z))
    image = enclose_image(graph, _constants(graph), [MidRad.exact(z)])[0]
    assert torch.equal(image.mid, MAXMIN["slices, the smaller first"](z))


def _constants(graph: Any) -> Any:
    from deqops.verify._enclosures import Constants

    return Constants(graph)
