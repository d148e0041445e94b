"""The code of the documentation's pages runs, each page in one session from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from deqops import InputError, from_torchdeq

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.filterwarnings("ignore")  # torchdeq's use of torch is dated
@pytest.mark.parametrize(
    ("name", "snippets"),
    [
        ("migrating-from-torchdeq", 5),
        ("solving", 8),
        ("splitting", 1),
        ("not-contractive", 8),
        ("testing", 2),
        ("regions", 3),
        ("certified-training", 4),
    ],
)
def test_every_snippet_runs(name: str, snippets: int) -> None:
    page = DOCS / f"{name}.md"
    session: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == snippets
    for block in blocks:
        exec(compile(block, str(page), "exec"), session)  # noqa: S102


def test_the_state_keeps_its_kind() -> None:
    z = torch.zeros(2, 1)
    assert isinstance(from_torchdeq(lambda a, b: (b, a))([z, z]), list)
    with pytest.raises(InputError, match="f: the callable"):
        from_torchdeq(3)  # type: ignore[arg-type]
