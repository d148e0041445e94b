"""`certify_each`: a verdict of its own for each problem of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._batched import Roles, checked_roles
from deqops._errors import InputError, UnsupportedOperationError
from deqops._tree import StateLayout
from deqops.graph import MixesProblemsError, OperatorGraph, check_independent, trace

from ._certificate import Certificate
from ._certify import Arguments, certified, given_arguments
from ._claim import Verdict
from ._input_box import InputBox, middles, places_in
from ._norm import Norm
from ._region import Around, Ball, Box, Region
from ._request import Request
from ._theorems import Finding
from ._watch import Progress, Watch

if TYPE_CHECKING:
    from .checker import CheckReport

_SHOWN = 10  # problems without a proof that `explain` names


@dataclass(frozen=True, eq=False)
class Certificates:
    """One certificate for each problem of a batch, in its order; a sequence of them.

    Attributes:
        certificates: each about the operator at a batch of one.
        arguments: of each problem, (state, *inputs), dimension 0 of what is its own has size 1.
        operator: traced once for a batch of one; None where it could not be.
    """

    certificates: tuple[Certificate, ...]
    arguments: tuple[tuple[Any, ...], ...]
    operator: OperatorGraph | None

    def __len__(self) -> int:
        return len(self.certificates)

    def __getitem__(self, number: int) -> Certificate:
        return self.certificates[number]

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self.certificates)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdict of each problem."""
        return tuple(certificate.verdict for certificate in self)

    @property
    def certified(self) -> Tensor:
        """Which problems are certified, (problems,) bool."""
        return torch.tensor([verdict is Verdict.CERTIFIED for verdict in self.verdicts])

    @property
    def rates(self) -> Tensor:
        """The proven rate of each problem, (problems,) float64; NaN where there is none."""
        rates = [float("nan") if c.rate is None else c.rate for c in self]
        return torch.tensor(rates, dtype=torch.float64)

    @property
    def radii(self) -> Tensor:
        """The radius of each certified ball, (problems,) float64; infinite for a claim everywhere, else NaN."""
        return torch.tensor([_radius(certificate) for certificate in self], dtype=torch.float64)

    def check(self) -> tuple[CheckReport, ...]:
        """Each certificate verified again by the independent checker.

        Raises:
            InputError: the operator could not be traced.
        """
        from .checker import check

        if self.operator is None:
            raise InputError("certificates: the operator could not be traced; there is nothing to check")
        both = zip(self.certificates, self.arguments, strict=True)
        return tuple(check(one, self.operator, given[0], *_values(one, given[1:])) for one, given in both)

    def explain(self) -> str:
        """How many problems have which verdict by which theorem, and why those without a proof have none."""
        kinds = Counter(f"{c.verdict.value} ({c.theorem or 'no theorem'})" for c in self)
        lines = [f"{len(self)} problems: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) + "."]
        without = [(number, c) for number, c in enumerate(self) if c.verdict is not Verdict.CERTIFIED]
        lines += [f"  problem {number}: {c.reason or c.describe_witness()}" for number, c in without[:_SHOWN]]
        if len(without) > _SHOWN:
            lines.append(f"  and {len(without) - _SHOWN} more")
        return "\n".join(lines)


def certify_each(
    G: Any,
    *arguments: Any,
    batched: Roles | None = None,
    norm: str | Norm = "auto",
    region: Region | Around | None = None,
    theorem: str = "auto",
    damping: float | None = None,
    budget: float | None = None,
    progress: Progress | None = None,
) -> Certificates:
    """A verdict of its own for each problem of a batch, where `certify` makes one claim about all of them.

    The operator is exported once, and what does not depend on the inputs is proven once. A batch whose problems G mixes
    is refused: each certificate is about G at a batch of one.

    Args:
        G: as in `certify`, for a batch of problems (`batch_dims` 1). An `OperatorGraph` must take a batch of one.
        arguments: as in `certify`; dimension 0 of each leaf of the state counts the problems.
        batched: a role for each input as in `deqops.solve`: "problem" where dimension 0 of its tensors counts the
            problems, None for an input that all share. Needed where there are inputs; a layer may bring its own.
        norm, theorem, damping: as in `certify`.
        region: as in `certify`, with the shapes of the whole batch: each problem gets its own part.
        budget: seconds for all problems together; when they are spent each problem left gets its first attempt only.
        progress: called with a few words, which problem first.

    Raises:
        InputError: an argument does not fit, or G mixes the problems.
    """
    watch, given = Watch(budget, progress), given_arguments(G, arguments, 1)
    layout = StateLayout.of(given.state, 1)
    roles = _roles(G, batched, given.inputs, layout)
    if not isinstance(G, OperatorGraph):
        _refuse_mixing(given)
    parts = [_part(given, roles, number) for number in range(layout.problems)]
    operator, reason = _traced(parts[0])
    shared: dict[str, tuple[Finding, ...]] = {}
    found = []
    for number, part in enumerate(parts):
        own = watch.prefixed(f"problem {number + 1} of {layout.problems}: ")
        where = _region_of(region, number)
        request = Request(norm, where, theorem, given.damping if damping is None else damping, own)
        found.append(certified(operator if operator is not None else reason, part, request, 1, shared))
    return Certificates(tuple(found), tuple((part.state, *part.inputs) for part in parts), operator)


def _roles(G: Any, batched: Roles | None, inputs: tuple[Any, ...], layout: StateLayout) -> Roles:
    chosen = batched if batched is not None else getattr(G, "batched", None)
    if chosen is None and inputs:
        raise InputError('batched: say which inputs hold a row for each problem, as in batched=("problem", None)')
    return checked_roles(chosen, middles(inputs), layout) or ()


def _refuse_mixing(given: Arguments) -> None:
    """Refuse a batch whose problems are not independent; what is not understood is reported later, by name."""
    try:
        inputs = middles(given.inputs)
        check_independent(trace(given.operator, given.state, *inputs, batch_dims=1).concrete(given.state, *inputs))
    except MixesProblemsError as error:
        raise InputError(f"G: {error}; its problems have no verdicts of their own") from error
    except UnsupportedOperationError:
        return


def _traced(part: Arguments) -> tuple[OperatorGraph | None, UnsupportedOperationError]:
    try:
        return trace(part.operator, part.state, *middles(part.inputs), batch_dims=1), UnsupportedOperationError("", "")
    except UnsupportedOperationError as error:
        return None, error


def _part(given: Arguments, roles: Roles, number: int) -> Arguments:
    """The arguments of one problem."""
    both = zip(given.inputs, roles, strict=True)
    inputs = tuple(_rows(x, number) if role is not None else x for x, role in both)
    return Arguments(given.operator, _rows(given.state, number), inputs, given.damping)


def _rows(tree: Any, number: int) -> Any:
    def row(leaf: Any) -> Any:
        if isinstance(leaf, InputBox):
            return InputBox(row(leaf.lower), row(leaf.upper))
        return leaf[number : number + 1]

    return pytree.tree_map(row, tree)


def _region_of(region: Region | Around | None, number: int) -> Region | Around | None:
    """The part of a region that is one problem's."""
    if isinstance(region, Ball):
        return Ball(_rows(region.leaves, number), region.radius, region.norm)
    if isinstance(region, Box):
        return Box(*(_rows(leaves, number) for leaves in region.ends))
    if isinstance(region, Around) and region.leaves is not None:
        return Around(_rows(region.leaves, number))
    return region


def _values(certificate: Certificate, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values of the inputs that a certificate speaks of: of a refutation the place in the boxes where it was found."""
    for _, values in places_in(inputs):
        leaves = (leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor))
        if not any(record.refusal(leaf) for record, leaf in zip(certificate.inputs, leaves, strict=False)):
            return values
    return middles(inputs)


def _radius(certificate: Certificate) -> float:
    if certificate.verdict is not Verdict.CERTIFIED or isinstance(certificate.region, Box):
        return float("nan")
    return certificate.region.radius if isinstance(certificate.region, Ball) else float("inf")
