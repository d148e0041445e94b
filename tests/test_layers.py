"""Imports point one way: core <- verify <- models, report, testing <- cli; the checker does not know the certifier."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "deqops": {"deqops"},
    "verify": {"deqops", "deqops.verify"},
    "models": {"deqops", "deqops.verify", "deqops.models"},
    "deqops/report": {"deqops", "deqops.verify", "deqops.report"},
    "deqops/testing": {"deqops", "deqops.verify", "deqops.testing"},
    "deqops/cli": {"deqops", "deqops.verify", "deqops.models", "deqops.report", "deqops.cli"},
}


def layer_of_module(module: str) -> str:
    """The layer an imported deqops module belongs to."""
    parts = module.split(".")
    if len(parts) > 1 and parts[1] in {"verify", "models", "report", "testing", "cli"}:
        return f"deqops.{parts[1]}"
    return "deqops"


def layer_of_file(path: Path) -> str:
    relative = path.relative_to(ROOT)
    folder = "/".join(relative.parts[:2]).replace("deqops/__main__.py", "deqops/cli")
    return folder if folder in ALLOWED else relative.parts[0]


def sources() -> list[Path]:
    found = [p for top in ("deqops", "verify", "models") for p in (ROOT / top).rglob("*.py")]
    links = {ROOT / "deqops" / "verify", ROOT / "deqops" / "models"}
    return [p for p in found if not links.intersection(p.parents)]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            if node.module == "deqops":
                names |= {f"deqops.{alias.name}" for alias in node.names}
    return {name for name in names if name == "deqops" or name.startswith("deqops.")}


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_lower_layers_only(path: Path) -> None:
    above = {name for name in imported(path) if layer_of_module(name) not in ALLOWED[layer_of_file(path)]}
    assert not above, f"{path.relative_to(ROOT)} imports {sorted(above)} from a higher layer"


def test_no_file_imports_the_bare_folder_names() -> None:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] not in {"verify", "models"}, path


def test_the_sources_are_all_seen() -> None:
    assert {layer_of_file(path) for path in sources()} == set(ALLOWED)
