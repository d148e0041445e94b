"""A state machine: a model is trained, saved, loaded, copied, certified, checked and solved in random order."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from torch import Tensor, nn

from deqops import EquilibriumLayer, Tolerance
from deqops.verify import Certificate, Verdict, certify, check
from deqops.verify.contractive import bounded


class Lifecycle(RuleBasedStateMachine):
    """What holds of a layer and its certificates, whatever happens in between.

    A certificate is accepted for the weights that it was made for and refused for others; what is loaded or copied is
    the same operator; and no solution is farther from another than their proven errors allow. Use it by
    `TestLifecycle = Lifecycle.TestCase`; override `make` for a model of your own. Theorem: T1 `picard`.
    """

    certified: bool = True
    """Whether every state of the model has to be certified; False for models that may leave the set."""

    def make(self) -> tuple[EquilibriumLayer, tuple[Any, ...]]:
        """A layer and its example inputs; the same whenever it is called. By default one that cannot expand."""
        torch.manual_seed(0)
        return EquilibriumLayer(_Step()), (torch.linspace(-1, 1, 6).reshape(2, 3),)

    @initialize()
    def begin(self) -> None:
        """A new model without a past."""
        self.layer, self.inputs = self.make()
        self.certificate: Certificate | None = None
        self.is_current = False
        self.saved: bytes | None = None
        self.saved_certificate: Certificate | None = None

    @rule(rate=st.sampled_from([1e-3, 0.1, 10.0]), seed=st.integers(0, 3))
    def train(self, rate: float, seed: int) -> None:
        """One step of gradient descent towards random targets."""
        value = self.layer(*self.inputs)
        target = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed), dtype=value.dtype)
        self.layer.zero_grad()
        (value - target).square().sum().backward()
        before = [parameter.detach().clone() for parameter in self.layer.parameters()]
        with torch.no_grad():
            for parameter in self.layer.parameters():
                if parameter.grad is not None:
                    parameter.sub_(rate * parameter.grad)
        moved = any(not torch.equal(a, b) for a, b in zip(before, self.layer.parameters(), strict=True))
        self.is_current &= not moved

    @rule()
    def certify(self) -> None:
        """Certify the weights as they are."""
        certificate = certify(self.layer, *self.inputs, theorem="picard", norm="l2")
        if self.certified:
            assert certificate.verdict is Verdict.CERTIFIED, certificate.explain()
        if certificate.verdict is Verdict.CERTIFIED:
            self.certificate, self.is_current = certificate, True

    @precondition(lambda self: self.certificate is not None)
    @rule()
    def check(self) -> None:
        """The checker accepts a certificate of these weights, and of no others."""
        state = self.layer.initial_state(*self.inputs)
        report = check(self.certificate, self.layer, state, *self.inputs)
        assert report.accepted == self.is_current, f"{report}"

    @precondition(lambda self: self.is_current)
    @rule(tolerance=st.sampled_from([1e-1, 1e-3, 1e-5]))
    def solve(self, tolerance: float) -> None:
        """T1: two solutions are no farther apart than both are from the equilibrium, proven."""
        assert self.certificate is not None
        operator = self.layer.operator
        values, errors = [], []
        for relative in (tolerance, 1e-5):
            layer = EquilibriumLayer(operator, tolerance=Tolerance(relative=relative, certificate=self.certificate))
            solution = layer.solve(*self.inputs)
            values.append(solution.value.detach().double())
            errors.append(solution.error_bound.l2)
        distance = (values[0] - values[1]).flatten(1).norm(dim=1)
        assert bool((distance <= (errors[0] + errors[1]) * (1 + 1e-12)).all())

    @rule()
    def save(self) -> None:
        """Keep the weights, and what is proven of them."""
        buffer = io.BytesIO()
        torch.save(self.layer.state_dict(), buffer)
        self.saved = buffer.getvalue()
        self.saved_certificate = self.certificate if self.is_current else None

    @precondition(lambda self: self.saved is not None)
    @rule()
    def load(self) -> None:
        """Into a new model: what was proven then is proven now."""
        assert self.saved is not None
        self.layer, self.inputs = self.make()
        self.layer.load_state_dict(torch.load(io.BytesIO(self.saved), weights_only=True))
        self.certificate, self.is_current = self.saved_certificate, self.saved_certificate is not None

    @rule()
    def copy(self) -> None:
        """Go on with a copy."""
        self.layer = copy.deepcopy(self.layer)


class _Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = bounded(nn.Linear(3, 3), 0.9)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        image: Tensor = torch.tanh(self.linear(z) + x)
        return image
