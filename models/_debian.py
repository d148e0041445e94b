"""A large graph with attributes: the packages of a Debian system, their dependencies and their sections."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from deqops._errors import InputError, MissingDataError
from deqops._numbers import as_number, is_count

if TYPE_CHECKING:
    from torch_geometric.data import Data

FILE = "dumpavail.txt"
_WANTED = ("Package", "Section", "Description", "Depends", "Pre-Depends")
_LARGEST = 2**30
_SECONDS = 120


class Package(NamedTuple):
    """What the index says of a package."""

    name: str
    section: str
    words: tuple[str, ...]
    needs: tuple[str, ...]


def debian_graph(
    root: str | Path,
    *,
    sections: int = 20,
    columns: int = 256,
    labelled: float = 0.02,
    validation: float = 0.1,
    seed: int = 0,
) -> Data:
    """Packages of the most frequent sections; two are joined where one depends on the other.

    Reads `dumpavail.txt` below `root`, what `apt-cache dumpavail` writes; where there is no such file, and apt-cache is
    installed, what it says now. Only packages of the chosen sections are nodes.

    Args:
        root: folder with the file; only read.
        sections: classes, the most frequent ones; a prefix as in "contrib/net" is left out.
        columns: of the features: the words of the one-line description, hashed (CRC-32) into so many counts.
        labelled: share of the packages that are labelled for training.
        validation: share for validation; what remains is the test set.
        seed: of the split.

    Returns:
        Data: `x` (nodes, columns) float32, rows summing to 1 (or 0), `edge_index` (2, edges) undirected without self
        loops and sorted, `y` (nodes,), the masks `train_mask`, `val_mask`, `test_mask`.

    Raises:
        InputError: a number is out of range, there is neither a file nor apt-cache, or it says nothing.
    """
    _check(sections, columns, labelled, validation)
    packages = _packages(_index(Path(root)))
    names = [name for name, _ in Counter(package.section for package in packages.values()).most_common(sections)]
    chosen = {name: package for name, package in packages.items() if package.section in names}
    if len(chosen) < 10 or len(names) < 2:
        raise InputError(f"root: the index holds {len(chosen)} packages in {len(names)} sections; give a whole one")
    return _graph(
        chosen, {name: number for number, name in enumerate(sorted(names))}, columns, labelled, validation, seed
    )


def _check(sections: int, columns: int, labelled: float, validation: float) -> None:
    for name, value, least in (("sections", sections, 2), ("columns", columns, 1)):
        if not is_count(value, least):
            raise InputError(f"{name}: got {value!r}; choose a whole number of at least {least}")
    shares = as_number(labelled), as_number(validation)
    if not min(shares) > 0 or not sum(shares) < 1:
        raise InputError(f"labelled, validation: got {labelled} and {validation}; choose shares whose sum is below 1")


def _index(root: Path) -> str:
    """The text of the index."""
    path = root / FILE
    if path.is_file():
        if path.stat().st_size > _LARGEST:
            raise InputError(f"root: {path} is larger than {_LARGEST} bytes; it is no index of packages")
        return path.read_text(encoding="utf-8", errors="replace")
    program = shutil.which("apt-cache")
    if program is None:
        raise MissingDataError(
            f"root: there is no {path}, and no apt-cache here; write it with apt-cache dumpavail > {FILE}"
        )
    try:
        done = subprocess.run([program, "dumpavail"], capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingDataError(
            f"root: there is no {path}, and apt-cache dumpavail fails ({type(error).__name__})"
        ) from None
    return done.stdout.decode("utf-8", errors="replace")


def _packages(text: str) -> dict[str, Package]:
    """By name; of several versions the first one."""
    found: dict[str, Package] = {}
    for fields in _stanzas(text):
        name = fields.get("Package", "")
        if name and fields.get("Section") and name not in found:
            words = tuple(re.findall(r"[a-z0-9]+", fields.get("Description", "").lower()))
            needs = ",".join((fields.get("Depends", ""), fields.get("Pre-Depends", "")))
            found[name] = Package(name, fields["Section"].rpartition("/")[2], words, _names(needs))
    return found


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """The wanted fields of each paragraph, their first lines."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        lines = (line.partition(":") for line in paragraph.splitlines() if line[:1] not in (" ", "\t"))
        yield {key: value.strip() for key, mark, value in lines if mark and key in _WANTED}


def _names(needs: str) -> tuple[str, ...]:
    """The packages of a relation: `a (>= 1) | b:any, c` names a, b and c."""
    words = (re.match(r"[A-Za-z0-9][A-Za-z0-9+.-]*", part.strip()) for part in re.split(r"[,|]", needs))
    return tuple(dict.fromkeys(word.group() for word in words if word))


def _graph(
    packages: dict[str, Package], classes: dict[str, int], columns: int, labelled: float, validation: float, seed: int
) -> Data:
    from torch_geometric.data import Data
    from torch_geometric.utils import to_undirected

    number = {name: place for place, name in enumerate(sorted(packages))}
    nodes = [packages[name] for name in number]
    pairs = [(number[p.name], number[n]) for p in nodes for n in p.needs if n in number and n != p.name]
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    train, val, test = random_split(len(nodes), labelled, validation, seed)
    return Data(
        x=_features(nodes, columns),
        edge_index=to_undirected(edges, num_nodes=len(nodes)),
        y=torch.tensor([classes[p.section] for p in nodes]),
        train_mask=train,
        val_mask=val,
        test_mask=test,
    )


def _features(nodes: list[Package], columns: int) -> Tensor:
    """Counts of hashed words, rows divided by their sums."""
    x = torch.zeros(len(nodes), columns)
    places = [(row, zlib.crc32(word.encode()) % columns) for row, p in enumerate(nodes) for word in p.words]
    if places:
        rows, cols = torch.tensor(places).T
        x.index_put_((rows, cols), torch.ones(len(places)), accumulate=True)
    return x / x.sum(dim=1, keepdim=True).clamp_min(1)


def random_split(nodes: int, training: float, validation: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of these shares, each at least one node, and of the rest."""
    order = torch.randperm(nodes, generator=torch.Generator().manual_seed(seed))
    first = max(1, round(training * nodes))
    second = first + max(1, round(validation * nodes))
    masks = [torch.zeros(nodes, dtype=torch.bool) for _ in range(3)]
    for mask, part in zip(masks, (order[:first], order[first:second], order[second:]), strict=True):
        mask[part] = True
    return masks[0], masks[1], masks[2]
