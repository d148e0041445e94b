"""Graph operators, parts of graphs, and the graphs that come from the user's files."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deqops import InputError
from deqops.cli import main
from deqops.models import (
    PIGN,
    PIGNSettings,
    debian_graph,
    digits_graph,
    heterophilous_graph,
    partition,
    seeded,
    train_pign,
)
from deqops.models import _debian as debian
from deqops.models._partition import subgraph
from deqops.verify import Verdict, certify, check

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 0, 2], [1, 0, 2, 1, 3, 2, 0, 3, 2, 0]])
SETTINGS = PIGNSettings(epochs=5, channels=4, dropout=0.0)


def network(operator: str, limit: float = 0.9) -> PIGN:
    with seeded(0):
        return PIGN(3, 2, operator=operator, channels=3, limit=limit).eval()


def features() -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


def large(model: PIGN) -> PIGN:
    """The same after an optimiser has made all weights that act on the state large."""
    with torch.no_grad():
        for parameter in model.operator.T.parameters():  # type: ignore[union-attr]
            parameter.mul_(50).add_(1)
    return model


# ---------------------------------------------------------------------------------------------------------- operators


def test_sage_is_the_documented_equation() -> None:
    model, x = network("sage"), features()
    adjacency = torch.zeros(4, 4)
    adjacency[EDGES[1], EDGES[0]] = 1
    mean = adjacency / adjacency.sum(dim=1, keepdim=True)
    layer = model.operator.T.convolution  # type: ignore[union-attr]
    state = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    expected = torch.tanh(mean @ state @ layer.lin_l.weight.T + layer.lin_l.bias + state @ layer.lin_r.weight.T)
    torch.testing.assert_close(model.operator.T(state, x, EDGES), expected)  # type: ignore[operator]


def test_attention_is_the_documented_equation() -> None:
    model, x = network("attention"), features()
    layer = model.operator.T.convolution  # type: ignore[union-attr]
    state = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    values = torch.tanh(state) @ layer.lin.weight.T
    adjacency = torch.eye(4, dtype=torch.bool)
    adjacency[EDGES[1], EDGES[0]] = True
    scores = (values @ layer.att_dst[0, 0])[:, None] + (values @ layer.att_src[0, 0])[None, :]
    weights = torch.nn.functional.leaky_relu(scores, 0.2).masked_fill(~adjacency, -torch.inf).softmax(dim=1)
    expected = torch.tanh(weights @ values + layer.bias)
    torch.testing.assert_close(model.operator.T(state, x, EDGES), expected)  # type: ignore[operator]


def test_t1_sage_contracts_in_the_sup_norm_whatever_an_optimiser_does() -> None:
    model, x = large(network("sage")), features()
    arguments = (model.operator, model.initial_state(x, EDGES), x, EDGES)
    certificate = certify(*arguments, batch_dims=0, theorem="picard", norm="linf")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    assert 0.89 < certificate.rate < 0.9 + 1e-6
    assert check(certificate, *arguments).accepted


def test_t11_attention_behind_bounded_values_is_certified_whatever_an_optimiser_does() -> None:
    model, x = large(network("attention")), features()
    arguments = (model.operator, model.initial_state(x, EDGES), x, EDGES)
    certificate = certify(*arguments, batch_dims=0, theorem="absorbing")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.bound is not None
    assert 0.1 < certificate.bound < 1
    assert check(certificate, *arguments).accepted


def test_an_infinite_limit_leaves_the_weights_free() -> None:
    weight = large(network("sage", torch.inf)).operator.T.convolution.lin_l.weight  # type: ignore[union-attr]
    assert float(weight.detach().abs().sum()) > 50


@pytest.mark.parametrize("operator", ["sage", "attention"])
def test_the_operators_train_through_the_equilibrium(operator: str) -> None:
    data = digits_graph(neighbours=4)
    trained = train_pign(data, replace(SETTINGS, operator=operator))
    assert trained.loss[-1] < trained.loss[0]


# -------------------------------------------------------------------------------------------------------------- parts


def ring(nodes: int) -> Tensor:
    around = torch.arange(nodes)
    there = torch.stack([around, around.roll(-1)])
    return torch.cat([there, there.flip(0)], dim=1)


def test_each_node_is_in_one_part_and_parts_hang_together() -> None:
    with seeded(3):
        parts = partition(ring(50), 50, 4)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(50))
    for part in parts:
        gaps = sum(int(b - a) > 1 for a, b in pairwise(part.tolist()))
        assert gaps <= 1  # an arc, perhaps over the seam


def test_a_partition_is_drawn_from_torchs_generator_and_takes_lonely_nodes() -> None:
    edges = torch.tensor([[0, 1], [1, 0]])
    drawn = []
    for _ in range(2):
        with seeded(1):
            drawn.append(partition(edges, 30, 3))
    assert [part.tolist() for part in drawn[0]] == [part.tolist() for part in drawn[1]]
    assert sum(map(len, drawn[0])) == 30


@pytest.mark.parametrize("parts", [0, 5])
def test_a_number_of_parts_out_of_range_is_named(parts: int) -> None:
    with pytest.raises(InputError, match="parts"):
        partition(EDGES, 4, parts)


def test_a_subgraph_keeps_the_edges_between_its_nodes() -> None:
    data = digits_graph(neighbours=4)
    part = torch.arange(0, 1797, 3)
    for x in (data.x, data.x.to_sparse().coalesce()):
        features, edges, labels, mask = subgraph(data, x, part)
        dense = features.to_dense() if features.is_sparse else features
        assert torch.equal(dense, data.x[part])
        assert torch.equal(labels, data.y[part])
        assert torch.equal(mask, data.train_mask[part])
        known = {(int(a), int(b)) for a, b in data.edge_index.T if a % 3 == 0 and b % 3 == 0}
        assert {(int(part[a]), int(part[b])) for a, b in edges.T} == known


def test_training_on_parts_learns_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    data = digits_graph(neighbours=4)
    settings = replace(SETTINGS, operator="propagation", parts=4, epochs=6, learning_rate=0.03)
    whole = train_pign(data, settings)
    assert whole.loss[-1] < whole.loss[0]

    class Interrupted(Exception):
        pass

    def stop(done: int, total: int, loss: float) -> None:
        if done == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_pign(data, settings, checkpoint=tmp_path / "c", progress=stop)
    resumed = train_pign(data, settings, checkpoint=tmp_path / "c")
    assert resumed.loss == whole.loss
    assert all(torch.equal(a, b) for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True))


def test_parts_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match="parts"):
        PIGNSettings(parts=0)


# ------------------------------------------------------------------------------------------------------------- Debian

INDEX = """Package: a
Version: 1
Section: net
Depends: b (>= 2) | missing, c:any,
 d
Description: Two words, two
 and a longer text
Pre-Depends: e

Package: b
Section: contrib/libs
Depends: a
Description: words

Package: a
Section: libs
Description: another version

Package: nosection
Description: x

"""


def index(count: int = 12) -> str:
    more = [
        f"Package: p{i}\nSection: {('net', 'libs', 'rare')[min(i % 2 + (i == 5), 2)]}\nDepends: a\n"
        for i in range(count)
    ]
    return INDEX + "\n".join(more)


def test_packages_of_an_index_become_a_graph(tmp_path: Path) -> None:
    (tmp_path / "dumpavail.txt").write_text(index())
    data = debian_graph(tmp_path, sections=2, columns=16, labelled=0.2)
    names = sorted(["a", "b", *(f"p{i}" for i in range(12) if i != 5)])
    assert data.x.shape == (len(names), 16)
    number = {name: place for place, name in enumerate(names)}
    expected = {(number["a"], number[name]) for name in names if name != "a"}
    edges = {(int(a), int(b)) for a, b in data.edge_index.T}
    assert edges == expected | {(b, a) for a, b in expected}
    assert int(data.y[number["a"]]) != int(data.y[number["b"]])
    torch.testing.assert_close(data.x.sum(dim=1)[: number["b"] + 1], torch.ones(2))
    assert float(data.x[number["a"]].max()) == pytest.approx(2 / 3)
    masks = torch.stack([data.train_mask, data.val_mask, data.test_mask])
    assert bool((masks.sum(dim=0) == 1).all())
    again = debian_graph(tmp_path, sections=2, columns=16, labelled=0.2)
    assert torch.equal(again.x, data.x)
    assert torch.equal(again.train_mask, data.train_mask)


def test_without_a_file_apt_cache_is_asked_and_its_failures_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.append(command)
        if len(asked) > 1:
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, 0, stdout=index().encode())

    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian.subprocess, "run", run)
    assert len(debian_graph(tmp_path, sections=2).y) == 13
    assert asked == [["/usr/bin/apt-cache", "dumpavail"]]
    with pytest.raises(InputError, match="apt-cache dumpavail fails"):
        debian_graph(tmp_path)
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"no .*dumpavail.txt, and no apt-cache"):
        debian_graph(tmp_path)


def test_an_index_that_says_too_little_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dumpavail.txt").write_text("\x00 nothing here\n\n:\n")
    with pytest.raises(InputError, match="0 packages"):
        debian_graph(tmp_path)


@pytest.mark.parametrize("options", [{"sections": 1}, {"columns": 0}, {"labelled": 0.0}, {"validation": 1.0}])
def test_options_of_the_debian_graph_are_checked(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        debian_graph(tmp_path, **options)


# ------------------------------------------------------------------------------------------------------ heterophilous


def write_pages(root: Path, name: str, nodes: str, edges: str) -> Path:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    (raw / "out1_node_feature_label.txt").write_text(nodes)
    (raw / "out1_graph_edges.txt").write_text(edges)
    return root


HEADING = "node_id\tfeature\tlabel\n"
PAGES = HEADING + "".join(f"{n}\t{n % 2},{1 - n % 2},1\t{n % 3}\n" for n in reversed(range(10)))
LINKS = "node_id\tnode_id\n" + "".join(f"{n}\t{(n + 1) % 10}\n" for n in range(10)) + "3\t3\n"


def test_web_pages_are_read(tmp_path: Path) -> None:
    data = heterophilous_graph("texas", write_pages(tmp_path, "texas", PAGES, LINKS))
    torch.testing.assert_close(data.x[3], torch.tensor([0.5, 0.0, 0.5]))
    assert data.y.tolist() == [n % 3 for n in range(10)]
    assert data.edge_index.shape == (2, 20)
    assert [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)] == [5, 3, 2]


def test_actors_features_are_numbers_of_words(tmp_path: Path) -> None:
    nodes = HEADING + "0\t4,1\t0\n1\t0\t1\n2\t\t0\n"
    data = heterophilous_graph("film", write_pages(tmp_path, "film", nodes, "a\tb\n0\t1\n"))
    assert data.x.tolist() == [[0, 0.5, 0, 0, 0.5], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("nodes", "edges", "what"),
    [
        (HEADING + "0\t1,0\n", LINKS, "not: number, features, class"),
        (HEADING + "0\tx\t0\n", LINKS, "not: number, features, class"),
        (PAGES.replace("9\t1", "11\t1"), LINKS, "does not number its nodes"),
        (PAGES.replace("9\t1,", "9\t"), LINKS, "different lengths"),
        (PAGES.replace("9\t1,", "9\t-1,"), LINKS, "negative"),
        (PAGES, "a\tb\n0\n", "not two numbers"),
        (PAGES, "a\tb\n0\t10\n", "nodes that there are not"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, nodes: str, edges: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        heterophilous_graph("cornell", write_pages(tmp_path, "cornell", nodes, edges))


def test_other_names_shares_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name"):
        heterophilous_graph("nosuch", tmp_path)
    with pytest.raises(InputError, match="training"):
        heterophilous_graph("texas", tmp_path, training=0.9, validation=0.2)
    with pytest.raises(InputError, match="cannot read"):
        heterophilous_graph("texas", tmp_path)


@pytest.mark.parametrize("dataset", ["texas", "debian"])
def test_the_command_line_trains_on_a_users_files(tmp_path: Path, dataset: str, capsys: Any) -> None:
    write_pages(tmp_path, "texas", PAGES, LINKS)
    (tmp_path / "dumpavail.txt").write_text(index())
    command = ["train", "pign", "--dataset", dataset, "--root", str(tmp_path), "--runs", str(tmp_path / "runs")]
    assert main([*command, "--name", "r", "--set", "epochs=2", "--set", "channels=4", "--set", "parts=2"]) == 0
    metrics = json.loads((tmp_path / "runs" / "r" / "metrics.json").read_text())
    assert metrics["by_iteration"][0]["iteration"] == 0
