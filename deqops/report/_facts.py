"""What a run's folder says, each part read with the library's own readers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils import _pytree as pytree

from deqops._errors import InputError, ModelFileError
from deqops._files import require_plain
from deqops._tensorfile import TensorFile, read_tensors

if TYPE_CHECKING:
    from deqops.graph import OperatorGraph
    from deqops.verify import Certificate, CheckReport

FILES = ("run.json", "model.pt2", "inputs.safetensors", "state.safetensors", "certificate.json", "metrics.json")
_MAX_JSON = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Facts:
    """A run's files, read and compared with each other.

    Attributes:
        name: of the folder.
        label: run.json, or empty.
        metrics: metrics.json, or empty.
        graph: the operator in model.pt2.
        start: state and inputs that the iteration starts from.
        state: the computed equilibrium, or None.
        certificate: or None.
        check: what the independent checker said of it, or None.
        files: name, bytes and SHA-256 of each file.
    """

    name: str
    label: Mapping[str, Any]
    metrics: Mapping[str, Any]
    graph: OperatorGraph
    start: TensorFile
    state: Any | None
    certificate: Certificate | None
    check: CheckReport | None
    files: tuple[tuple[str, int, str], ...]

    @property
    def rejected(self) -> bool:
        """Whether the certificate claims something that the independent checker did not accept."""
        return self.check is not None and not self.check.accepted and self.check.verdict != "unknown"


def read_facts(folder: Path, check: CheckReport | None) -> Facts:
    """Read a run's folder.

    Raises:
        InputError: no folder, no model or inputs in it, or files that do not belong together.
        ModelFileError: a file is damaged.
    """
    from deqops.graph import read_model
    from deqops.verify import Certificate

    if not folder.is_dir():
        raise InputError(f"folder: {folder} is no folder; give a run's folder, as runs/pign")
    for needed in ("model.pt2", "inputs.safetensors"):
        if not (folder / needed).is_file():
            raise InputError(f"folder: {folder} has no {needed}; give a run's folder, as runs/pign")
    graph, start = read_model(folder / "model.pt2"), read_tensors(folder / "inputs.safetensors")
    state = read_tensors(folder / "state.safetensors").state if (folder / "state.safetensors").is_file() else None
    if state is not None and _shapes(state) != _shapes(start.state):
        raise InputError("state.safetensors: its state has not the shapes of the one in inputs.safetensors")
    path = folder / "certificate.json"
    certificate = Certificate.load(path) if path.is_file() else None
    if certificate is not None:
        _check_belongs(certificate, graph, start)
    return Facts(
        name=folder.resolve().name,
        label=_json(folder / "run.json"),
        metrics=_json(folder / "metrics.json"),
        graph=graph,
        start=start,
        state=state,
        certificate=certificate,
        check=check,
        files=tuple(_described(folder / name) for name in FILES if (folder / name).is_file()),
    )


def _check_belongs(certificate: Certificate, graph: OperatorGraph, start: TensorFile) -> None:
    """Refuse a certificate of another model or of other inputs."""
    from deqops.graph import tensor_digest

    if certificate.fingerprint != graph.fingerprint:
        raise InputError("certificate.json: it is about another model than model.pt2; certify this one")
    if certificate.batch_dims != graph.batch_dims:
        raise InputError(
            f"certificate.json: it is for batch_dims={certificate.batch_dims}, model.pt2 has {graph.batch_dims}; "
            "certify this one"
        )
    leaves = pytree.tree_leaves(start.inputs)
    if len(leaves) != len(certificate.inputs):
        raise InputError("certificate.json: it is about another number of inputs; certify with these")
    for record, leaf in zip(certificate.inputs, leaves, strict=True):
        if record.sha256 is not None and record.sha256 != tensor_digest(leaf):
            raise InputError(f"certificate.json: it is about other values of input {record.name}; certify with these")


def _shapes(state: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in pytree.tree_leaves(state)]


def _json(path: Path) -> Mapping[str, Any]:
    """A JSON object, or an empty one where there is no file."""
    if not path.exists():
        return {}
    require_plain(path)
    if path.stat().st_size > _MAX_JSON:
        raise ModelFileError(f"{path.name}: larger than {_MAX_JSON} bytes; it is no file of a run")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ModelFileError(f"{path.name}: not a JSON file; run the command that made it again") from None
    if not isinstance(found, dict):
        raise ModelFileError(f"{path.name}: not a JSON object; run the command that made it again")
    return found


def _described(path: Path) -> tuple[str, int, str]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return path.name, path.stat().st_size, digest
