"""Certificates as JSON documents, schema 1 (`docs/certificate.md`)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from deqops._atomic import write_atomically
from deqops._errors import InputError, ModelFileError
from deqops._files import require_plain

from ._claim import Claim, Contraction, Converges, UniqueEquilibrium, Verdict
from ._consistency import require_consistent
from ._evidence import KINDS, Evidence
from ._norm import Norm
from ._region import Ball, Box, Global, Region
from ._theorems import Hypothesis
from ._witness import decoded, encoded

if TYPE_CHECKING:
    from ._certificate import Certificate, InputRecord

FORMAT, SCHEMA = "deqops-certificate", 1
LARGEST_FILE = 64 * 2**20


def write(certificate: Certificate, path: Path) -> None:
    """Write a certificate, atomically."""
    document = document_of(certificate, path.parent)
    write_atomically(path, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii"))


def read(path: Path) -> Certificate:
    """Read a certificate file."""
    return parse(json_of(path), path.parent)


def json_of(path: Path) -> dict[str, Any]:
    """The JSON object in a certificate file, whatever it says.

    Raises:
        ModelFileError: too large, or no JSON object.
        OSError: the file cannot be read.
    """
    require_plain(path)
    if path.stat().st_size > LARGEST_FILE:
        raise ModelFileError(f"certificate: {path} is over {LARGEST_FILE} bytes")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"certificate: {path} is not a JSON file ({error}); was it cut short?") from error
    if not isinstance(document, dict):
        raise ModelFileError("certificate: this is not a deqops certificate")
    return document


def digest(document: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON without the digest itself."""
    content = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


# --------------------------------------------------------------------------------------------------- writing


def document_of(certificate: Certificate, folder: Path | None) -> dict[str, Any]:
    """The JSON object; large witnesses go to files in `folder` where one is given."""
    from deqops import __version__

    writer = _Writer()
    region = writer.region(certificate.region)
    document: dict[str, Any] = {
        "format": FORMAT,
        "schema": SCHEMA,
        "deqops": __version__,
        "claim": writer.claim(certificate.claim),
        "verdict": certificate.verdict.value,
        "theorem": certificate.theorem,
        "rate": _hex(certificate.rate),
        "norm": None if certificate.norm is None else writer.norm(certificate.norm),
        "region": region,
        "state": [{"shape": list(shape), "dtype": dtype} for shape, dtype in certificate.state],
        "batch_dims": certificate.batch_dims,
        "model": {"fingerprint": certificate.fingerprint},
        "inputs": [writer.input(number, record) for number, record in enumerate(certificate.inputs)],
        "hypotheses": [
            {
                "name": h.name,
                "statement": h.statement,
                "value": _hex(h.value),
                "limit": _hex(h.limit),
                "holds": h.holds,
            }
            for h in certificate.hypotheses
        ],
        "contributions": [{"part": part, "gain": _hex(gain)} for part, gain in certificate.contributions],
        "attempts": list(certificate.attempts),
        "evidence": writer.evidence(certificate.evidence),
        "reason": certificate.reason,
    }
    document["witnesses"] = encoded(writer.witnesses, folder)
    document["digest"] = digest(document)
    return document


class _Writer:
    """Collects witnesses while claims, norms and regions are written."""

    def __init__(self) -> None:
        self.witnesses: dict[str, Tensor] = {}

    def name(self, stem: str, tensors: tuple[Tensor, ...]) -> list[str]:
        names = [f"{stem}_{number}" for number in range(len(tensors))]
        self.witnesses.update(zip(names, tensors, strict=True))
        return names

    def norm(self, norm: Norm) -> dict[str, Any]:
        weights = None if norm.weights is None else self.name("weights", norm.weights)
        return {"order": norm.order, "weights": weights}

    def region(self, region: Region) -> dict[str, Any]:
        if isinstance(region, Global):
            return {"kind": "global"}
        if isinstance(region, Box):
            lower, upper = region.ends
            return {"kind": "box", "lower": self.name("box_lower", lower), "upper": self.name("box_upper", upper)}
        if region.norm is None:
            raise InputError("region: a certified Ball carries its norm")
        return {
            "kind": "ball",
            "center": self.name("center", region.leaves),
            "radius": _hex(region.radius),
            "norm": self.norm(region.norm),
        }

    def input(self, number: int, record: InputRecord) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": record.name, "shape": list(record.shape), "dtype": record.dtype}
        entry |= {"status": record.status, "sha256": record.sha256}
        if record.ends is not None:
            for side, end in zip(("lower", "upper"), record.ends, strict=True):
                entry[side] = f"input_{side}_{number}"
                self.witnesses[entry[side]] = end
        return entry

    def claim(self, claim: Claim) -> dict[str, Any]:
        region = self.region(claim.region)
        if isinstance(claim, Contraction):
            return {"kind": "contraction", "norm": self.norm(claim.norm), "region": region}
        if isinstance(claim, UniqueEquilibrium):
            return {"kind": "unique_equilibrium", "region": region}
        return {
            "kind": "converges",
            "iteration": {"kind": "picard", "damping": _hex(claim.damping)},
            "region": region,
        }

    def evidence(self, evidence: Evidence | None) -> dict[str, Any] | None:
        if evidence is None:
            return None
        numbers = {name: _hex(value) for name, value in evidence.numbers.items()}
        tensors = {name: self.name(name, tensors) for name, tensors in evidence.tensors.items()}
        return {"kind": evidence.kind, **numbers, **evidence.counts, **tensors}


def _hex(value: float | None) -> str | None:
    return None if value is None else float(value).hex()


# --------------------------------------------------------------------------------------------------- reading


def parse(document: Any, folder: Path | None) -> Certificate:
    """The certificate of a JSON object."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelFileError("certificate: this is not a deqops certificate")
    if document.get("schema") != SCHEMA:
        raise ModelFileError(f"certificate: schema {document.get('schema')!r} is unknown; this deqops reads {SCHEMA}")
    try:
        if document.get("digest") != digest(document):
            raise ModelFileError("certificate: the digest does not match; the file was edited or damaged")
        certificate = _Reader(decoded(document["witnesses"], folder)).certificate(document)
        require_consistent(certificate)
        if document["claim"]["region"] != document["region"] or document["claim"].get("norm") not in (
            None,
            document["norm"],
        ):
            raise ModelFileError("certificate: its claim is about another region or norm than its proof")
        return certificate
    except RecursionError as error:
        raise ModelFileError("certificate: it is nested too deeply; the file was edited or damaged") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelFileError(f"certificate: a field is missing or of the wrong kind ({error!r})") from error


class _Reader:
    """Builds the parts of a certificate from their JSON."""

    def __init__(self, witnesses: dict[str, Tensor]) -> None:
        self._witnesses = witnesses

    def certificate(self, document: dict[str, Any]) -> Certificate:
        from ._certificate import Certificate

        return Certificate(
            claim=self.claim(document["claim"]),
            verdict=Verdict(document["verdict"]),
            region=self.region(document["region"]),
            norm=None if document["norm"] is None else self.norm(document["norm"]),
            state=tuple((tuple(leaf["shape"]), leaf["dtype"]) for leaf in document["state"]),
            batch_dims=document["batch_dims"],
            fingerprint=document["model"]["fingerprint"],
            inputs=tuple(self.input(entry) for entry in document["inputs"]),
            theorem=document["theorem"],
            rate=_float(document["rate"]),
            evidence=self.evidence(document["evidence"]),
            hypotheses=tuple(
                Hypothesis(h["name"], h["statement"], _float(h["value"]), _float(h["limit"]), bool(h["holds"]))
                for h in document["hypotheses"]
            ),
            contributions=tuple((c["part"], float.fromhex(c["gain"])) for c in document["contributions"]),
            reason=document["reason"],
            attempts=tuple(document.get("attempts", ())),  # absent from the first files of schema 1
        )

    def input(self, entry: dict[str, Any]) -> InputRecord:
        from ._certificate import InputRecord

        ends = None
        if entry["status"] == "box":
            ends = (self._witnesses[entry["lower"]], self._witnesses[entry["upper"]])
        return InputRecord(entry["name"], tuple(entry["shape"]), entry["dtype"], entry["sha256"], ends)

    def tensors(self, names: list[str]) -> tuple[Tensor, ...]:
        return tuple(self._witnesses[name] for name in names)

    def norm(self, entry: dict[str, Any]) -> Norm:
        weights = None if entry["weights"] is None else self.tensors(entry["weights"])
        return Norm(entry["order"], weights)

    def region(self, entry: dict[str, Any]) -> Region:
        if entry["kind"] == "global":
            return Global()
        if entry["kind"] == "box":
            return Box(self.tensors(entry["lower"]), self.tensors(entry["upper"]))
        if entry["kind"] != "ball":
            raise ValueError(f"region kind {entry['kind']!r}")
        return Ball(self.tensors(entry["center"]), float.fromhex(entry["radius"]), self.norm(entry["norm"]))

    def claim(self, entry: dict[str, Any]) -> Claim:
        region = self.region(entry["region"])
        if entry["kind"] == "contraction":
            return Contraction(self.norm(entry["norm"]), region)
        if entry["kind"] == "unique_equilibrium":
            return UniqueEquilibrium(region)
        if entry["kind"] == "converges":
            return Converges(region, float.fromhex(entry["iteration"]["damping"]))
        raise ValueError(f"claim kind {entry['kind']!r}")

    def evidence(self, entry: dict[str, Any] | None) -> Evidence | None:
        if entry is None:
            return None
        fields = KINDS[entry["kind"]]
        if set(entry) != {"kind", *fields.numbers, *fields.counts, *fields.tensors}:
            raise ValueError(f"evidence of kind {entry['kind']!r} has other parts")
        return Evidence(
            entry["kind"],
            {name: float.fromhex(entry[name]) for name in fields.numbers},
            {name: entry[name] for name in fields.counts},
            {name: self.tensors(entry[name]) for name in fields.tensors},
        )


def _float(text: str | None) -> float | None:
    return None if text is None else float.fromhex(text)
