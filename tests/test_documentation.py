"""The code of the documentation's pages runs, each page in one session from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from deqops import DeqopsError, EquilibriumLayer, ImplicitAdjoint, InputError, from_torchdeq

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.filterwarnings("ignore")  # torchdeq's use of torch is dated
@pytest.mark.parametrize(
    ("name", "snippets"),
    [
        ("migrating-from-torchdeq", 5),
        ("../README", 1),
        ("solving", 9),
        ("splitting", 1),
        ("not-contractive", 8),
        ("testing", 2),
        ("regions", 4),
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


def test_the_readme_shows_a_layer_that_can_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL)
    session: dict[str, Any] = {}
    exec(block, session)  # noqa: S102
    layer, x = session["layer"], session["x"]
    assert "certified" in capsys.readouterr().out
    layer(x).sum().backward()
    assert sum(p.numel() for p in layer.parameters() if p.grad is not None and p.grad.any()) == 8 * 8 + 8
    assert set(layer.state_dict()) == {"operator.weight", "operator.bias"}


@pytest.mark.parametrize("name", ["hvp", "vhp", "hessian", "jvp"])
def test_only_hvp_needs_a_third_derivative(name: str) -> None:
    """docs/transforms.md says so."""
    function, v = getattr(torch.autograd.functional, name), torch.ones(2, 3, dtype=torch.float64)
    given = (v,) if name == "hessian" else (v, v)

    def loss(x: torch.Tensor, derivatives: int) -> torch.Tensor:
        layer = EquilibriumLayer(lambda z, x: torch.tanh(0.3 * z + x), adjoint=ImplicitAdjoint(derivatives=derivatives))
        result: torch.Tensor = layer(x).square().sum()
        return result

    function(lambda x: loss(x, 3), *given)
    if name == "hvp":
        with pytest.raises(DeqopsError, match="derivatives="):
            function(lambda x: loss(x, 2), *given)
    else:
        function(lambda x: loss(x, 2), *given)


def test_the_state_keeps_its_kind() -> None:
    z = torch.zeros(2, 1)
    assert isinstance(from_torchdeq(lambda a, b: (b, a))([z, z]), list)
    with pytest.raises(InputError, match="f: the callable"):
        from_torchdeq(3)  # type: ignore[arg-type]
