"""Spoilt certificates: the checker rejects each, or what it accepts is true; it never fails in another way."""

from __future__ import annotations

import copy
import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deqops._errors import ModelFileError
from deqops.testing import TAMPERINGS, Seeded, one_of, part, paths, signed, spoilt_bytes
from deqops.verify import Verdict, check

from ._claims import drawn
from ._drawing import Random
from ._judge import judge
from ._operators import Operator
from ._section import Section, Tally

_EACH = 25  # tampered certificates made of one
_FOR_PEOPLE = {"reason", "attempts", "contributions", "deqops", "statement"}


def case(seed: int, number: int) -> Tally:
    """One spoilt certificate."""
    operator, document = _base(seed, number // _EACH)
    rng = np.random.default_rng([seed, 4, number])
    tally = Tally()
    kind = rng.random()
    if kind < 0.1:
        _bytes(tally, rng, operator, document)
    elif kind < 0.2:
        _values(tally, rng, operator, document)
    else:
        _document(tally, rng, operator, document)
    return tally


@lru_cache(maxsize=4)
def _base(seed: int, number: int) -> tuple[Operator, dict[str, Any]]:
    """A certificate that the checker accepts, with its operator."""
    for attempt in range(1000):
        operator, certificate, _ = drawn(np.random.default_rng([seed, 5, number, attempt]))
        if certificate.verdict is Verdict.UNKNOWN:
            continue
        document = certificate.document()
        if check(document, operator.graph, operator.state, *operator.inputs).accepted:
            return operator, document
    raise RuntimeError("no certificate was found")


def _document(tally: Tally, rng: Random, operator: Operator, original: dict[str, Any]) -> None:
    document, kinds, choices = copy.deepcopy(original), list(TAMPERINGS), Seeded(rng)
    kind = one_of(choices, kinds)
    try:
        TAMPERINGS[kind](choices, document)
        if choices.chance(0.3):
            TAMPERINGS[one_of(choices, kinds)](choices, document)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        pass  # the first change removed what the second was about
    if not isinstance(document, dict) or document == original:
        tally.count("unchanged")
        return
    is_signed = rng.random() < 0.85
    document = signed(document) if is_signed else document
    accepted = _checked(tally, document, operator)
    if accepted and not is_signed:
        tally.violations.append(f"{kind}: accepted with another digest")
    if accepted:
        _judge(tally, kind, document, original, operator)


def _checked(tally: Tally, certificate: Any, operator: Operator, *inputs: torch.Tensor) -> bool:
    try:
        report = check(certificate, operator.graph, operator.state, *(inputs or operator.inputs))
    except ModelFileError:
        tally.count("refused as no certificate")
        return False
    tally.count("accepted" if report.accepted else "rejected")
    return report.accepted


def _judge(tally: Tally, kind: str, document: dict[str, Any], original: dict[str, Any], operator: Operator) -> None:
    wrong = judge(document, operator)
    changes = _changes(document, original)
    tally.violations += [f"{kind}: accepted although {reason}; changed {changes}" for reason in wrong]
    if not wrong:
        tally.count("accepted: text for people" if changes <= _FOR_PEOPLE else "accepted: a true claim")


def _changes(document: dict[str, Any], original: dict[str, Any]) -> set[str]:
    """The names of the fields that differ."""
    found = set()
    for path in {*paths(document), *paths(original)}:
        try:
            same = part(document, path) == part(original, path)
        except (KeyError, IndexError, TypeError):
            same = False
        deeper = any(isinstance(key, str) and key in _FOR_PEOPLE for key in path)
        name = next(k for k in path if k in _FOR_PEOPLE) if deeper else str(path[-1])
        if not same and (deeper or not isinstance(_get(document, path), dict | list)):
            found.add(str(name))
    return found - {"digest"}


def _get(document: Any, path: Any) -> Any:
    try:
        return part(document, path)
    except (KeyError, IndexError, TypeError):
        return None


def _bytes(tally: Tally, rng: Random, operator: Operator, document: dict[str, Any]) -> None:
    content = json.dumps(document, indent=2).encode()
    spoilt = spoilt_bytes(Seeded(rng), content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "certificate.json"
        path.write_bytes(spoilt)
        accepted = _checked(tally, path, operator)
    if accepted and json.loads(spoilt) != document:
        tally.violations.append("bytes: accepted although the content changed")
    elif accepted:
        tally.count("accepted: white space")


def _values(tally: Tally, rng: Random, operator: Operator, document: dict[str, Any]) -> None:
    """The certificate as it is, for other weights or inputs."""
    place = int(rng.integers(len(operator.inputs)))
    changed = operator.inputs[place].clone()
    flat = changed.view(-1)
    at = int(rng.integers(len(flat)))
    flat[at] = torch.nextafter(flat[at], flat[at] + 1) if changed.is_floating_point() else (flat[at] + 1) % 2
    if torch.equal(changed, operator.inputs[place]):
        tally.count("unchanged")
        return
    inputs = [changed if number == place else value for number, value in enumerate(operator.inputs)]
    accepted = _checked(tally, document, operator, *inputs)
    if accepted and document["inputs"][place]["status"] != "free":
        tally.violations.append(f"values: accepted although input {place} is another")
    elif accepted:
        tally.count("accepted: a free input")


TAMPERED = Section("tampered", "spoilt certificates before the checker", 10_000, 50, case)
