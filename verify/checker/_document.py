"""Reading a certificate strictly: every key, type, number, witness and the digest of schema 1.

The schema is in `docs/certificate.md`. Nothing here believes the content; it only establishes that the
content is well-formed, and `_theorems.py` decides whether it is true.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deqops._errors import ModelFileError
from deqops._files import require_plain

from ._refusal import Rejected
from ._witness import Array, Witnesses

LARGEST_FILE = 64 * 2**20
FLOATS = ("float16", "bfloat16", "float32", "float64")
KINDS = ("contraction", "unique_equilibrium", "converges")
VERDICTS = ("certified", "refuted", "unknown")
EVIDENCE = {
    "lipschitz": ("bound", "", ""),
    "local": ("bound residual", "", ""),
    "chain": ("bound", "", "multipliers"),
    "local_chain": ("bound residual", "", "multipliers"),
    "lyapunov": ("defect contraction size inverse_size factor", "", "form inverse"),
    "log_norm": ("mu least factor", "", ""),
    "monotone": ("mu factor", "", ""),
    "newton": ("defect contraction factor", "", "inverse"),
    "absorbing": ("bound", "sweeps", "lower upper"),
    "componentwise": ("contraction size inverse_size factor image", "", "vector"),
    "one_sided": ("mu bound multiplier factor", "", ""),
    "powers": ("contraction factor", "doublings", ""),
    "quadratic": ("contraction size inverse_size factor", "", "form inverse"),
    "box": ("bound outside", "", ""),
    "causal": ("", "depth", "levels"),
    "two_points": ("", "problem", "first second"),
    "eigenvalue": ("radius growth", "problem", "point form"),
    "two_equilibria": ("first_radius second_radius", "problem", "first second"),
    "cycle": ("radius", "problem", "points"),
    "unstable": ("radius growth", "problem", "point form"),
    "index": ("radius", "problem", "point"),
}
"""Each kind's numbers, counts and arrays."""
THEOREMS = (
    "picard",
    "powers",
    "quadratic",
    "local_picard",
    "local_lyapunov",
    "damped",
    "log_norm",
    "one_sided",
    "monotone",
    "newton_kantorovich",
    "causal",
    "absorbing",
    "componentwise",
    "refute",
    None,
)


@dataclass(frozen=True, eq=False)
class Norm:
    """`||diag(weights) y||` in l1, l2 or linf; `weights` per leaf of the state, None for ones."""

    order: str
    weights: tuple[Array, ...] | None


@dataclass(frozen=True, eq=False)
class Ball:
    """`||y - center|| <= radius` for each problem."""

    center: tuple[Array, ...]
    radius: float


@dataclass(frozen=True, eq=False)
class Box:
    """`lower <= y <= upper` entry by entry, for each problem its own."""

    lower: tuple[Array, ...]
    upper: tuple[Array, ...]


@dataclass(frozen=True)
class Input:
    """One input: `sha256` is None where the claim is for all its values, or for those between two `ends`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str | None
    ends: tuple[Array, Array] | None = None

    @property
    def free(self) -> bool:
        """Whether the claim is for all its values."""
        return self.sha256 is None and self.ends is None


@dataclass(frozen=True)
class Hypothesis:
    """A condition as the certificate states it."""

    name: str
    value: float | None
    limit: float | None
    holds: bool | None


@dataclass(frozen=True, eq=False)
class Evidence:
    """The parts of one kind: `evidence["bound"]` is a number, `counts` and `arrays` hold the rest by name."""

    kind: str
    numbers: dict[str, float]
    counts: dict[str, int]
    arrays: dict[str, tuple[Array, ...]]

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]


@dataclass(frozen=True, eq=False)
class Document:
    """A well-formed certificate. `region` is None for a claim about every state."""

    kind: str
    damping: float
    verdict: str
    theorem: str | None
    rate: float | None
    norm: Norm | None
    region: Ball | Box | None
    state: tuple[tuple[tuple[int, ...], str], ...]
    batch_dims: int
    fingerprint: str
    inputs: tuple[Input, ...]
    hypotheses: tuple[Hypothesis, ...]
    evidence: Evidence | None


def load(path: Path) -> dict[str, Any]:
    """The JSON object of a certificate file.

    Raises:
        ModelFileError: missing, too large, not JSON, or not a certificate of schema 1.
    """
    try:
        require_plain(path)
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ModelFileError(f"certificate: {path} is over {LARGEST_FILE} bytes")
        document = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except OSError as error:
        raise ModelFileError(f"certificate: cannot read {path} ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"certificate: {path} is not JSON ({error}); was it cut short?") from error
    return _recognised(document)


def plain(document: Any) -> dict[str, Any]:
    """A copy of the document that holds JSON types only.

    Raises:
        ModelFileError: it is not a certificate of schema 1.
        Rejected: something inside is no JSON value.
    """
    if not isinstance(document, dict):
        raise ModelFileError(f"certificate: a {type(document).__name__} is not a certificate document")
    try:
        return _recognised(json.loads(json.dumps(document, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise Rejected(f"document: not a JSON object ({error})") from error


def verdict_of(document: dict[str, Any]) -> str:
    """The verdict the document states, "unknown" where it states none."""
    verdict = document.get("verdict")
    return verdict if isinstance(verdict, str) and verdict in VERDICTS else "unknown"


def _recognised(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("format") != "deqops-certificate":
        raise ModelFileError("certificate: this is not a deqops certificate")
    if type(document.get("schema")) is not int or document["schema"] != 1:
        raise ModelFileError(f"certificate: schema {document.get('schema')!r} is unknown; this checker reads 1")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# -------------------------------------------------------------------------------------------------- structure


def read(document: dict[str, Any], folder: Path | None) -> Document:
    """The document's parts, each of the right type.

    Args:
        document: JSON types only.
        folder: where sibling witness files lie; None where the document came without a file.

    Raises:
        Rejected: the first thing that is wrong.
    """
    _keys({"attempts": [], **document}, "document", _TOP)
    if document["digest"] != _digest(document):
        raise Rejected("digest: it does not match the content; the certificate was edited or damaged")
    witnesses = Witnesses(document["witnesses"], folder)
    kind, damping = _claim(document)
    norm = None if document["norm"] is None else _norm(document["norm"], witnesses)
    result = Document(
        kind=kind,
        damping=damping,
        verdict=_choice(document["verdict"], "verdict", VERDICTS),
        theorem=_choice(document["theorem"], "theorem", THEOREMS),
        rate=_optional(document["rate"], "rate"),
        norm=norm,
        region=_region(document, witnesses),
        state=tuple(_leaf(entry) for entry in _list(document["state"], "state")),
        batch_dims=_integer(document["batch_dims"], "batch_dims", 1),
        fingerprint=_model(document["model"]),
        inputs=tuple(_input(entry, witnesses) for entry in _list(document["inputs"], "inputs")),
        hypotheses=tuple(_hypothesis(entry) for entry in _list(document["hypotheses"], "hypotheses")),
        evidence=_evidence(document["evidence"], witnesses),
    )
    _people(document)
    witnesses.refuse_unused()
    return result


_TOP = (
    "format schema deqops claim verdict theorem rate norm region state batch_dims model inputs hypotheses "
    "contributions attempts evidence reason witnesses digest"
)


def _digest(document: dict[str, Any]) -> str:
    content = {key: value for key, value in document.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _claim(document: dict[str, Any]) -> tuple[str, float]:
    claim = document["claim"]
    kind = _choice(claim.get("kind") if isinstance(claim, dict) else None, "claim.kind", KINDS)
    _keys(
        claim,
        "claim",
        {"contraction": "kind norm region", "converges": "kind iteration region"}.get(kind, "kind region"),
    )
    if claim["region"] != document["region"]:
        raise Rejected("claim.region: differs from region")
    if kind == "contraction" and claim["norm"] != document["norm"]:
        raise Rejected("claim.norm: differs from norm")
    if kind != "converges":
        return kind, 1.0
    iteration = claim["iteration"]
    _keys(iteration, "claim.iteration", "kind damping")
    _choice(iteration["kind"], "claim.iteration.kind", ("picard",))
    return kind, number(iteration["damping"], "claim.iteration.damping")


def _norm(entry: Any, witnesses: Witnesses) -> Norm:
    _keys(entry, "norm", "order weights")
    order = _choice(entry["order"], "norm.order", ("l1", "l2", "linf"))
    if entry["weights"] is None:
        return Norm(order, None)
    weights = witnesses.arrays(entry["weights"], "norm.weights")
    if not all((weight > 0).all() for weight in weights):
        raise Rejected("norm.weights: a weight is not positive")
    return Norm(order, weights)


_REGIONS = {"global": "kind", "ball": "kind center radius norm", "box": "kind lower upper"}


def _region(document: dict[str, Any], witnesses: Witnesses) -> Ball | Box | None:
    region = document["region"]
    kind = _choice(region.get("kind") if isinstance(region, dict) else None, "region.kind", tuple(_REGIONS))
    _keys(region, "region", _REGIONS[kind])
    if kind == "global":
        return None
    if kind == "box":
        return _box(region, witnesses)
    if region["norm"] != document["norm"] or region["norm"] is None:
        raise Rejected("region.norm: a ball is in the claim's norm")
    radius = number(region["radius"], "region.radius")
    if not radius > 0:
        raise Rejected("region.radius: is not positive")
    return Ball(witnesses.arrays(region["center"], "region.center"), radius)


def _box(region: dict[str, Any], witnesses: Witnesses) -> Box:
    lower, upper = (witnesses.arrays(region[name], f"region.{name}") for name in ("lower", "upper"))
    if [leaf.shape for leaf in lower] != [leaf.shape for leaf in upper]:
        raise Rejected("region: the ends of the box differ in shape")
    if not all(bool((a <= b).all()) for a, b in zip(lower, upper, strict=True)):
        raise Rejected("region: the lower end of the box is above the upper one")
    return Box(lower, upper)


def _evidence(entry: Any, witnesses: Witnesses) -> Evidence | None:
    if entry is None:
        return None
    kind = _choice(entry.get("kind") if isinstance(entry, dict) else None, "evidence.kind", tuple(EVIDENCE))
    numbers, counts, arrays = (parts.split() for parts in EVIDENCE[kind])
    _keys(entry, "evidence", " ".join(["kind", *numbers, *counts, *arrays]))
    return Evidence(
        kind,
        {name: number(entry[name], f"evidence.{name}") for name in numbers},
        {name: _integer(entry[name], f"evidence.{name}", 2**40) for name in counts},
        {name: witnesses.arrays(entry[name], f"evidence.{name}") for name in arrays},
    )


def _leaf(entry: Any) -> tuple[tuple[int, ...], str]:
    _keys(entry, "state", "shape dtype")
    return shape_of(entry["shape"], "state.shape"), _choice(entry["dtype"], "state.dtype", FLOATS)


def _input(entry: Any, witnesses: Witnesses) -> Input:
    status = _choice(entry.get("status") if isinstance(entry, dict) else None, "inputs.status", _STATUSES)
    _keys(entry, "inputs", "name shape dtype status sha256" + (" lower upper" if status == "box" else ""))
    sha256 = entry["sha256"]
    if (status == "fixed") != (sha256 is not None):
        raise Rejected("inputs.sha256: a fixed input has one, another has none")
    if sha256 is not None:
        _text(sha256, "inputs.sha256")
    shape = shape_of(entry["shape"], "inputs.shape")
    ends = _ends(entry, shape, witnesses) if status == "box" else None
    return Input(_text(entry["name"], "inputs.name"), shape, _text(entry["dtype"], "inputs.dtype"), sha256, ends)


_STATUSES = ("free", "box", "fixed")


def _ends(entry: Any, shape: tuple[int, ...], witnesses: Witnesses) -> tuple[Array, Array]:
    (lower,), (upper,) = (witnesses.arrays([entry[side]], f"inputs.{side}") for side in ("lower", "upper"))
    if lower.shape != shape or upper.shape != shape or not bool((lower <= upper).all()):
        raise Rejected("inputs: the ends of an input have not its shape, or cross")
    return lower, upper


def _hypothesis(entry: Any) -> Hypothesis:
    _keys(entry, "hypotheses", "name statement value limit holds")
    if entry["holds"] is not None and not isinstance(entry["holds"], bool):
        raise Rejected("hypotheses.holds: must be true, false or null")
    _text(entry["statement"], "hypotheses.statement")
    value, limit = (_optional(entry[name], f"hypotheses.{name}") for name in ("value", "limit"))
    return Hypothesis(_text(entry["name"], "hypotheses.name"), value, limit, entry["holds"])


def _model(entry: Any) -> str:
    _keys(entry, "model", "fingerprint")
    return _text(entry["fingerprint"], "model.fingerprint")


def _people(document: dict[str, Any]) -> None:
    """What only people read: checked for its type."""
    _text(document["deqops"], "deqops")
    _text(document["reason"], "reason")
    for entry in _list(document.get("attempts", []), "attempts"):
        _text(entry, "attempts")
    for entry in _list(document["contributions"], "contributions"):
        _keys(entry, "contributions", "part gain")
        _text(entry["part"], "contributions.part")
        number(entry["gain"], "contributions.gain")


def _keys(entry: Any, where: str, names: str) -> None:
    if not isinstance(entry, dict):
        raise Rejected(f"{where}: must be an object")
    if set(entry) != set(names.split()):
        odd = sorted(set(entry) ^ set(names.split()))
        raise Rejected(f"{where}: missing or unknown keys {', '.join(map(repr, odd))[:200]}")


def _list(entry: Any, where: str) -> list[Any]:
    if not isinstance(entry, list):
        raise Rejected(f"{where}: must be a list")
    return entry


def _text(entry: Any, where: str) -> str:
    if not isinstance(entry, str):
        raise Rejected(f"{where}: must be a string")
    return entry


def _choice(entry: Any, where: str, among: tuple[Any, ...]) -> Any:
    if not (entry is None or isinstance(entry, str)) or entry not in among:
        raise Rejected(f"{where}: must be one of {', '.join(map(str, among))}")
    return entry


def _integer(entry: Any, where: str, largest: int) -> int:
    if type(entry) is not int or not 0 <= entry <= largest:
        raise Rejected(f"{where}: must be an integer from 0 to {largest}")
    return entry


def shape_of(entry: Any, where: str) -> tuple[int, ...]:
    """A tensor's shape from a JSON list."""
    return tuple(_integer(size, where, 2**40) for size in _list(entry, where))


def number(entry: Any, where: str) -> float:
    """A finite binary64 number from its canonical hexadecimal form."""
    try:
        value = float.fromhex(entry)
    except (TypeError, ValueError, OverflowError):
        raise Rejected(f"{where}: must be a hexadecimal floating-point number") from None
    if not math.isfinite(value) or value.hex() != entry:
        raise Rejected(f"{where}: must be finite and in canonical hexadecimal form")
    return value


def _optional(entry: Any, where: str) -> float | None:
    return None if entry is None else number(entry, where)
