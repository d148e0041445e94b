"""The classic equilibrium models: their equations, and that each is certified by its own theorem."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from deqops import ConvergenceError, InputError
from deqops.models import (
    DigitImages,
    ImageDEQ,
    ImageDEQSettings,
    ImplicitGraphNetwork,
    ImplicitGraphSettings,
    MonotoneNetwork,
    MonotoneSettings,
    by_iteration,
    classifier_curve,
    digit_images,
    picard_curve,
    seeded,
    train_ignn,
    train_image_deq,
    train_monotone,
)
from deqops.models._classifier_training import ClassifierTask
from deqops.verify import Norm, Verdict, certify, check

STAR = torch.tensor([[0, 1, 0, 2, 0, 3, 0, 4, 0, 5], [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]])


@pytest.fixture(scope="module")
def digits() -> DigitImages:
    return digit_images(training=200)


def monotone(width: int = 8, **options: Any) -> MonotoneNetwork:
    with seeded(0):
        return MonotoneNetwork(4, 3, width=width, **options).eval()


def rotating(model: MonotoneNetwork, size: float = 4.0) -> MonotoneNetwork:
    """The same with a W far outside of the unit ball."""
    with torch.no_grad():
        for stored in model.proximal.parametrizations.W.parameters():  # type: ignore[union-attr]
            stored.mul_(size)
    return model


# ------------------------------------------------------------------------------------------------------------- digits


def test_the_digits_are_split_and_always_in_the_same_order(digits: DigitImages) -> None:
    masks = torch.stack([digits.train_mask, digits.val_mask, digits.test_mask])
    assert bool((masks.sum(dim=0) == 1).all())
    assert masks.sum(dim=1).tolist() == [200, 200, 1397]
    assert torch.equal(digit_images(training=1).x, digits.x)
    assert digits.x.shape == (1797, 1, 8, 8)
    assert float(digits.x.max()) == 1.0
    assert digits.flattened().x.shape == (1797, 64)


@pytest.mark.parametrize("sizes", [(0, 5), (5, -1), (1000, 797)])
def test_a_split_that_leaves_no_test_images_is_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="training, validation"):
        digit_images(training=sizes[0], validation=sizes[1])


# ----------------------------------------------------------------------------------------------- monotone networks


def test_t5_a_monotone_network_is_certified_where_no_norm_contracts() -> None:
    model, x = rotating(monotone()), torch.ones(1, 4)
    weight = model.proximal.W.detach()
    assert float(torch.linalg.matrix_norm(weight, 2)) > 3
    state = model.initial_state(x)
    certificate = certify(model.operator, state, x, theorem="monotone")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.monotonicity is not None
    assert certificate.monotonicity >= 0.1 * (1 - 1e-6)
    assert check(certificate, model.operator, state, x).accepted
    assert certify(model.operator, state, x, theorem="picard", norm="l2").verdict is Verdict.REFUTED


def test_splitting_comes_to_the_equilibrium_and_plain_iteration_does_not() -> None:
    model = rotating(monotone())
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        split = next(islice(model.iterates(x), 3000, None))
        plain = next(islice(model.applications(x), 200, None))
        solved = model.state(x)
        assert float((model.operator(split, x) - split).norm(dim=1).max()) < 1e-3
        torch.testing.assert_close(solved, split, rtol=0, atol=0.05)
    assert not bool(((plain - split).norm(dim=1) < 0.1).all())


def test_a_monotone_networks_gradient_passes_through_the_equilibrium() -> None:
    model = monotone()
    model(torch.ones(2, 4)).sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


def test_one_application_is_a_plain_layer() -> None:
    model, x = monotone(steps=1), torch.ones(2, 4)
    layer = model.proximal
    assert layer.U is not None
    assert layer.b is not None
    torch.testing.assert_close(model.state(x), torch.relu(x @ layer.U.T + layer.b))


def test_training_keeps_the_margin(digits: DigitImages) -> None:
    trained = train_monotone(digits.flattened(), MonotoneSettings(epochs=3, width=16, learning_rate=0.05))
    x = digits.flattened().x[:1]
    model = trained.model
    assert certify(model.operator, model.initial_state(x), x, theorem="monotone").verdict is Verdict.CERTIFIED
    assert trained.loss[-1] < trained.loss[0]
    rows = classifier_curve(model, digits.flattened(), 5)
    assert [row["iteration"] for row in rows] == list(range(6))
    assert set(rows[0]) == {"iteration", "train", "validation", "test", "residual"}


def test_a_curve_ends_where_the_iteration_leaves_the_numbers(digits: DigitImages) -> None:
    with seeded(0):
        model = rotating(MonotoneNetwork(64, 10, width=8), 1e5)
    assert 1 <= len(picard_curve(model, digits.flattened(), 60)) < 61


# ------------------------------------------------------------------------------------------------------------- images


def test_t1_a_bounded_image_network_is_certified_and_trains(digits: DigitImages) -> None:
    trained = train_image_deq(digits, ImageDEQSettings(epochs=3, channels=4))
    x = digits.x[:1]
    operator, state = trained.model.operator, trained.model.initial_state(x)
    certificate = certify(operator, state, x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "picard"
    assert certificate.rate is not None
    assert certificate.rate <= 0.9
    assert check(certificate, operator, state, x).accepted
    assert trained.loss[-1] < trained.loss[0]


def test_t2_or_t12_a_free_image_network_is_certified_around_its_equilibrium(digits: DigitImages) -> None:
    with seeded(0):
        model = ImageDEQ(channels=1, rate=math.inf).eval()
    with torch.no_grad():
        model.operator.state.weight.fill_(0.2)
    x = digits.x[:1]
    certificate = certify(model.operator, model.initial_state(x), x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert str(certificate.theorem).startswith("local_")
    assert check(certificate, model.operator, model.initial_state(x), x).accepted


def test_an_equilibrium_that_is_not_found_is_told_outside_of_training(digits: DigitImages) -> None:
    with seeded(0):
        model = ImageDEQ(channels=4, rate=math.inf)
    with torch.no_grad():
        model.operator.state.weight.mul_(200)
    x = digits.x[:20]
    assert model.train().state(x).shape == (20, 4, 8, 8)
    with pytest.raises(ConvergenceError):
        model.eval().state(x)


def test_a_penalty_changes_the_training(digits: DigitImages) -> None:
    settings = ImageDEQSettings(epochs=1, channels=2, rate=math.inf)
    free, held = (train_image_deq(digits, replace(settings, penalty=penalty)) for penalty in (0.0, 4.0))
    sizes = [float(trained.model.operator.state.weight.detach().norm()) for trained in (free, held)]
    assert sizes[1] < sizes[0]


# ------------------------------------------------------------------------------------------------------------- graphs


def star(**options: Any) -> ImplicitGraphNetwork:
    with seeded(0):
        return ImplicitGraphNetwork(3, 2, STAR, 6, channels=4, **options).eval()


def features() -> Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


def test_the_implicit_graph_operator_is_the_papers_equation() -> None:
    model, x = star(), features()
    adjacency = torch.eye(6)
    adjacency[STAR[1], STAR[0]] = 1
    scale = adjacency.sum(dim=1).rsqrt()
    A = scale[:, None] * adjacency * scale[None, :]
    state, encoded = torch.randn(6, 4, generator=torch.Generator().manual_seed(2)), model.encoded(x, STAR)
    weight = model.operator.convolution.lin.weight
    expected = torch.relu(A @ state @ weight.T + encoded)
    torch.testing.assert_close(model.operator(state, encoded, STAR), expected)


def test_t1_an_implicit_graph_network_contracts_in_its_weighted_sup_norm_alone() -> None:
    """On a star A's largest row sum is 1.7 though its spectral radius is 1."""
    model = star(rate=0.9)
    with torch.no_grad():
        model.operator.convolution.lin.parametrizations.weight.original.mul_(5)
    encoded = model.encoded(features(), STAR).detach()
    state = model.initial_state(features(), STAR)
    norm = model.state_norm()
    certificate = certify(model.operator, state, encoded, STAR, batch_dims=0, norm=norm, theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    assert 0.89 < certificate.rate <= 0.9
    assert check(certificate, model.operator, state, encoded, STAR).accepted
    plain = certify(model.operator, state, encoded, STAR, batch_dims=0, norm=Norm("linf"), theorem="picard")
    assert plain.verdict is not Verdict.CERTIFIED


def test_an_implicit_graph_network_trains_and_refuses_another_graph() -> None:
    from torch_geometric.data import Data

    mask = torch.tensor([True, True, True, True, False, False])
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    data = Data(x=features(), edge_index=STAR, y=y, train_mask=mask, val_mask=~mask, test_mask=~mask)
    settings = ImplicitGraphSettings(epochs=20, channels=4, hidden=8, dropout=0.0, select_every=0)
    trained = train_ignn(data, settings)
    assert trained.loss[-1] < trained.loss[0]
    rows = by_iteration(trained.model, data, 80)
    assert rows[-1]["residual"] < 1e-2 * rows[0]["residual"]
    with pytest.raises(InputError, match="not the graph"):
        trained.model(data.x, STAR.flip(1)[:, :4])


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (lambda: MonotoneSettings(margin=1.0), "margin"),
        (lambda: MonotoneSettings(width=0), "width"),
        (lambda: MonotoneSettings(epochs=0), "epochs"),
        (lambda: MonotoneSettings(width=2.5), "width"),  # type: ignore[arg-type]
        (lambda: MonotoneSettings(learning_rate="a"), "learning_rate"),  # type: ignore[arg-type]
        (lambda: ImageDEQSettings(channels="a"), "channels"),  # type: ignore[arg-type]
        (lambda: ImageDEQSettings(rate="a"), "rate"),  # type: ignore[arg-type]
        (lambda: ImplicitGraphSettings(steps=1.5), "steps"),  # type: ignore[arg-type]
        (lambda: ImplicitGraphSettings(rate=None), "rate"),  # type: ignore[arg-type]
        (lambda: ImageDEQSettings(channels=0), "channels"),
        (lambda: ImageDEQSettings(rate=math.nan), "rate"),
        (lambda: ImageDEQSettings(penalty=-1.0), "penalty"),
        (lambda: ImplicitGraphSettings(rate=1.0), "rate"),
        (lambda: ImplicitGraphSettings(norm="l1"), "norm"),
        (lambda: ImplicitGraphSettings(steps=-1), "steps"),
        (lambda: ImplicitGraphSettings(dropout=1.0), "dropout"),
        (lambda: ImplicitGraphSettings(select_every=-1), "select_every"),
    ],
)
def test_settings_out_of_range_are_named(settings: Any, name: str) -> None:
    with pytest.raises(InputError, match=name):
        settings()


def test_images_whose_equilibrium_is_not_found_are_counted(digits: DigitImages) -> None:
    settings = ImageDEQSettings(channels=4, rate=math.inf)
    task = ClassifierTask(digits, lambda: ImageDEQ(4, math.inf), settings, seed=0)
    task.model.eval()
    assert task.score()[1] == 0
    with torch.no_grad():
        task.model.operator.state.weight.mul_(200)  # type: ignore[union-attr, operator]
    accuracy, unsolved = task.score()
    assert 0 < unsolved <= len(digits.x)
    assert 0 <= accuracy["test"] <= 1
