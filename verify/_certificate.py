"""A certificate: the claim, its verdict, the verified hypotheses and witnesses, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from deqops._errors import InputError
from deqops._numbers import number_above, number_below
from deqops.graph import tensor_digest

from ._claim import Claim, Converges, Verdict
from ._document import document_of, parse, read, write
from ._evidence import Evidence, center_error
from ._input_box import lies_between
from ._norm import Norm
from ._refutations import REFUTATIONS
from ._region import Ball, Region
from ._rounding import check_environment, mul_up
from ._theorems import CONTRACTIONS, THEOREMS, Hypothesis
from ._theorems._base import damped_rate


@dataclass(frozen=True)
class InputRecord:
    """One input of the operator: free (the claim holds for all its values), between two ends, or fixed by SHA-256."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str | None
    ends: tuple[Tensor, Tensor] | None = None

    @property
    def free(self) -> bool:
        """Whether the claim holds for every value of this input."""
        return self.sha256 is None and self.ends is None

    @property
    def status(self) -> str:
        """ "free", "box" or "fixed", as in a certificate's file."""
        return "box" if self.ends is not None else "free" if self.free else "fixed"

    def refusal(self, value: Tensor) -> str:
        """Why the claim says nothing of a value of this input; "" where it does."""
        if tuple(value.shape) != self.shape:
            return f"input {self.name}: certified for shape {self.shape}, got {tuple(value.shape)}"
        if self.ends is not None and not lies_between(value, self.ends):
            return f"input {self.name}: lies outside of the box that the certificate holds for; certify a larger one"
        if self.sha256 is not None and tensor_digest(value) != self.sha256:
            return f"input {self.name}: the certificate holds for another value; certify with this one"
        return ""


@dataclass(frozen=True, eq=False)
class TwoPoints:
    """A witness against contraction: `||G(y) - G(z)|| >= ||y - z|| > 0` for one problem of the batch."""

    problem: int
    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is proven of an operator, with everything needed to check it again.

    Attributes:
        claim: `Contraction`, `UniqueEquilibrium` or `Converges`.
        verdict: of that claim.
        theorem: the theorem applied, a name of `THEOREMS` or "refute", or None.
        rate: q, the proven constant of the claimed iteration; None unless certified, or where none is proven.
        evidence: what the verdict rests on, proven numbers and witnesses; None where it is unknown.
        norm: of rate and evidence.
        region: where the claim holds.
        inputs: each input, free, between two ends, or fixed.
        reason: for `UNKNOWN`, why.
    """

    claim: Claim
    verdict: Verdict
    region: Region
    norm: Norm | None
    state: tuple[tuple[tuple[int, ...], str], ...]
    batch_dims: int
    fingerprint: str
    inputs: tuple[InputRecord, ...]
    theorem: str | None = None
    rate: float | None = None
    evidence: Evidence | None = None
    hypotheses: tuple[Hypothesis, ...] = ()
    contributions: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    attempts: tuple[str, ...] = field(default=())

    @property
    def bound(self) -> float | None:
        """The proven Lipschitz constant of G itself on the region, where the theorem rests on one."""
        return self._number("bound")

    @property
    def residual(self) -> float | None:
        """The proven `||G(c) - c||` of a claim about a ball."""
        return self._number("residual")

    @property
    def center_error(self) -> float | None:
        """Proven bound of `||c - y*||` for the centre c of a claim about a ball, in the certificate's norm.

        `||G(c) - c|| / (1 - q)` under T2, `||A F(c)|| / (1 - Z)` under T6, the like under T12; None under others.
        """
        evidence = self.evidence
        if self.verdict is not Verdict.CERTIFIED or evidence is None or not isinstance(self.region, Ball):
            return None
        return center_error(evidence)

    @property
    def monotonicity(self) -> float | None:
        """The proven mu of T5."""
        return self._number("mu")

    @property
    def factor(self) -> float | None:
        """kappa of `||y - y*|| <= kappa ||G(y) - y||` for y in the region; None unless certified.

        `1 / (1 - q)` for a contraction; None also where the theorem bounds no error by a residual.
        """
        if self.verdict is not Verdict.CERTIFIED or self.evidence is None or self.theorem not in THEOREMS:
            return None
        factor = THEOREMS[self.theorem].residual_factor(self.evidence)
        return factor if math.isfinite(factor) else None

    @property
    def depth(self) -> int | None:
        """The number of sweeps after which Picard's iteration is at the equilibrium, whatever its start (T8)."""
        certified = self.verdict is Verdict.CERTIFIED and self.theorem == "causal" and self.evidence is not None
        return self.evidence.counts["depth"] if certified and self.evidence is not None else None

    @property
    def witness(self) -> TwoPoints | None:
        """The two points against a contraction."""
        found = self.evidence
        if found is None or found.kind != "two_points":
            return None
        return TwoPoints(found.counts["problem"], found.tensors["first"], found.tensors["second"])

    def describe_witness(self) -> str:
        """The witness of a refutation in a sentence; "" where there is none."""
        found = self.evidence
        if found is None or found.kind not in REFUTATIONS:
            return ""
        numbers = {name: f"{value:.9g}" for name, value in found.numbers.items()}
        return REFUTATIONS[found.kind].words.format(**numbers, **found.counts)

    def _number(self, name: str) -> float | None:
        return None if self.evidence is None else self.evidence.numbers.get(name)

    # ------------------------------------------------------------------------------------------- guarantees

    def distance_bound(self, first: Tensor | Any, second: Tensor | Any) -> Tensor:
        """Proven upper bound of `||first - second||` in the certificate's norm, per problem, (problems,)."""
        from ._guarantees import distance_bound

        return distance_bound(self, first, second)

    def iterations(self, eps: float, first_step: float | Tensor) -> int:
        """Enough steps n for `||y_n - y*|| <= eps`: `q^n / (1 - q) * first_step <= eps` (T1, a priori).

        In a quadratic norm (T1, T12) `||R|| ||R^-1||` times as much, R of the evidence; the like under T13.
        Under T8 the number of sweeps that end the iteration, whatever eps, in exact arithmetic.

        Args:
            eps: the error wanted, in the certificate's norm; positive.
            first_step: a proven bound of `||y_1 - y_0||` (`distance_bound(y1, y0)`; the largest entry counts).

        Raises:
            InputError: the certificate proves no rate, or one so near 1 that float64 bounds no number of steps, or an
                argument is not positive and finite.
        """
        ends = self.depth if isinstance(self.claim, Converges) else None
        rate, stretch = self._proven_rate() if ends is None else (0.0, 1.0)
        whole = isinstance(first_step, Tensor) and first_step.numel() > 0
        step = number_above(first_step.max() if whole else first_step)  # type: ignore[union-attr]
        wanted = number_below(eps)
        if not 0 < wanted < math.inf or not 0 <= step < math.inf:
            given = step if whole else first_step
            raise InputError(
                f"iterations: eps {eps!r} must be positive and first_step {given!r} not negative, both finite"
            )
        if ends is not None:
            return ends
        from ._guarantees import sufficient_steps

        check_environment()
        return sufficient_steps(rate, wanted, float(mul_up(stretch, step)))

    def error_bound(self, G: Any, y: Any, *inputs: Any) -> Any:
        """Proven distance of y to the equilibrium, per problem: `||y - y*|| <= ||G(y) - y|| / (1 - q)`.

        For other theorems it is `factor ||G(y) - y||`, whatever solver found y.

        Args:
            G: the certified operator (its weights are compared with the fingerprint).
            y: the state, of the certified shapes.
            inputs: the operator's inputs; fixed ones are compared with their SHA-256.

        Returns:
            ErrorBound: in the certificate's norm, l2 and linf, each (problems,) float64; infinite for a problem
            whose y lies outside a local certificate's ball, or outside the box of T11.

        Raises:
            InputError: another operator, other fixed inputs, other shapes, or a certificate without a rate.
        """
        from ._guarantees import error_bound

        return error_bound(self, G, y, inputs)

    def _proven_rate(self) -> tuple[float, float]:
        """q, and C of `||y_n - y*|| <= C q^n / (1 - q) ||y_1 - y_0||` in the certificate's norm."""
        evidence = self.evidence
        proven = self.verdict is Verdict.CERTIFIED
        if (
            proven
            and evidence is not None
            and evidence.kind in ("lyapunov", "quadratic", "componentwise")
            and isinstance(self.claim, Converges)
        ):
            condition = float(mul_up(evidence.numbers["size"], evidence.numbers["inverse_size"]))
            rate = evidence.numbers["contraction"]
            if evidence.kind == "componentwise" and self.claim.damping != 1:
                rate = damped_rate(rate, self.claim.damping)
            return rate, condition
        if not proven or self.rate is None:
            raise InputError(f"certificate: verdict is {self.verdict.value}, it proves no rate")
        if self.theorem not in CONTRACTIONS and not isinstance(self.claim, Converges):
            raise InputError(f"certificate: theorem {self.theorem!r} proves no rate of G's own iteration")
        return self.rate, 1.0

    # ------------------------------------------------------------------------------------------------ words

    def explain(self) -> str:
        """The claim, each hypothesis with its value, which part loses what, what is missing or the witness."""
        lines = [f"Claim: {self.claim.describe()}.", f"Verdict: {self.verdict.value}."]
        if self.theorem is not None:
            lines.append(f"Theorem: {self.theorem}.")
        for h in self.hypotheses:
            mark = "holds" if h.holds else "not shown"
            lines.append(f"  {h.name}: {h.statement} - {mark} ({_number(h.value)} against {_number(h.limit)})")
        if isinstance(self.region, Ball) and self.verdict is Verdict.CERTIFIED:
            lines += self._about_ball(self.region)
        if self.contributions:
            lines.append("Gains of the parts, in the order of computation:")
            lines += [f"  {part}: {gain:.9g}" for part, gain in self.contributions]
        for record in self.inputs:
            words = {"free": "free, any value", "box": "any value between its two ends", "fixed": "fixed"}
            lines.append(f"Input {record.name}: {words[record.status]}.")
        if self.describe_witness():
            lines.append(f"Witness: {self.describe_witness()}")
        if self.reason:
            lines.append(f"Why unknown: {self.reason}")
        lines += [f"  {'also found' if ': holds' in attempt else 'tried'} {attempt}" for attempt in self.attempts]
        return "\n".join(lines)

    def _about_ball(self, ball: Ball) -> list[str]:
        """Radius, rate, how far the centre is from the equilibrium, and where it is the only one."""
        kind = self.norm.describe() if self.norm is not None else "?"
        rate = self.rate if self.rate is not None else self._number("contraction")
        lines = [
            f"Ball: radius {ball.radius:.6g} in {kind} around region.center; one equilibrium in it, and no other there."
        ]
        if rate is not None:
            lines.append(f"  constant there: at most {rate:.9g}")
        if self.center_error is not None:
            lines.append(f"  the centre is within {self.center_error:.3g} of the equilibrium")
        return lines

    # ------------------------------------------------------------------------------------------------ files

    def document(self) -> dict[str, Any]:
        """The certificate as the JSON object of `docs/certificate.md`, every witness inside."""
        return document_of(self, None)

    def save(self, path: str | Path) -> None:
        """Write the certificate atomically; witnesses over 1 MiB go to a sibling `.safetensors`.

        Raises:
            OSError: the file cannot be written.
        """
        write(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Certificate:
        """Read a certificate file; runs no code. The content is not checked: use `check` for that.

        Raises:
            ModelFileError: damaged, foreign, of another schema, or edited (digest).
            FileNotFoundError: no such file.
        """
        return read(Path(path))

    @staticmethod
    def from_document(document: dict[str, Any]) -> Certificate:
        """The certificate of a JSON object with its witnesses inside."""
        return parse(document, None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.12g}"


def dtype_name(tensor: Tensor) -> str:
    """ "float32" for torch.float32."""
    return str(tensor.dtype).removeprefix("torch.")
