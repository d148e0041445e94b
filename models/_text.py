"""Text as characters: Python's own help topics, which ship with it, or a folder of the user's."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from deqops._errors import InputError, MissingDataError

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""The vocabulary: a line's end and printable ASCII. What is not in it becomes a question mark."""

_NUMBERS = {character: number for number, character in enumerate(CHARACTERS)}
_LARGEST = 100 * 2**20
_SHORTEST = 2000


def python_topics() -> str:
    """Help topics of the running Python (`pydoc_data.topics`): some 460,000 characters, which vary with its version."""
    from pydoc_data.topics import topics  # type: ignore[import-not-found, unused-ignore]

    return "\n".join(topics[name] for name in sorted(topics))


def text_below(root: Path) -> str:
    """All `*.txt` files below a folder, in the order of their names.

    Raises:
        InputError: there is none, they are too short or too long, or one is not UTF-8.
    """
    files = sorted(root.rglob("*.txt"))
    if not files:
        raise MissingDataError(f"root: no *.txt file below {root}; give a folder with text files")
    if sum(file.stat().st_size for file in files) > _LARGEST:
        raise InputError(f"root: the text files below {root} hold more than {_LARGEST} bytes; give fewer")
    try:
        text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"root: cannot read the text files below {root} as UTF-8 ({error}); convert them") from None
    if len(text) < _SHORTEST:
        raise InputError(f"root: {len(text)} characters below {root}; at least {_SHORTEST} are needed")
    return text


def encoded(text: str) -> Tensor:
    """Numbers of characters: (length,) int64."""
    unknown = _NUMBERS["?"]
    return torch.tensor([_NUMBERS.get(character, unknown) for character in text])


def decoded(numbers: Tensor) -> str:
    """Text of character numbers (length,)."""
    return "".join(CHARACTERS[number] for number in numbers.tolist())
