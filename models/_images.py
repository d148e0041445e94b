"""Small grey images as rows of numbers: scikit-learn's digits, which ship with it, and Fashion-MNIST from its files."""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deqops._errors import InputError, MissingDataError

from ._digit_images import digit_images

_FASHION_SIDE = 28
_PACKAGE = "Debian's package dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist"


@dataclass(frozen=True, eq=False)
class Images:
    """Images in [-1, 1], flattened, with their classes 0 to 9.

    Attributes:
        train: (images, side^2) float32.
        train_labels: (images,) int64.
        test: (images, side^2) float32.
        test_labels: (images,) int64.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    @property
    def size(self) -> int:
        """Pixels of an image."""
        return self.train.shape[1]

    @property
    def side(self) -> int:
        """Pixels of an image's side."""
        return math.isqrt(self.size)


def digit_pixels(training: int = 1200) -> Images:
    """The 1797 handwritten digits of 8 x 8 pixels, in an order drawn once; the first `training` ones train.

    Raises:
        InputError: no images would remain for training or tests.
    """
    digits = digit_images(training=training, validation=0)
    x, y, kept = 2 * digits.x.flatten(1) - 1, digits.y, digits.train_mask
    return Images(x[kept], y[kept], x[~kept], y[~kept])


def fashion_images(root: Path, side: int = 14, training: int = 60_000) -> Images:
    """Fashion-MNIST, averaged from 28 x 28 down to `side` x `side` pixels.

    Args:
        root: the folder with `train-images-idx3-ubyte.gz` and the other three files.
        side: a divisor of 28.
        training: so many of the training images, from the first; all 10,000 test images are kept.

    Raises:
        InputError: an argument is out of range, or the files are not there or not what they should be.

    Source: Xiao, Rasul and Vollgraf, *Fashion-MNIST*, arXiv:1708.07747.
    """
    if side < 1 or _FASHION_SIDE % side:
        raise InputError(f"side: got {side}; choose a divisor of {_FASHION_SIDE}")
    if not 1 <= training <= 60_000:
        raise InputError(f"training: got {training}; choose 1 to 60000 images")
    parts = []
    for name, count, kept in (("train", 60_000, training), ("t10k", 10_000, 10_000)):
        pixels = read_idx(root / f"{name}-images-idx3-ubyte.gz", (count, _FASHION_SIDE, _FASHION_SIDE))[:kept]
        labels = read_idx(root / f"{name}-labels-idx1-ubyte.gz", (count,))[:kept]
        parts += [_averaged(pixels, side), labels.long()]
    return Images(*parts)


def _averaged(pixels: Tensor, side: int) -> Tensor:
    """Means of square blocks, in [-1, 1], flattened: (images, side^2)."""
    block = pixels.shape[-1] // side
    parts = pixels.view(len(pixels), side, block, side, block)
    return (parts.float().mean(dim=(2, 4)) / 127.5 - 1).flatten(1)


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The bytes (shape) uint8 of a gzipped IDX file, which must have this shape and nothing else.

    Raises:
        InputError: the file cannot be read, is damaged, or holds something else.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)  # type 8: unsigned bytes
    length = len(header) + math.prod(shape)
    try:
        with gzip.open(path) as file:
            content = file.read(length + 1)  # never more, whatever the file promises
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise MissingDataError(f"root: cannot read {path} ({error.strerror}); {_PACKAGE}") from None
    except (OSError, EOFError) as error:
        raise InputError(f"root: cannot read {path} ({error}); {_PACKAGE}") from None
    except Exception as error:  # zlib.error, which gzip passes on from damaged data
        raise InputError(f"root: {path} is damaged ({error}); {_PACKAGE}") from None
    if len(content) != length or not content.startswith(header):
        raise InputError(f"root: {path} does not hold {' x '.join(map(str, shape))} bytes in IDX format; {_PACKAGE}")
    return torch.frombuffer(bytearray(content[len(header) :]), dtype=torch.uint8).view(shape)
