"""The migration page's code runs, in one session from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from deqops import InputError, from_torchdeq

PAGE = Path(__file__).parent.parent / "docs" / "migrating-from-torchdeq.md"


@pytest.mark.filterwarnings("ignore")  # torchdeq's use of torch is dated
def test_every_snippet_runs() -> None:
    session: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), session)  # noqa: S102


def test_the_state_keeps_its_kind() -> None:
    z = torch.zeros(2, 1)
    assert isinstance(from_torchdeq(lambda a, b: (b, a))([z, z]), list)
    with pytest.raises(InputError, match="f: the callable"):
        from_torchdeq(3)  # type: ignore[arg-type]
