"""The examples of docs/guarantees.md and docs/norms.md run as they stand, and the tables name what is exported."""

from __future__ import annotations

import re
import runpy
from fractions import Fraction
from pathlib import Path

import pytest

import deqops.verify
from deqops.verify._float_program import _LIBRARY
from deqops.verify._gradient_error import CURVATURES

PAGE, NORMS = ((Path(__file__).parent.parent / "docs" / name).read_text() for name in ("guarantees.md", "norms.md"))
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE + NORMS, re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_examples_run(number: int, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(BLOCKS[number])
    assert runpy.run_path(str(script))


def test_the_functions_are_exported() -> None:
    names = re.findall(r"^\| `(\w+_(?:bound|floor))` \|", PAGE, re.MULTILINE)
    assert len(names) == 8
    assert set(names) <= set(deqops.verify.__all__)


def test_what_is_assumed_and_what_is_tabulated_is_on_the_page() -> None:
    for name in (*_LIBRARY, *CURVATURES):
        assert re.search(rf"\b{name.removesuffix('_scalar')}\b", PAGE), name
    assert all(isinstance(value, Fraction) for value in CURVATURES.values())
