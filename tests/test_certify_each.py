"""`certify_each`: a verdict of its own for each problem of a batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from exact import seeded
from torch import Tensor, nn

from deqops import EquilibriumLayer, InputError
from deqops.graph import trace
from deqops.verify import Around, Ball, Box, Certificates, InputBox, Verdict, certify, certify_each
from deqops.verify._gains import lipschitz_gain


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


class Scaled(nn.Module):
    """`x tanh(z)`: constant |x|, for each problem its own."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return x * torch.tanh(z)


class Shared(nn.Module):
    """`tanh(W z + x + b)`, b shared by all problems."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        W = drawn(0, 4, 4)
        self.W = nn.Parameter(scale * W / float(torch.linalg.matrix_norm(W, 2)))

    def forward(self, z: Tensor, x: Tensor, b: Tensor) -> Tensor:
        return torch.tanh(z @ self.W.T + x + b)


X = torch.tensor([[0.5], [2.0], [0.25], [-0.9], [-3.0]], dtype=torch.float64)


def test_each_problem_has_the_verdict_it_has_alone() -> None:
    found = certify_each(Scaled(), zeros(5, 2), X, batched=("problem",), norm="l2")
    wanted = [Verdict.CERTIFIED, Verdict.REFUTED, Verdict.CERTIFIED, Verdict.CERTIFIED, Verdict.REFUTED]
    assert list(found.verdicts) == wanted
    assert found.certified.tolist() == [True, False, True, True, False]
    assert certify(Scaled(), zeros(5, 2), X, norm="l2").verdict is Verdict.REFUTED  # one claim about all of them
    for number, certificate in enumerate(found):
        rows = slice(number, number + 1)
        alone = certify(found.operator, zeros(1, 2), X[rows], norm="l2")
        assert alone.document() == certificate.document()
    for rate, x in zip(found.rates.tolist(), X[:, 0].tolist(), strict=True):
        assert math.isnan(rate) if abs(x) >= 1 else abs(x) <= rate <= abs(x) * (1 + 1e-9)
    assert all(report.accepted for report in found.check())
    assert found[1].witness is not None


def test_what_no_input_enters_is_proven_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return lipschitz_gain(*arguments)

    monkeypatch.setattr("deqops.verify._theorems._picard.lipschitz_gain", counted)
    x, b = drawn(1, 6, 4), drawn(2, 1, 4)
    found = certify_each(Shared(0.9), zeros(6, 4), x, b, batched=("problem", None))
    assert all(found.certified.tolist())
    assert calls == 1
    assert all(certificate.inputs[0].free for certificate in found)
    assert torch.equal(found.radii, torch.full((6,), math.inf, dtype=torch.float64))
    certify_each(Scaled(), zeros(5, 2), X, batched=("problem",), norm="l2")
    assert calls == 6  # the input is a factor: nothing is shared
    assert all(report.accepted for report in found.check())


def test_balls_of_their_own_choice_are_larger_than_the_one_for_all() -> None:
    x, b = torch.cat([3 * torch.ones(1, 4), torch.zeros(1, 4)]).double(), zeros(1, 4)
    model = Shared(1.5)
    both = certify(model, zeros(2, 4), x, b, region=Around(), theorem="newton_kantorovich")
    each = certify_each(
        model, zeros(2, 4), x, b, batched=("problem", None), region=Around(), theorem="newton_kantorovich"
    )
    assert all(each.certified.tolist())
    assert isinstance(both.region, Ball)
    assert float(each.radii.min()) >= both.region.radius / 1.2
    assert float(each.radii.max()) > 1.5 * both.region.radius
    assert all(report.accepted for report in each.check())


@pytest.mark.parametrize("kind", ["ball", "box", "around"])
def test_each_problem_gets_its_part_of_the_region(kind: str) -> None:
    x = torch.tensor([[1.5], [2.0], [3.0]], dtype=torch.float64)
    center = torch.cat([zeros(1, 1), zeros(1, 1) + 1.915, zeros(1, 1) + 2.985])
    region = {"ball": Ball(center, 0.2), "box": Box(center - 0.2, center + 0.2), "around": Around(center)}[kind]
    found = certify_each(Scaled(), zeros(3, 1), x, batched=("problem",), region=region, norm="linf")
    assert found.certified.tolist() == [False, True, True]  # 1.5 tanh z has slope 1.5 at 0
    for number, certificate in enumerate(found):
        where = certificate.region
        if isinstance(where, Ball):
            assert torch.equal(where.leaves[0], center[number : number + 1])
        else:
            assert isinstance(where, Box)
            assert torch.equal(where.ends[0][0], center[number : number + 1] - 0.2)
    assert found.check()[1].accepted
    assert found.check()[2].accepted


def test_an_input_between_two_ends_has_rows_too() -> None:
    box = InputBox(X.abs() - 0.1, X.abs() + 0.1)
    found = certify_each(Scaled(), zeros(5, 2), box, batched=("problem",), norm="linf")
    assert found.certified.tolist() == [True, False, True, False, False]
    assert found[0].inputs[0].ends is not None
    assert found[0].inputs[0].ends[0].shape == (1, 1)
    assert found.check()[0].accepted


def test_a_state_of_several_leaves_and_a_layer_that_knows_its_roles() -> None:
    class Pair(nn.Module):
        def forward(self, state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
            u, v = state
            return 0.4 * torch.tanh(v.sum(dim=1)) + x, 0.25 * v + 0.125 * u[:, None]

    x = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64)
    layer = EquilibriumLayer(Pair(), initial=lambda x: (torch.zeros_like(x), x.new_zeros(3, 2)), batched=("problem",))
    found = certify_each(layer, x)
    assert isinstance(found, Certificates)
    assert len(found) == 3
    assert all(found.certified.tolist())
    assert all(report.accepted for report in found.check())


def test_problems_that_are_mixed_have_no_verdicts_of_their_own() -> None:
    with pytest.raises(InputError, match="no verdicts of their own"):
        certify_each(lambda z: 0.5 * (z - z.mean(0)), zeros(3, 2))
    with pytest.raises(InputError, match="no verdicts of their own"):
        certify_each(lambda z: 0.5 * z.flip(0), zeros(3, 2))


def test_roles_are_told_and_never_guessed() -> None:
    with pytest.raises(InputError, match="batched"):
        certify_each(Scaled(), zeros(5, 2), X)
    with pytest.raises(InputError, match="role"):
        certify_each(Scaled(), zeros(5, 2), X, batched=("row",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="role"):
        certify_each(Scaled(), zeros(4, 2), X, batched=("problem",))
    with pytest.raises(InputError, match="no graphs"):
        certify_each(Scaled(), zeros(5, 2), X, batched=("node",))
    one = trace(Scaled(), zeros(1, 2), X[:1])
    assert certify_each(one, zeros(5, 2), X, batched=("problem",), norm="l2").certified.sum() == 3


def test_what_cannot_be_traced_is_unknown_for_each() -> None:
    def branching(z: Tensor) -> Tensor:
        return 0.5 * z if bool(z.sum() > 0) else z

    found = certify_each(branching, zeros(3, 2))
    assert set(found.verdicts) == {Verdict.UNKNOWN}
    assert all(certificate.reason for certificate in found)
    with pytest.raises(InputError, match="could not be traced"):
        found.check()


def test_progress_says_which_problem_and_a_spent_budget_leaves_first_attempts() -> None:
    told: list[str] = []
    certify_each(Scaled(), zeros(5, 2), X, batched=("problem",), norm="l2", progress=told.append)
    assert told[0] == "problem 1 of 5: trying picard"
    assert any(text.startswith("problem 5 of 5: looking for a refutation") for text in told)
    found = certify_each(Scaled(), zeros(5, 2), X, batched=("problem",), norm="l2", budget=1e-9)
    assert found.certified.tolist() == [True, False, True, True, False]
    assert set(found.verdicts) == {Verdict.CERTIFIED, Verdict.UNKNOWN}
    assert "budget" in found[1].reason


def test_the_summary_counts_and_names() -> None:
    text = certify_each(Scaled(), zeros(5, 2), X, batched=("problem",), norm="l2").explain()
    assert text.startswith("5 problems: 3 certified (picard), 2 refuted (refute).")
    assert "problem 1: two states of problem 0" in text
    many = certify_each(Scaled(), zeros(12, 1), zeros(12, 1) + 2, batched=("problem",), norm="l2").explain()
    assert many.endswith("and 2 more")
