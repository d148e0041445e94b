"""Arguments of the wrong kind get a message that names them: no default in silence, no error from deep inside."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deqops import (
    Anderson,
    Broyden,
    ForwardBackward,
    ImplicitAdjoint,
    InputError,
    NewtonKrylov,
    PeacemanRachford,
    Phantom,
    Picard,
    Tolerance,
    solve,
)
from deqops.verify import (
    Around,
    Ball,
    Box,
    Norm,
    Verdict,
    certify,
    certify_each,
    convolution_norm_bound,
    enclose,
    gradient_error_bound,
    lipschitz_bound,
    nonexpansive_bound,
    nystrom_bound,
    projection_bound,
    quadrature,
    rounding_floor,
    sensitivity_bound,
)

Y = torch.zeros(1, 2, dtype=torch.float64)
NUMBERS: list[Any] = [2.5, -1, float("nan"), 10**400, True]
OTHERS: list[Any] = [[], {}, (1, 2), torch.ones(3), object(), nn.Linear, b"l2"]
WORDS: list[Any] = ["x", "ball"]


def G(y: Tensor) -> Tensor:
    return 0.5 * torch.tanh(y)


CERTIFICATE, RULE = certify(G, Y), quadrature("gauss2", 0.0, 1.0, 4)
WRONG: dict[str, tuple[Callable[..., Any], dict[str, list[Any]]]] = {
    "certify": (
        lambda **options: certify(G, Y, **options),
        {
            "norm": [*NUMBERS, *OTHERS, *WORDS],
            "region": [*NUMBERS, *OTHERS, *WORDS, Ball, (Y, Y)],
            "theorem": [*NUMBERS, *OTHERS, *WORDS],
            "damping": [0, float("inf"), float("nan"), 10**400, True, *OTHERS, *WORDS],
            "batch_dims": [*NUMBERS, *OTHERS, *WORDS],
            "budget": [-1, 0, float("nan"), *OTHERS, *WORDS],
            "progress": [1, "x", []],
        },
    ),
    "certify_each": (
        lambda **options: certify_each(G, Y, **options),
        {
            "norm": [*NUMBERS, *OTHERS, *WORDS],
            "region": [*NUMBERS, *OTHERS, *WORDS, Ball, (Y, Y)],
            "damping": [True, *OTHERS, *WORDS],
            "progress": [1, "x", []],
        },
    ),
    "lipschitz_bound": (
        lambda **options: lipschitz_bound(G, Y, **options),
        {
            "norm": [*NUMBERS, *OTHERS, *WORDS, "auto"],
            "region": [*NUMBERS, *OTHERS, *WORDS, Ball, Around(), Around(Y)],
            "batch_dims": [*NUMBERS, *OTHERS, *WORDS],
        },
    ),
    "nonexpansive_bound": (
        lambda **options: nonexpansive_bound(G, Y, **options),
        {"region": [*NUMBERS, *OTHERS, *WORDS, Around()], "damping": [1, 0, True, None, *OTHERS, *WORDS]},
    ),
    "solve": (
        lambda **options: solve(options.pop("G", G), options.pop("y0", Y), **options),
        {
            "G": [1, "x", nn.Tanh, None],
            "y0": [1, "x", None, torch.ones(2, dtype=torch.int64)],
            "solver": [*NUMBERS, *OTHERS, *WORDS, Anderson],
            "tolerance": [*NUMBERS, *OTHERS, *WORDS, Tolerance],
            "adjoint": [*NUMBERS, *OTHERS, *WORDS, ImplicitAdjoint],
            "batch_dims": [*NUMBERS, *OTHERS, *WORDS],
            "max_evaluations": [2.5, -1, True, *OTHERS, *WORDS],
            "callback": [1, "x", []],
        },
    ),
    "rounding_floor": (
        lambda **options: rounding_floor(options.pop("certificate", CERTIFICATE), G, options.pop("y", Y), **options),
        {
            "certificate": [*NUMBERS, *OTHERS, *WORDS, None],
            "y": [1.0, "x", None, torch.zeros(3)],
            "radius": [0, 10**400, True, *OTHERS, *WORDS],
            "ulps": [0, 10**400, True, None, *OTHERS, *WORDS],
        },
    ),
    "gradient_error_bound": (
        lambda **options: gradient_error_bound(options.pop("certificate", CERTIFICATE), G, Y, **options),
        {"certificate": [1, "x", None], "terms": [-1, 2.5, True, *OTHERS, *WORDS]},
    ),
    "sensitivity_bound": (
        lambda **options: sensitivity_bound(CERTIFICATE, G, Y, **options),
        {"input": [1, -1, True, None, *OTHERS, *WORDS]},
    ),
    "enclose": (
        lambda **options: enclose(options.pop("certificate", CERTIFICATE), G, options.pop("y", Y)),
        {"certificate": [1, "x", None], "y": [1.0, "x", None]},
    ),
    "iterations": (
        lambda **options: CERTIFICATE.iterations(options.pop("eps", 0.1), options.pop("first_step", 1.0)),
        {
            "eps": [0, 10**400, True, None, *OTHERS, *WORDS],
            "first_step": [-1, 10**400, True, None, torch.zeros(0), -torch.ones(3), [], "x"],
        },
    ),
    "distance_bound": (
        lambda **options: CERTIFICATE.distance_bound(options.pop("first", Y), options.pop("second", Y)),
        {"first": [1.0, "x", None, torch.zeros(3)], "second": [1.0, "x", None, torch.zeros(3)]},
    ),
    "projection_bound": (
        lambda **options: projection_bound(**{"rate": 0.5, "projection_norm": 1.0, "distance": 0.1} | options),
        {name: [-1, float("nan"), 10**400, True, *OTHERS, *WORDS] for name in ("rate", "projection_norm", "distance")},
    ),
    "quadrature": (
        lambda **options: quadrature(**{"name": "gauss2", "a": 0.0, "b": 1.0, "panels": 4} | options),
        {"name": [1, "x", None, []], "panels": [0, 2.5, True, *OTHERS, *WORDS]},
    ),
    "nystrom_bound": (
        lambda **options: nystrom_bound(options.pop("rule", RULE), options.pop("scale", 0.5), 0.5, 0.1),
        {"rule": [1, "gauss2", None], "scale": [float("inf"), 10**400, True, *OTHERS, *WORDS]},
    ),
    "convolution_norm_bound": (
        lambda **options: convolution_norm_bound(
            torch.ones(1, 1, 3), (4,), **{"padding_mode": "zeros", "padding": 1} | options
        ),
        {"padding_mode": [1, "x", []], "groups": [0, 2, 2.5, True, [1], b"x", "x"]},
    ),
    "Ball": (
        lambda **options: Ball(options.pop("center", Y), options.pop("radius", 1.0), **options),
        {
            "center": [1.0, "x", None, [Y], ()],
            "radius": [0, -1, float("inf"), float("nan"), 10**400, True, None, *OTHERS, *WORDS],
            "norm": [*NUMBERS, *OTHERS, *WORDS, "auto"],
        },
    ),
    "Box": (
        lambda **options: Box(options.pop("lower", Y), options.pop("upper", Y)),
        {"lower": [1.0, "x", None, [Y], ()], "upper": [1.0, "x", None, [Y], ()]},
    ),
    "Around": (Around, {"center": [1.0, "x", [Y], ()]}),
    "Norm": (
        lambda **options: Norm(options.pop("order", "l2"), **options),
        {"order": [*NUMBERS, *OTHERS, *WORDS], "weights": [1, "x", torch.ones(3), (1.0,), [Y[0] + 1]]},
    ),
    "Tolerance": (
        Tolerance,
        {name: [-1, 10**400, True, *OTHERS, *WORDS] for name in ("absolute", "relative", "error")},
    ),
    "Picard": (Picard, {"damping": [0, -1, 10**400, True, *OTHERS, *WORDS]}),
    "Broyden": (Broyden, {"damping": [0, -1, 10**400, True, *OTHERS, *WORDS], "memory": [0, 2.5, *OTHERS, *WORDS]}),
    "Phantom": (Phantom, {"damping": [0, 10**400, *OTHERS, *WORDS], "steps": [0, 2.5, *OTHERS, *WORDS]}),
    "ImplicitAdjoint": (
        ImplicitAdjoint,
        {"solver": [*NUMBERS, *OTHERS, *WORDS, Anderson], "tolerance": [*NUMBERS, *OTHERS, *WORDS, Tolerance]},
    ),
}
NAMED = {"Ball": "region", "Box": "region", "Around": "region", "Norm": "norm", "iterations": "iterations"}
"""What their arguments are called in the messages."""
CASES = [(name, argument) for name, (_, wrong) in WRONG.items() for argument in wrong]


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_wrong_argument_is_named(name: str, argument: str) -> None:
    call, wrong = WRONG[name]
    for value in wrong[argument]:
        with pytest.raises(InputError, match=f"^({NAMED.get(name, argument)}|{argument}):"):
            call(**{argument: value})


def test_every_kind_of_region_is_taken() -> None:
    ball, box = Ball(Y, torch.tensor(0.5), "linf"), Box((Y - 1,), Y + 1)
    assert ball.radius == 0.5
    assert isinstance(ball.norm, Norm)
    assert ball.norm.order == "linf"
    for region, asked in itertools.product((None, ball, box, Around(Y)), ("auto",)):
        assert certify(G, Y, region=region, norm=asked, damping=torch.tensor(1.0)).verdict is Verdict.CERTIFIED


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (Picard(np.float32(0.5)), Picard(0.5)),
        (Anderson(np.int64(3), np.float32(0.25), np.int32(1)), Anderson(3, 0.25, 1)),
        (Broyden(np.uint8(3), np.float64(0.5)), Broyden(3, 0.5)),
        (NewtonKrylov(np.int64(3), np.float32(0.25), np.float64(0.125)), NewtonKrylov(3, 0.25, 0.125)),
        (ForwardBackward(np.float32(0.5)), ForwardBackward(0.5)),
        (PeacemanRachford(np.float32(0.5)), PeacemanRachford(0.5)),
        (Tolerance(np.float32(0.5), np.int64(1)), Tolerance(0.5, 1)),
        (Tolerance(error=np.float32(0.5), certificate=CERTIFICATE), Tolerance(error=0.5, certificate=CERTIFICATE)),
    ],
    ids=repr,
)
def test_numbers_of_numpy_are_kept_as_pythons(made: Any, plain: Any) -> None:
    assert made == plain
    assert repr(made) == repr(plain)
    kinds = {type(value) for value in vars(made).values()}
    assert not any(issubclass(kind, np.generic) for kind in kinds)


@pytest.mark.parametrize("wrong", [True, np.bool_(True), 10**400, np.float32("nan"), 1j, "1", torch.ones(())])
def test_what_is_no_number_is_refused_by_name(wrong: Any) -> None:
    for name, kind in (("damping", Picard), ("memory", Broyden), ("relative", Tolerance), ("forcing", NewtonKrylov)):
        if name != "memory" or type(wrong) is not int:
            with pytest.raises(InputError, match=f"^{name}: "):
                kind(**{name: wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [np.int64(100), 10**20])
@pytest.mark.parametrize("solver", [Picard(), Anderson(10**9), Broyden(10**9), NewtonKrylov(10**20)], ids=repr)
def test_counts_of_any_size(solver: Any, most: Any) -> None:
    adjoint = ImplicitAdjoint(solver, max_evaluations=most)
    assert solve(lambda z: G(z) + 1, torch.ones(2, 2), solver=solver, max_evaluations=most, adjoint=adjoint).converged


@pytest.mark.parametrize("swapped", [lambda a, b: {"b": b, "a": a}, lambda a, b: ({"b": b, "a": a}, a)])
def test_keys_in_another_order_are_told(swapped: Any) -> None:
    def G(state: Any) -> Any:
        own = state[0] if isinstance(state, tuple) else state
        return swapped(own["a"], own["b"])

    one = torch.ones(1, 2)
    start = swapped(one, one)
    whole, own = isinstance(start, dict), {"a": one, "b": one}
    with pytest.raises(InputError, match="keys in another order"):
        solve(G, own if whole else (own, one))
    with pytest.raises(InputError, match="same structure"):
        solve(lambda state: {"b": one, "c": one}, own)
    with pytest.raises(InputError, match="same structure"):
        solve(lambda state: {"b": one, "a": (one,)}, own)
