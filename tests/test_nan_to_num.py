"""`nan_to_num` is the identity of numbers, and lets no infinity through, as masked scores may hold."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from deqops import InputError
from deqops.verify import Certificate, Verdict, certify, check

MASK = torch.tensor([0.0, 0.0, 0.0, -math.inf], dtype=torch.float64)
LAST = torch.tensor([False, False, False, True])


def test_picard_of_numbers_it_is_the_identity() -> None:
    def G(z: Tensor) -> Tensor:
        return 0.9 * torch.nan_to_num(torch.tanh(torch.nan_to_num(z, nan=3.0)), posinf=1.0)

    certificate = certify(G, torch.zeros(2, 4))
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate == pytest.approx(0.9, abs=1e-9)
    assert check(certificate, G, torch.zeros(2, 4)).accepted


def masked(scores: Callable[[Tensor], Tensor]) -> Certificate:
    z = torch.zeros(1, 4, dtype=torch.float64)
    return certify(lambda z: 0.5 * torch.softmax(scores(z), -1), z)


def test_a_mask_of_its_own_is_no_mask_behind_it() -> None:
    """torch gives an entry that it fills a weight; a softmax masked by minus infinity gives it none."""
    assert masked(lambda z: 3 * z + MASK).verdict is Verdict.CERTIFIED
    for scores in (
        lambda z: 3 * z + torch.nan_to_num(MASK, neginf=0.0),
        lambda z: torch.nan_to_num(3 * z + MASK, neginf=0.0),
    ):
        with pytest.raises(InputError, match="holds NaN or infinity"):
            masked(scores)


def test_entries_that_are_masked_are_no_mask_behind_it() -> None:
    def hidden(z: Tensor) -> Tensor:
        return (3 * z).masked_fill(LAST, -math.inf)

    assert masked(hidden).verdict is Verdict.CERTIFIED
    assert masked(lambda z: torch.nan_to_num(hidden(z), neginf=1.0)).verdict is Verdict.UNKNOWN
