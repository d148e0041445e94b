"""`experiments/certified_training.py`: a run of one epoch from end to end, what it keeps, and what the page says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments import certified_page as page
from experiments import certified_training as script

SHARED = Path(__file__).resolve().parents[2] / "shared" / "planetoid"
PAGE = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_t1_a_smoke_run_trains_repairs_certifies_checks_and_is_kept(tmp_path: Path) -> None:
    target, out = tmp_path / "page.md", tmp_path / "cells"
    target.write_text(PAGE)
    call = ["--smoke", "--out", str(out), "--page", str(target)]
    assert script.main(call) == 0
    found = [json.loads(path.read_text()) for path in out.glob("*.json")]
    assert len(found) == 15
    for result in found:
        if result["kind"].startswith(("bounded", "damped", "repair", "tuned")):
            assert result["verdict"] == "certified"
            assert result["accepted"] is True
            assert result["proven"] <= 0.9
        if result["verdict"] == "certified":
            assert result["constant"] <= result["proven"] < 1
    text = target.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    first = files(tmp_path / "cells"), target.read_bytes(), target.with_suffix(".svg").read_bytes()
    assert script.main(call) == 0  # nothing is trained again
    assert (files(tmp_path / "cells"), target.read_bytes(), target.with_suffix(".svg").read_bytes()) == first


@pytest.mark.skipif(not SHARED.is_dir(), reason="the citation graphs are not beside the checkout")
def test_t1_a_graph_network_is_held_at_its_rate(tmp_path: Path) -> None:
    task = script.all_tasks(SHARED, smoke=True)["pign"]
    assert 1 <= task.gain < 1 + 1e-6  # float32's adjacency matrix is a little above 1
    for kind in ("bounded", "propagation"):
        result = script.run_cell(script.Cell("pign", kind, 0.9, 0), task, tmp_path)
        assert result["accepted"] is True
        assert 0.9 - 1e-5 < result["proven"] <= 0.9
        assert 0 <= result["value"] <= 1


def test_a_repair_begins_with_the_weights_of_its_seed() -> None:
    task = SimpleNamespace(name="t", free="free", kinds=("free", "jacobian", "bounded", "repair"))
    cells = script.cells_of(task, (0.9, 0.99), 3)
    assert len(cells) == len({cell.name for cell in cells}) == 1 + 1 + 2 + 2
    assert [cell.seed for cell in cells] == [3] * 6
    order = [cell.kind for cell in cells]
    assert order.index("free") < order.index("repair")


def result(value: float, seconds: float, **more: Any) -> dict[str, Any]:
    known = {"verdict": "certified", "accepted": True, "proven": 0.9, "constant": 0.9}
    return {"value": value, "seconds": seconds, "evaluations": 5.0, "unsolved": 0, **known, **more}


def test_the_table_gives_spread_verdicts_the_largest_constant_rounded_up_and_times() -> None:
    task = SimpleNamespace(name="t", title="T", metric="accuracy", free="free", kinds=("free", "bounded", "repair"))
    found = {}
    for seed, value in enumerate((0.5, 0.7)):
        unproven = {"verdict": "refuted", "accepted": None, "proven": None, "constant": 1.5, "unsolved": seed}
        found[script.Cell("t", "free", None, seed)] = result(value, 10.0, **unproven)
        found[script.Cell("t", "bounded", 0.9, seed)] = result(value, 20.0, constant=0.9 - 1e-9 * seed)
        found[script.Cell("t", "repair", 0.9, seed)] = result(value, 2.0, accepted=seed == 0, constant=0.90001)
    rows = page.table(found, task)[4:]
    assert "| – | 2 refuted | 1.5000 | 60.0 ± 14.1 % | 1.00 | 5.0 (1 unsolved) |" in rows[0]
    assert "| 0.9 | 2 certified | 0.9000 | 60.0 ± 14.1 % | 2.00 | 5.0 |" in rows[1]
    assert "| 0.9 | 2 certified (1 accepted by the checker) | 0.9001 | 60.0 ± 14.1 % | 1.20 | 5.0 |" in rows[2]
