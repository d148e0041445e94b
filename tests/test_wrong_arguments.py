"""Arguments of the wrong kind get a message that names them: no default in silence, no error from deep inside."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deqops import Anderson, Broyden, ImplicitAdjoint, InputError, Phantom, Picard, Tolerance, solve
from deqops.verify import (
    Around,
    Ball,
    Box,
    Norm,
    Verdict,
    certify,
    certify_each,
    lipschitz_bound,
    nonexpansive_bound,
)

Y = torch.zeros(1, 2, dtype=torch.float64)
NUMBERS: list[Any] = [2.5, -1, float("nan"), 10**400, True]
OTHERS: list[Any] = [[], {}, (1, 2), torch.ones(3), object(), nn.Linear, b"l2"]
WORDS: list[Any] = ["x", "ball"]


def G(y: Tensor) -> Tensor:
    return 0.5 * torch.tanh(y)


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
NAMED = {
    "lower": "region",
    "upper": "region",
    "center": "region",
    "radius": "region",
    "order": "norm",
    "weights": "norm",
}
CASES = [(name, argument) for name, (_, wrong) in WRONG.items() for argument in wrong]


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_wrong_argument_is_named(name: str, argument: str) -> None:
    call, wrong = WRONG[name]
    for value in wrong[argument]:
        with pytest.raises(InputError, match=f"^{NAMED.get(argument, argument)}:"):
            call(**{argument: value})


def test_every_kind_of_region_is_taken() -> None:
    ball, box = Ball(Y, torch.tensor(0.5), "linf"), Box((Y - 1,), Y + 1)
    assert ball.radius == 0.5
    assert isinstance(ball.norm, Norm)
    assert ball.norm.order == "linf"
    for region, asked in itertools.product((None, ball, box, Around(Y)), ("auto",)):
        assert certify(G, Y, region=region, norm=asked, damping=torch.tensor(1.0)).verdict is Verdict.CERTIFIED
