"""Handwritten digits as images: scikit-learn's, which ship with a dependency."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deqops._errors import InputError

SIDE = (8, 8)
CLASSES = 10
_IMAGES = 1797
_BRIGHTEST = 16.0


@dataclass(frozen=True, eq=False)
class DigitImages:
    """Images with labels, split.

    Attributes:
        x: (1797, 1, 8, 8) float32 in [0, 1], or (1797, 64).
        y: (1797,) int64, 0 to 9.
        train_mask: (1797,) bool; so are the next two.
        val_mask: the validation images.
        test_mask: the rest.
    """

    x: Tensor
    y: Tensor
    train_mask: Tensor
    val_mask: Tensor
    test_mask: Tensor

    def flattened(self) -> DigitImages:
        """The same with `x` (1797, 64)."""
        return replace(self, x=self.x.flatten(1))


def digit_images(*, training: int = 1000, validation: int = 200) -> DigitImages:
    """The digits in an order drawn once, so that the same images are test images for everybody.

    Args:
        training: the first so many images.
        validation: the next so many; what remains is the test set.

    Raises:
        InputError: a number is out of range.
    """
    if training < 1 or validation < 0 or training + validation >= _IMAGES:
        raise InputError(
            f"training, validation: got {training} and {validation}; choose at least 1 and 0, {_IMAGES - 1} together"
        )
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, *SIDE) / _BRIGHTEST
    place = torch.arange(len(images))
    return DigitImages(
        x=x[order],
        y=torch.tensor(labels)[order],
        train_mask=place < training,
        val_mask=(place >= training) & (place < training + validation),
        test_mask=place >= training + validation,
    )
