"""One rate split over a block: products along chains and sums over branches never exceed it, whatever the weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deqops import InputError
from deqops.testing import assert_accepted
from deqops.verify import Verdict, certify, check, lipschitz_bound
from deqops.verify.contractive import Chain, Damped, Injected, L2Bounded, Sum, SupBounded, WeightMap, bounded

RATE, N = 0.9, 4
X = torch.linspace(-1.0, 1.0, 2 * N).reshape(2, N)
GATE = torch.tensor([0.3, 0.1, 0.2, 0.3], dtype=torch.float64)


def linear() -> nn.Linear:
    return nn.Linear(N, N)


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "sequential": lambda: nn.Sequential(linear(), nn.Tanh(), linear(), nn.GELU()),
    "wider inside": lambda: nn.Sequential(nn.Linear(N, 7), nn.SiLU(), nn.Linear(7, N)),
    "sequential in sequential": lambda: nn.Sequential(nn.Sequential(linear(), nn.ELU(2.0)), nn.ReLU(), linear()),
    "chain": lambda: Chain(linear(), nn.Tanh(), linear()),
    "sum": lambda: Sum(linear(), nn.Sequential(linear(), nn.Tanh()), factors=(2.0, 0.3)),
    "residual": lambda: Sum(nn.Identity(), nn.Sequential(linear(), nn.Tanh()), factors=(0.5, 0.5)),
    "gated": lambda: Sum(linear(), linear(), factors=(GATE, 1.0)),
    "damped": lambda: Damped(nn.Sequential(linear(), nn.Tanh()), 0.3),
    "damped by nothing": lambda: Damped(linear(), 1.0),
    "nested": lambda: Sum(
        Chain(Damped(linear(), 0.7), nn.LeakyReLU(3.0), Sum(linear(), linear())),
        nn.Sequential(linear(), nn.Tanh(), Sum(nn.Identity(), linear(), factors=(0.1, 1.0))),
        factors=(0.5, -1.5),
    ),
}
INJECTED: dict[str, Callable[[], nn.Module]] = {
    "injected": lambda: Injected(nn.Sequential(linear(), nn.Tanh()), nn.Linear(N, N)),
    "chain around": lambda: Chain(
        Injected(linear(), nn.Sequential(linear(), nn.ReLU(), linear())), nn.Tanh(), linear()
    ),
    "damped around": lambda: Damped(Injected(linear(), linear()), 0.5),
    "damped inside": lambda: Injected(Damped(Chain(linear(), nn.Tanh()), 0.5), linear()),
    "two injections": lambda: Sum(Injected(linear(), linear()), Chain(Injected(linear(), linear()), nn.Tanh())),
}
every_block = pytest.mark.parametrize("name", [*BLOCKS, *INJECTED])
every_norm = pytest.mark.parametrize("norm", ["l2", "linf"])


def made(name: str, norm: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    block, inputs = ((BLOCKS[name](), ())) if name in BLOCKS else (INJECTED[name](), (X,))
    return bounded(block, RATE, norm=norm), inputs


def blow_up(block: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.mul_(factor)


@every_norm
@every_block
def test_t1_random_steps_and_blown_up_weights_leave_the_block_certified(name: str, norm: str) -> None:
    """An optimiser that pushes the images up; then the weights times 20; certified with the rate that was asked for."""
    block, inputs = made(name, norm)
    optimizer = torch.optim.SGD(block.parameters(), lr=3.0, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for step in range(12):
        optimizer.zero_grad()
        image = block(torch.randn(2, N, generator=generator), *inputs)
        (-(image * (image.detach() + torch.randn(2, N, generator=generator))).mean()).backward()
        nn.utils.clip_grad_norm_(block.parameters(), 1.0)
        optimizer.step()
        block.train(step % 2 == 0)
        if step == 6:
            assert lipschitz_bound(block, X, *inputs, norm=norm).upper <= RATE
    blow_up(block, 20.0)
    certificate = certify(block, X, *inputs, theorem="picard", norm=norm)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    assert certificate.rate <= RATE
    assert check(certificate, block, X, *inputs).accepted


def stretch(block: nn.Module) -> None:
    """Large multiples of the identity: in chains, and in sums with positive factors, they reach the rate."""
    with torch.no_grad():
        for module in block.modules():
            if isinstance(module, nn.Linear):
                nn.init.eye_(module.parametrizations.weight.original).mul_(5.0)


@every_norm
@pytest.mark.parametrize("name", [name for name in BLOCKS if name not in ("gated", "nested")])
def test_the_rate_is_reached(name: str, norm: str) -> None:
    block, _ = made(name, norm)
    stretch(block)
    assert RATE - 1e-3 < lipschitz_bound(block, X, norm=norm).upper <= RATE


def test_equal_weights_along_a_chain_reach_the_product_themselves() -> None:
    """Not only the bound: the map of multiples of the identity grows by the rate."""
    block = bounded(nn.Sequential(nn.Linear(N, N, bias=False), nn.Linear(N, N, bias=False)), RATE)
    stretch(block)
    assert torch.allclose(block(X), RATE * X, rtol=1e-5)


def test_t1_convolutions_are_bounded_for_the_size_that_arrives_at_them() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 2, 3, stride=2),
        nn.Flatten(),
        nn.Linear(8, 50),
    )
    bounded(block, RATE, size=(5, 5))
    assert [block[k].parametrizations.weight[0].size for k in (0, 2)] == [(5, 5), (5, 5)]
    blow_up(block, 20.0)
    back = nn.Sequential(block, nn.Unflatten(1, (2, 5, 5)))
    assert lipschitz_bound(back, torch.zeros(1, 2, 5, 5)).upper <= RATE
    deeper = bounded(nn.Sequential(nn.Conv1d(1, 1, 3), nn.Conv1d(1, 1, 2, stride=2), nn.Conv1d(1, 1, 2)), RATE, size=9)
    assert [layer.parametrizations.weight[0].size for layer in deeper] == [(9,), (7,), (3,)]


def test_a_gain_beside_the_block_is_taken_off_the_rate() -> None:
    block = bounded(nn.Sequential(linear(), nn.Tanh(), linear()), RATE, gain=3.0)
    stretch(block)
    assert RATE / 3 - 1e-3 < lipschitz_bound(block, X).upper <= RATE / 3


def test_bounded_again_new_rates_take_the_place_of_the_old() -> None:
    torch.manual_seed(0)
    block = bounded(nn.Sequential(linear(), nn.Tanh(), linear()), RATE)
    stored = list(block.parameters())
    bounded(block, 0.25, norm="linf")
    assert all(a is b for a, b in zip(stored, block.parameters(), strict=True))
    assert [type(m) for m in block.modules() if isinstance(m, WeightMap)] == [SupBounded, SupBounded]
    blow_up(block, 20.0)
    assert lipschitz_bound(block, X, norm="linf").upper <= 0.25


def test_what_the_blocks_compute() -> None:
    torch.manual_seed(0)
    a, b, f = linear(), linear(), linear()
    assert torch.equal(Chain(a, nn.Tanh(), b)(X), b(torch.tanh(a(X))))
    assert torch.equal(Sum(a, b, factors=(2.0, -1.0))(X), a(X) * 2.0 + b(X) * -1.0)
    assert torch.equal(Sum(a, nn.Identity(), factors=(GATE, 1.0))(X), a(X) * GATE.float() + X)
    assert torch.equal(Injected(a, f)(X, 2 * X), a(X) + f(2 * X))
    inner = Chain(Injected(a, f), Damped(Chain(b), 0.5))
    state = a(X) + f(2 * X)
    assert torch.equal(inner(X, 2 * X), 0.5 * state + 0.5 * b(state))


def test_t1_an_equilibrium_layer_of_a_block_is_accepted() -> None:
    torch.manual_seed(0)
    block = bounded(Chain(Injected(linear(), linear()), nn.Tanh(), linear()), RATE)
    assert_accepted(certify(block, X, X, theorem="picard", norm="l2"), block, X, X)


class Custom(nn.Linear):
    """A subclass may compute something else."""

    def forward(self, z: Tensor) -> Tensor:
        return 10 * super().forward(z)


def hooked() -> nn.Module:
    layer = linear()
    layer.register_forward_hook(lambda module, arguments, image: 10 * image)
    return nn.Sequential(layer)


def twice() -> nn.Module:
    layer = linear()
    return nn.Sequential(layer, nn.Tanh(), layer)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "normalisation": (lambda: nn.Sequential(linear(), nn.LayerNorm(N)), "over a LayerNorm; only over Linear"),
    "dropout": (lambda: nn.Sequential(linear(), nn.Dropout()), "over a Dropout"),
    "subclass": (lambda: nn.Sequential(linear(), Custom(N, N)), "over a Custom"),
    "no module": (lambda: Damped(lambda z: z, 0.5), "Damped has no 'weight'|over a function"),
    "nested": (lambda: Sum(linear(), Chain(linear(), nn.Softmax(dim=1))), "over a Softmax"),
    "hooked": (hooked, "this Linear has hooks"),
    "twice": (twice, "the same Linear is used twice"),
    "only activations": (lambda: nn.Sequential(nn.ReLU(), nn.Tanh()), "a chain without a layer"),
    "only fixed": (lambda: Sum(nn.Identity(), nn.Tanh(), factors=(0.1, 0.1)), "a sum without a layer"),
    "nothing left": (lambda: Sum(nn.Identity(), linear()), "rate: the branches without weights have constant 1"),
    "in place": (
        lambda: Sum(nn.Identity(), nn.Sequential(nn.LeakyReLU(3.0, inplace=True), linear()), factors=(0.1, 1.0)),
        "changes the",
    ),
    "in place, a branch": (lambda: Sum(nn.ReLU(inplace=True), linear(), factors=(0.1, 1.0)), "changes the state"),
    "volume": (lambda: nn.Sequential(nn.Conv3d(1, 1, 3)), "over a Conv3d"),
    "no size": (lambda: nn.Sequential(nn.Conv2d(1, 1, 3)), "size: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_rate_can_be_split_over_is_refused_by_name_and_left_as_it_was(name: str) -> None:
    make, message = REFUSED[name]
    block = make()
    with pytest.raises(InputError, match=message):
        bounded(block, RATE)
    assert not any(isinstance(m, WeightMap) for m in block.modules())


def test_another_parametrisation_is_refused_before_anything_is_changed() -> None:
    block = nn.Sequential(linear(), nn.utils.parametrizations.spectral_norm(linear()))
    with pytest.raises(InputError, match="its weight has another parametrisation"):
        bounded(block, RATE)
    assert not any(isinstance(m, L2Bounded) for m in block.modules())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Chain(), "parts: modules are needed, got none"),
        (lambda: Chain(torch.tanh), "parts: modules are needed, got builtin"),  # type: ignore[arg-type]
        (lambda: Sum(linear(), factors=(1.0, 2.0)), "factors: one for each of 1 parts"),
        (lambda: Sum(linear(), factors=(0.0,)), "factors: finite numbers other than 0"),
        (lambda: Sum(linear(), factors=(float("nan"),)), "factors: finite numbers"),
        (lambda: Sum(linear(), factors=(torch.full((2,), torch.inf),)), "factors: finite numbers"),
        (lambda: Sum(linear(), factors=(nn.Parameter(torch.ones(1)),)), "factors: numbers, or tensors without"),
        (lambda: Sum(linear(), factors=(True,)), "factors: numbers"),
        (lambda: Injected(linear(), torch.tanh), "parts: modules"),  # type: ignore[arg-type]
        (lambda: Sum(nn.Linear(N, 1), linear())(X), "parts: an image of shape .2, 1. is expanded"),
        (lambda: Sum(linear(), factors=(torch.ones(3, 1, 1),))(X), "parts: an image"),
        (lambda: Injected(nn.Linear(N, 1), linear())(X, X), "parts: an image"),
        (lambda: bounded(nn.Sequential(linear()), 0.0), "rate: "),
        (lambda: bounded(nn.Sequential(linear()), gain=-1.0), "rate: "),
        (lambda: bounded(nn.Sequential(linear()), name="other"), "has no 'other'"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
