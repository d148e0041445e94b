"""`experiments/results.py`: every study runs in a tiny size, resumes, and writes its own section only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import results
from experiments._page import write_section
from experiments._study import Cell, Circumstances, Study, file_of, spread

SHARED = Path(__file__).resolve().parents[2] / "shared"


class Halving(Study):
    name = "halving"
    title = "Halving"
    variants = ("once", "twice")

    def measure(self, variant: str, seed: int, here: Circumstances) -> dict[str, Any]:
        return {"value": seed + 0.5 ** (1 + self.variants.index(variant))}

    def section(self, found: Any) -> str:
        return f"mean {spread([found['once', seed]['value'] for seed in (0, 1)])}"


def test_cells_are_kept_and_sections_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "STUDIES", (Halving(),))
    page = tmp_path / "results.md"
    command = ["--out", str(tmp_path / "out"), "--page", str(page), "--seeds", "2"]
    assert results.main(command) == 0
    first = page.read_text()
    assert "mean 1.000 ± 0.707" in first
    kept = file_of(Cell("halving", "once", 0), tmp_path / "out")
    kept.write_text(kept.read_text().replace("0.5", "2.5"))
    page.write_text(first.replace("# Results", "# Our results") + "\nmore\n")
    assert results.main(command) == 0
    assert "mean 2.000 ± 0.707" in page.read_text()
    assert page.read_text().startswith("# Our results")
    assert page.read_text().endswith("\nmore\n")


def test_a_new_section_goes_to_the_end(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text("before\n")
    found = {("once", seed): {"value": float(seed)} for seed in (0, 1)}
    write_section(Halving(), found, page)
    assert page.read_text().startswith("before\n\n<!-- begin: halving -->\n## Halving\n")


@pytest.mark.parametrize("study", results.STUDIES, ids=lambda study: study.name)
def test_a_tiny_run_of_every_study(study: Study, tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("the data are not beside the checkout")
    threads = torch.get_num_threads()
    page = tmp_path / "results.md"
    command = ["--smoke", "--only", study.name, "--root", str(SHARED), "--out", str(tmp_path), "--page", str(page)]
    assert results.main(command) == 0
    torch.set_num_threads(threads)
    assert f"<!-- begin: {study.name} -->" in page.read_text()
