"""The citation graphs Cora and CiteSeer, and features that are missing."""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from deqops._errors import InputError, MissingDataError

if TYPE_CHECKING:
    from torch_geometric.data import Data

# The raw files are pickles, which run code when read: only these very files are.
_DIGESTS = {
    "cora": {
        "allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
        "tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
    },
    "citeseer": {
        "allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
        "tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "x": "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
        "y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
    },
}
PLANETOID = {"Cora": "cora", "CiteSeer": "citeseer"}


def planetoid_graph(name: str, root: str | Path, *, missing: float = 0.0, seed: int = 0) -> Data:
    """Cora or CiteSeer with the public split (20 labels a class, 500 validation and 1000 test nodes).

    Args:
        name: "Cora" or "CiteSeer".
        root: folder with `Cora/raw` and the like; only read. The files must be the published ones, which is
            checked by their SHA-256 before they are opened.
        missing: share of the nodes outside the training set whose features are set to 0.
        seed: of the choice of these nodes.

    Returns:
        Data: `x` (nodes, words) float32, rows summing to 1 (or 0 where the features are missing), `edge_index`
        (2, edges) undirected, `y` (nodes,), and the masks `train_mask`, `val_mask`, `test_mask` (nodes,).

    Raises:
        InputError: another name, a share outside [0, 1], or files that are not there or not the published ones.

    Source: Yang, Cohen, Salakhutdinov, *Revisiting semi-supervised learning with graph embeddings*, 2016; the
    missing features as in Zappala et al., arXiv:2310.01618.
    """
    if name not in PLANETOID:
        raise InputError(f"name: got {name!r}; choose from {', '.join(PLANETOID)}")
    if not 0 <= missing <= 1:
        raise InputError(f"missing: got {missing}; choose a share from 0 to 1")
    data = _load(name, _published(Path(root) / name / "raw", name))
    rows = data.x.sum(dim=1, keepdim=True)
    data.x = data.x / torch.where(rows > 0, rows, torch.ones_like(rows))
    hidden = missing_nodes(data.train_mask, missing, seed)
    data.x[hidden] = 0
    return data


def missing_nodes(train_mask: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Numbers of the nodes, a share of those outside the training set, that lose their features."""
    rest = (~train_mask).nonzero()[:, 0]
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))
    return rest[order[: round(share * len(rest))]]


def _published(raw: Path, name: str) -> dict[str, bytes]:
    """The raw files by name, each with the digest of the published one."""
    short = PLANETOID[name]
    files = {}
    for part, digest in _DIGESTS[short].items():
        path = raw / f"ind.{short}.{part}"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MissingDataError(
                f"root: cannot read {path} ({error.strerror}); it takes github.com/kimiyoung/planetoid's data folder"
                f" as {raw}"
            ) from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"root: {path} is not the published file; fetch github.com/kimiyoung/planetoid anew")
        files[path.name] = content
    return files


def _load(name: str, files: dict[str, bytes]) -> Data:
    """PyG's reader on a copy: it writes beside what it reads."""
    from torch_geometric.datasets import Planetoid

    with TemporaryDirectory(prefix="deqops-") as folder:
        raw = Path(folder) / name / "raw"
        raw.mkdir(parents=True)
        for file, content in files.items():
            (raw / file).write_bytes(content)
        with contextlib.redirect_stderr(io.StringIO()):  # it announces its steps
            return Planetoid(folder, name)[0]
