"""A small slice of `experiments/pign.py`: trains, resumes, tabulates and plots."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared" / "planetoid"
PAGE = "before\n<!-- begin: made by experiments/pign.py -->\nold\n<!-- end -->\nafter\n"


@pytest.fixture(scope="module")
def script() -> Any:
    name = "experiments_pign"
    spec = importlib.util.spec_from_file_location(name, HERE / "experiments" / "pign.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not SHARED.is_dir(), reason="the citation graphs are not beside the checkout")
def test_a_cell_is_trained_certified_and_kept(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {name: replace(settings, epochs=2) for name, settings in script.variants().items()}
    monkeypatch.setattr(script, "variants", lambda: short)
    threads = torch.get_num_threads()
    found = [script.train(script.Cell("Cora", 0.9, name, 0), SHARED, tmp_path) for name in ("propagation", "GCN")]
    torch.set_num_threads(threads)
    assert found[0]["verdict"] == "certified"
    assert 0.95 <= found[0]["rate"] < 0.95 + 1e-6
    assert len(found[0]["curve"]) == script.ITERATIONS + 1
    assert "verdict" not in found[1]
    kept = {json.loads(path.read_text())["variant"] for path in tmp_path.iterdir()}
    assert kept == {"propagation", "GCN"}  # and no checkpoint is left


def results(script: Any) -> dict[Any, dict[str, Any]]:
    """Two seeds of one network; the second has the larger rate."""
    found = {}
    for seed, accuracy in enumerate((0.5, 0.7)):
        cell = script.Cell("Cora", 0.0, "propagation", seed)
        curve = [{"iteration": n, "test": accuracy, "residual": 0.5**n} for n in range(4)]
        found[cell] = {
            "accuracy": {"test": accuracy},
            "verdict": "certified",
            "rate": 0.95 + 1e-9 * seed,
            "curve": curve,
        }
    return found


def test_the_table_gives_mean_spread_verdicts_and_the_largest_rate_rounded_up(script: Any) -> None:
    row = next(line for line in script.table(results(script), "Cora") if "0.95 A Z" in line)
    assert "| 0.600 ± 0.141 | – | – | 2 certified | 0.9500001 |" in row


def test_the_page_keeps_its_words_and_gets_tables_and_plots(script: Any, tmp_path: Path) -> None:
    page = tmp_path / "pign.md"
    page.write_text(PAGE)
    script.write_page(results(script), 2, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "0.600 ± 0.141" in text
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(first) == {"pign.md", "pign-Cora.svg", "pign-CiteSeer.svg"}
    script.write_page(results(script), 2, page)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_finished_cells_are_not_trained_again(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("trained a cell that was there")

    for cell, result in results(script).items():
        (tmp_path / f"{cell.name}.json").write_text(json.dumps(result))
    monkeypatch.setattr(script, "train", refuse)
    script.run(list(results(script)), SHARED, tmp_path, 1)
