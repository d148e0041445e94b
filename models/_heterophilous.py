"""Graphs whose neighbours mostly differ in class: WebKB, Actor and Wikipedia pages, from the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deqops._errors import InputError, MissingDataError

from ._debian import random_split

if TYPE_CHECKING:
    from torch_geometric.data import Data

HETEROPHILOUS = ("cornell", "texas", "wisconsin", "film", "chameleon", "squirrel")
_NODES, _EDGES = "out1_node_feature_label.txt", "out1_graph_edges.txt"
_INDICES = ("film",)
"""Sets whose features are numbers of words, not zeros and ones."""


def heterophilous_graph(
    name: str, root: str | Path, *, training: float = 0.48, validation: float = 0.32, seed: int = 0
) -> Data:
    """A graph in the files of Pei et al.: `<root>/<name>/raw/out1_node_feature_label.txt` and `out1_graph_edges.txt`.

    Both start with a line of headings. A node's line is its number, its features separated by commas and its class,
    separated by tabs; an edge's line is two numbers.

    Args:
        name: "cornell", "texas", "wisconsin", "film" (Actor), "chameleon" or "squirrel".
        root: as above; only read.
        training: share of the nodes with labels for training.
        validation: share for validation; what remains is the test set.
        seed: of the split, which is drawn anew and not one of the published ones.

    Returns:
        Data: `x` (nodes, words) float32, rows summing to 1 (or 0), `edge_index` (2, edges) undirected without self
        loops and sorted, `y` (nodes,), the masks `train_mask`, `val_mask`, `test_mask`.

    Raises:
        InputError: another name, shares out of range, or files that are not there or not of this form.

    Source: Pei, Wei, Chang, Lei, Yang, *Geom-GCN: geometric graph convolutional networks*, ICLR 2020.
    """
    if name not in HETEROPHILOUS:
        raise InputError(f"name: got {name!r}; choose from {', '.join(HETEROPHILOUS)}")
    if not training > 0 or not validation > 0 or not training + validation < 1:
        raise InputError(f"training, validation: got {training} and {validation}; choose shares whose sum is below 1")
    raw = Path(root) / name / "raw"
    x, y = _nodes(raw / _NODES, name in _INDICES)
    return _graph(x, y, _edges(raw / _EDGES, len(y)), random_split(len(y), training, validation, seed))


def _graph(x: Tensor, y: Tensor, edges: Tensor, masks: tuple[Tensor, Tensor, Tensor]) -> Data:
    from torch_geometric.data import Data
    from torch_geometric.utils import remove_self_loops, to_undirected

    return Data(
        x=x / x.sum(dim=1, keepdim=True).clamp_min(1),
        edge_index=to_undirected(remove_self_loops(edges)[0], num_nodes=len(y)),
        y=y,
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
    )


def _lines(path: Path) -> list[list[str]]:
    """The fields of each line after the first."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingDataError(
            f"root: cannot read {path} ({error.strerror}); it takes github.com/graphdml-uiuc-jlu/geom-gcn's new_data"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"root: {path} is no text; give the published file") from None
    return [line.split("\t") for line in text.splitlines()[1:] if line.strip()]


def _nodes(path: Path, indices: bool) -> tuple[Tensor, Tensor]:
    """Features and classes by the nodes' numbers, which are 0, 1, ... in any order."""
    lines = _lines(path)
    try:
        found = {int(number): (_numbers(features), int(label)) for number, features, label in lines}
    except ValueError:
        raise InputError(
            f"root: {path} has a line that is not: number, features, class; give the published file"
        ) from None
    if len(found) < 3 or sorted(found) != list(range(len(lines))):
        raise InputError(f"root: {path} does not number its nodes 0, 1, ...; give the published file")
    rows = [found[number][0] for number in range(len(found))]
    y = torch.tensor([found[number][1] for number in range(len(found))])
    if min(map(min, filter(None, rows)), default=0) < 0 or int(y.min()) < 0:
        raise InputError(f"root: {path} has a negative number; give the published file")
    if indices:
        x = torch.zeros(len(rows), 1 + max(map(max, filter(None, rows)), default=0))
        for row, words in enumerate(rows):
            x[row, words] = 1
        return x, y
    if len(set(map(len, rows))) != 1:
        raise InputError(f"root: {path} has rows of different lengths; give the published file")
    return torch.tensor(rows, dtype=torch.float32), y


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part.strip()]


def _edges(path: Path, nodes: int) -> Tensor:
    """(2, edges) as the file lists them."""
    try:
        pairs = [(int(first), int(second)) for first, second in _lines(path)]
    except ValueError:
        raise InputError(f"root: {path} has a line that is not two numbers; give the published file") from None
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    if len(pairs) and not (int(edges.min()) >= 0 and int(edges.max()) < nodes):
        raise InputError(f"root: {path} joins nodes that there are not; give the published file")
    return edges
