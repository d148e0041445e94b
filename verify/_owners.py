"""Which problem of a batch each entry of a value inside the graph belongs to.

Inside, dimension 0 need not count problems: a layer may transpose or merge dimensions. Problems do not mix
(`deqops/graph/_independent.py`), so that what an entry depends on says whose it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._gains import forward_magnitude
from ._jacobian import Jacobian, StateLeaf

_APART = 0.1  # from a whole number: more shows that the numbers were too large or too small to tell


@dataclass(frozen=True, eq=False)
class Owners:
    """The numbers of the problems, (entries,), -1 for what may be any one's; None for one problem, or where unknown."""

    numbers: Tensor | None
    problems: int

    def parts(self, columns: Tensor) -> list[Tensor]:
        """The rows of (*shape, n) that each problem may have, (1, rows, n) each; all of them where it is unknown.

        Problems without rows are left out.
        """
        rows = columns.reshape(-1, columns.shape[-1])
        if self.numbers is None:
            return [rows[None]]
        own = [rows[(self.numbers == number) | (self.numbers < 0)][None] for number in range(self.problems)]
        return [part for part in own if part.shape[1]]


def problems_of_entries(jacobian: Jacobian, problems: int) -> list[Owners]:
    """Those of each basis value, from the largest moduli that its derivative may have."""
    found: list[Owners] = []
    values: list[tuple[Tensor, Tensor]] = []  # 1 where an entry depends on the state, and its problem's number + 1
    for basis in jacobian.bases:
        if problems == 1:
            found.append(Owners(None, 1))
            continue
        if isinstance(basis, StateLeaf):
            count = torch.ones(basis.shape, dtype=torch.float64)
            label = torch.arange(1.0, problems + 1, dtype=torch.float64).reshape(-1, *(1,) * (count.ndim - 1)) * count
        else:
            count, label = (
                basis.magnitude_times(forward_magnitude(basis.source, [value[k] for value in values])) for k in (0, 1)
            )
            label = torch.where(count > 0, label / count, 0.0)
        number = label.round()
        told = bool((number - label).abs().amax() <= _APART) if label.numel() else True  # NaN tells nothing
        found.append(Owners(number.reshape(-1).to(torch.int64) - 1 if told else None, problems))
        values.append(
            (((count > 0) | count.isnan()).to(torch.float64), number if told else torch.full_like(label, torch.nan))
        )
    return found
