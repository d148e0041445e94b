"""Cora and CiteSeer: the published files, the public split, missing features."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from deqops import InputError
from deqops.models import planetoid_graph

SHARED = Path(__file__).resolve().parents[2] / "shared" / "planetoid"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the citation graphs are not beside the checkout")


@needs_data
@pytest.mark.parametrize(
    ("name", "nodes", "words", "edges", "classes"), [("Cora", 2708, 1433, 10556, 7), ("CiteSeer", 3327, 3703, 9104, 6)]
)
def test_the_public_split_of_the_published_graph(name: str, nodes: int, words: int, edges: int, classes: int) -> None:
    data = planetoid_graph(name, SHARED)
    assert data.x.shape == (nodes, words)
    assert data.edge_index.shape == (2, edges)
    assert [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)] == [20 * classes, 500, 1000]
    assert torch.bincount(data.y[data.train_mask]).tolist() == [20] * classes
    sums = data.x.sum(dim=1)
    assert bool((((sums - 1).abs() < 1e-5) | (sums == 0)).all())


@needs_data
def test_features_are_missing_outside_the_training_set_alone() -> None:
    whole, partial = planetoid_graph("Cora", SHARED), planetoid_graph("Cora", SHARED, missing=0.9, seed=3)
    gone = (partial.x == 0).all(dim=1) & (whole.x != 0).any(dim=1)
    assert int(gone.sum()) == round(0.9 * (2708 - 140))
    assert not bool((gone & whole.train_mask).any())
    assert torch.equal(partial.x[~gone], whole.x[~gone])
    assert torch.equal(partial.x, planetoid_graph("Cora", SHARED, missing=0.9, seed=3).x)
    assert not torch.equal(partial.x, planetoid_graph("Cora", SHARED, missing=0.9, seed=4).x)


@needs_data
def test_the_folder_is_only_read(tmp_path: Path) -> None:
    shutil.copytree(SHARED / "Cora" / "raw", tmp_path / "Cora" / "raw")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    planetoid_graph("Cora", tmp_path)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return os.mkdir, (self.target,)


@needs_data
@pytest.mark.parametrize("part", ["x", "graph", "test.index"])
def test_a_file_that_is_not_the_published_one_is_not_opened(tmp_path: Path, part: str) -> None:
    raw, target = tmp_path / "Cora" / "raw", tmp_path / "made"
    shutil.copytree(SHARED / "Cora" / "raw", raw)
    (raw / f"ind.cora.{part}").write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(InputError, match=rf"ind\.cora\.{part} is not the published file"):
        planetoid_graph("Cora", tmp_path)
    assert not target.exists()


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"root: cannot read .*Cora/raw"):
        planetoid_graph("Cora", tmp_path)


def test_other_graphs_and_shares_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name: got 'cora'; choose from Cora, CiteSeer"):
        planetoid_graph("cora", tmp_path)
    with pytest.raises(InputError, match=r"missing: got 1\.5"):
        planetoid_graph("Cora", tmp_path, missing=1.5)
