"""Neural integral equations: kernels, constants, T8 for Volterra's, attention, grids, other points, and their data."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deqops import InputError, Picard, Tolerance
from deqops.models import (
    FREDHOLM,
    NIE,
    TRAJECTORIES,
    VOLTERRA,
    FunctionPairs,
    IntegralSettings,
    Nystrom,
    burgers_functions,
    errors_by_iteration,
    flow_functions,
    fredholm_functions,
    fredholm_rule,
    train_integral,
    train_plain,
    volterra_functions,
    volterra_rule,
)
from deqops.models._integral_kernels import around, neighbours
from deqops.models._integral_training import count_weights, relative_error
from deqops.verify import Around, Verdict, certify, check

F64 = torch.float64
TIGHT = Tolerance(relative=1e-12)


def network(rule: Any, **options: Any) -> NIE:
    """Small, in float64, with weights that matter."""
    chosen: dict[str, Any] = {"channels": 2, "hidden": 6, "width": 4, "solver": Picard(), "tolerance": TIGHT, **options}
    model = NIE(1, 1, rule, **chosen).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


# ---------------------------------------------------------------------------------------------------------- kernels


def test_the_network_is_nystroms_method_for_its_kernel() -> None:
    rule = fredholm_rule("gauss2", 3)
    T: Any = network(rule).operator.T
    y = torch.randn(4, 6, 2, dtype=F64)
    assert torch.allclose(T(y[:, :, None])[:, :, 0], Nystrom(T.kernel, rule)(y), atol=1e-13)


@pytest.mark.parametrize("constant", [0.5, 0.95])
def test_the_constant_is_kept_and_certified_whatever_the_weights(constant: float) -> None:
    model = network(fredholm_rule("gauss2", 4).to(torch.float64), constant=constant)
    with torch.no_grad():
        for parameter in model.operator.T.parameters():  # type: ignore[union-attr]
            parameter.mul_(50)
    x = torch.randn(1, 8, 1, 1, dtype=F64)
    certificate = certify(model.layer, x, theorem="picard", norm="linf")
    assert certificate.verdict is Verdict.CERTIFIED
    assert 0.1 * constant < certificate.rate <= constant * (1 + 1e-12)  # type: ignore[operator]
    assert check(certificate, model.layer, model.layer.initial_state(x), x).accepted


def test_t8_volterra_networks_are_final_after_as_many_sweeps_as_points() -> None:
    model = network(volterra_rule("rectangle", 5), constant=math.inf)
    with torch.no_grad():
        model.operator.T.V.weight.mul_(20)  # type: ignore[union-attr]
    x = torch.randn(1, 6, 1, 1, dtype=F64)
    certificate = certify(model.layer, x, theorem="causal")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.depth == 6
    assert check(certificate, model.layer, model.layer.initial_state(x), x).accepted
    state, states = 9 * torch.randn(1, 6, 1, 2, dtype=F64), []
    for _ in range(9):
        state = model.operator(state, x)
        states.append(state)
    for sweep in range(1, 7):
        assert torch.allclose(states[sweep - 1][:, :sweep], states[-1][:, :sweep], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(states[3][:, 5], states[-1][:, 5], rtol=1e-3)


def test_attention_is_certified_around_its_equilibrium() -> None:
    model = network(fredholm_rule("gauss2", 2), kernel="attention", hidden=4)
    x = torch.randn(1, 4, 1, 1, dtype=F64)
    certificate = certify(model.layer, x, region=Around())
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, model.layer, model.layer.initial_state(x), x).accepted


def test_attention_sees_functions_and_not_points() -> None:
    """Its integrals are those of the functions: with weights in the softmax, points of any density."""
    model = network(fredholm_rule("gauss3", 4), kernel="attention")
    values = []
    for name, panels in (("gauss3", 4), ("gauss3", 8), ("midpoint", 2000)):
        rule = fredholm_rule(name, panels)
        model.on(rule)
        y = torch.sin(3 * rule.points)[None, :, None, None].expand(-1, -1, -1, 2)
        values.append((rule.weights[0] @ model.operator.T(y)[0, :, 0]).detach())  # type: ignore[operator, misc]
    assert torch.allclose(values[1], values[2], atol=1e-6)
    assert not torch.allclose(values[0] - values[0].roll(1), torch.zeros(2, dtype=F64), atol=1e-3)


def test_attention_refuses_weights_that_are_not_positive() -> None:
    with pytest.raises(InputError, match="positive weights"):
        NIE(1, 1, volterra_rule("rectangle", 4), kernel="attention")


# ------------------------------------------------------------------------------------------------------------- grids


def test_neighbours_on_periodic_grids() -> None:
    assert neighbours((), 2).tolist() == [[0]]
    assert neighbours((5,), 1).tolist() == [[4, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0]]
    everything = neighbours((4,), 9)
    assert everything.shape == (4, 4)
    assert all(sorted(row) == [0, 1, 2, 3] for row in everything.tolist())
    square = neighbours((3, 4), 1)
    assert square.shape == (12, 9)
    assert square[0].tolist() == [11, 8, 9, 3, 0, 1, 7, 4, 5]
    y = torch.arange(5.0)[:, None]
    assert around(y, neighbours((5,), 1))[2].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("kernel", ["network", "attention"])
def test_networks_on_a_grid_commute_with_shifts(kernel: str) -> None:
    rule = fredholm_rule("gauss2", 2)
    model = network(rule, grid=(3, 4), reach=1, kernel=kernel, constant=0.9, steps=3)
    x = torch.randn(2, 1, 3, 4, 1, dtype=F64)
    moved = x.roll((1, 2), (2, 3))
    found, shifted = (model(part.reshape(2, 1, 12, 1)).reshape(2, 4, 3, 4, 1) for part in (x, moved))
    assert torch.allclose(shifted, found.roll((1, 2), (2, 3)), atol=1e-12)
    assert float((found - x).detach().abs().max()) > 1e-2


# ------------------------------------------------------------------------------------------------------------ models


def test_iteration_starts_from_what_was_given() -> None:
    model = NIE(1, 1, fredholm_rule("gauss2", 2).to(torch.float32), channels=3)
    x = torch.randn(2, 1, 1, 1)
    start = next(model.iterates(x))
    assert start.shape == (2, 4, 1, 3)
    assert torch.allclose(model.readout(start), x.expand(-1, 4, -1, -1), atol=1e-6)


def test_steps_are_applications_of_the_operator() -> None:
    rule = fredholm_rule("gauss2", 2)
    solved, twice = (network(rule, steps=steps, constant=0.9) for steps in (0, 2))
    twice.load_state_dict(solved.state_dict())
    x = torch.randn(3, 4, 1, 1, dtype=F64)
    lifted = solved.operator.f(x)  # type: ignore[operator, misc]
    assert torch.allclose(twice.state(x), solved.operator(solved.operator(lifted, x), x))
    limit = next(islice(solved.iterates(x), 200, None))
    assert torch.allclose(solved.state(x), limit, atol=1e-9)


def test_the_same_weights_on_other_points() -> None:
    """Finer points approach one function."""
    model = network(fredholm_rule("gauss2", 4), constant=0.9)
    means = []
    for panels in (4, 16, 64):
        rule = fredholm_rule("gauss2", panels)
        model.on(rule)
        x = torch.cos(2 * rule.points)[None, :, None, None]
        means.append(float(rule.weights[0] @ model(x)[0, :, 0, 0].detach()))
    assert abs(means[2] - means[1]) < 0.1 * abs(means[1] - means[0]) + 1e-9
    assert abs(means[2] - means[1]) < 1e-6


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("kernel", "matrix"),
        ("channels", 0),
        ("hidden", 0),
        ("width", 0),
        ("heads", 0),
        ("reach", -1),
        ("constant", 0.0),
        ("constant", math.nan),
        ("constant", "a"),
        ("reach", 1.5),
        ("heads", "a"),
        ("steps", -1),
        ("epochs", 0),
        ("batch", 0),
        ("equation", "abel"),
        ("learning_rate", 0.0),
        ("select_every", -1),
    ],
)
def test_settings_out_of_range_are_named(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=option):
        IntegralSettings(**{option: value})


def test_heads_divide_the_hidden_columns() -> None:
    with pytest.raises(InputError, match="divisor"):
        IntegralSettings(kernel="attention", hidden=5, heads=2)


# -------------------------------------------------------------------------------------------------------------- data


def test_fredholm_pairs_solve_their_equation() -> None:
    """By a rule of another kind, through values at other points of the same functions."""
    fine = fredholm_functions(10, panels=300, seed=3)
    rule = fine.rule("fredholm").to(F64)
    y, f = fine.y[..., 0, 0].double(), fine.x[..., 0, 0].double()
    kernel = rule.weights / (1 + (rule.points[:, None] - rule.points) ** 2)
    assert torch.allclose(y, f + 0.9 * y.sin() @ kernel.T, atol=2e-6)


def test_volterra_pairs_solve_their_equation() -> None:
    data = volterra_functions(10, panels=400, seed=3)
    rule = volterra_rule("trapezoid", 400)
    y, f = data.y[..., 0, 0].double(), data.x[..., 0, 0].double()
    kernel = 3 * rule.weights * torch.cos(2 * (rule.points[:, None] - rule.points))
    assert torch.allclose(y, f + y.sin() @ kernel.T, atol=2e-4)


@pytest.mark.parametrize("make", [fredholm_functions, volterra_functions])
def test_pairs_are_fixed_by_the_seed_and_do_not_depend_on_the_points(make: Any) -> None:
    state = torch.random.get_rng_state()
    data = make(20, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(data.x, make(20, seed=1).x)
    assert not torch.equal(data.y, make(20, seed=2).y)
    assert [len(data.part(name)[0]) for name in ("train", "validation", "test")] == [14, 2, 4]
    if make is volterra_functions:
        assert torch.allclose(make(20, panels=32, seed=1).y[:, ::2], data.y, atol=1e-6)


def test_data_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match="scale"):
        fredholm_functions(20, scale=1.0)
    with pytest.raises(InputError, match="count"):
        volterra_functions(3)
    with pytest.raises(InputError, match="size"):
        flow_functions(10, size=1)
    with pytest.raises(InputError, match="training, validation"):
        FunctionPairs(torch.zeros(5, 4, 1, 1), torch.zeros(5, 4, 1, 1), "gauss2", 2, 4, 1)
    with pytest.raises(InputError, match="equidistant"):
        fredholm_functions(20).rule("volterra")
    with pytest.raises(InputError, match="abel"):
        fredholm_functions(20).rule("abel")


def test_flows_start_at_what_is_given() -> None:
    data = flow_functions(10, size=4, frames=2)
    assert data.x.shape == (10, 1, 16, 1)
    assert data.y.shape == (10, 3, 16, 1)
    assert torch.equal(data.x[:, 0], data.y[:, 0])
    assert data.grid == (4, 4)


def write_burgers(root: Path, **arrays: Any) -> None:
    (root / "pde").mkdir(exist_ok=True)
    np.savez(root / "pde" / "burgers_lowres.npz", **arrays)


def trajectories() -> dict[str, Any]:
    y = torch.randn(12, 17, 6).numpy()
    return {"input": y[:, 0], "output": y}


def test_burgers_trajectories_are_read_from_a_folder(tmp_path: Path) -> None:
    arrays = trajectories()
    write_burgers(tmp_path, **arrays)
    data = burgers_functions(tmp_path, training=6, validation=2)
    assert data.x.shape == (12, 1, 6, 1)
    assert data.grid == (6,)
    assert torch.equal(data.x[:, 0], data.y[:, 0])
    assert float(data.x.square().mean()) == pytest.approx(1, abs=1e-5)
    unit = float(np.sqrt((arrays["input"] ** 2).mean()))
    assert torch.allclose(data.y[..., 0] * unit, torch.from_numpy(arrays["output"]), atol=1e-6)


def test_burgers_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        burgers_functions(tmp_path)
    arrays = trajectories()
    write_burgers(tmp_path, input=arrays["input"])
    with pytest.raises(InputError, match="input and output"):
        burgers_functions(tmp_path)
    write_burgers(tmp_path, input=arrays["input"], output=arrays["output"][:, :16])
    with pytest.raises(InputError, match="shapes"):
        burgers_functions(tmp_path)
    arrays["output"][3, 3, 3] = np.nan
    write_burgers(tmp_path, **arrays)
    with pytest.raises(InputError, match="not finite"):
        burgers_functions(tmp_path)
    (tmp_path / "pde" / "burgers_lowres.npz").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(InputError, match="archive"):
        burgers_functions(tmp_path)


# ---------------------------------------------------------------------------------------------------------- training


def test_training_lowers_the_error_and_iterating_lowers_it_further() -> None:
    data = fredholm_functions(150, panels=2)
    settings = replace(FREDHOLM, epochs=12, hidden=16, batch=15)
    trained = train_integral(data, settings)
    x, y = data.part("test")
    assert trained.error["test"] < 0.6 * float(relative_error(x, y))
    rows = errors_by_iteration(trained.model, data, 30)
    assert rows[1]["test"] > 1.25 * rows[30]["test"]
    assert rows[30]["test"] == pytest.approx(trained.error["test"], rel=0.02)
    assert rows[30]["residual"] < 1e-2 * rows[0]["residual"]


def test_training_is_the_same_for_the_same_seed() -> None:
    data = volterra_functions(20, panels=4)
    settings = replace(VOLTERRA, epochs=2, hidden=4, batch=7)
    first, second, other = (train_integral(data, settings, seed=seed) for seed in (1, 1, 2))
    assert first.loss == second.loss
    assert first.loss != other.loss


@pytest.mark.parametrize("settings", [FREDHOLM, TRAJECTORIES])
def test_the_plain_network_has_at_most_as_many_weights(settings: IntegralSettings) -> None:
    data = flow_functions(10, size=4, frames=2) if settings is TRAJECTORIES else fredholm_functions(20)
    plain = train_plain(data, replace(settings, epochs=1))
    rule = data.rule("fredholm")
    sizes = {name: getattr(settings, name) for name in ("channels", "hidden", "width", "reach")}
    weights = count_weights(NIE(1, 1, rule, grid=data.grid, **sizes))
    assert 0.85 * weights < count_weights(plain.model) <= weights
    x: Tensor = data.part("test")[0]
    assert plain.model(x).shape == data.part("test")[1].shape
