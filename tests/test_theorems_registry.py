"""Certifier, checker, command line and documents know the same theorems and the same kinds of evidence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deqops.cli._certify import THEOREMS as CHOICES
from deqops.verify._consistency import REFUTING
from deqops.verify._evidence import KINDS
from deqops.verify._theorems import AUTO, THEOREMS
from deqops.verify.checker._document import EVIDENCE
from deqops.verify.checker._document import THEOREMS as READ
from deqops.verify.checker._theorems import RULES

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "certificate.md").read_text()


def test_each_theorem_is_known_everywhere() -> None:
    names = set(THEOREMS)
    assert set(CHOICES) == {"auto", *names}
    assert set(READ) == {*names, "refute", None}
    assert {name for verdict, name in RULES if verdict == "certified"} == names
    assert set(AUTO) <= names
    for name in (*names, "refute"):
        assert re.search(rf"^\| `{name}` \|", DOCUMENT, re.MULTILINE), f"docs/certificate.md has no row for {name}"


def test_each_kind_of_evidence_is_known_everywhere() -> None:
    for kind, fields in KINDS.items():
        assert EVIDENCE[kind] == tuple(" ".join(part) for part in (fields.numbers, fields.counts, fields.tensors))
        assert f'"kind": "{kind}"' in DOCUMENT
    assert set(KINDS) == set(EVIDENCE)
    for name, theorem in THEOREMS.items():
        assert set(theorem.evidence) == {rule.kind for rule in RULES["certified", name]}
    assert set(REFUTING) == {rule.kind for rule in RULES["refuted", "refute"]}


@pytest.mark.parametrize("name", sorted(THEOREMS))
def test_a_theorem_states_itself(name: str) -> None:
    theorem = THEOREMS[name]
    assert theorem.name == name
    assert re.fullmatch(r"T\d+", theorem.number)
    assert theorem.hypotheses
    assert theorem.guarantee
    assert theorem.source
    if theorem.proof is not None:
        found = [path for path in (ROOT / "proofs").rglob("*.v") if f"Theorem {theorem.proof}" in path.read_text()]
        assert found, f"proofs/ holds no theorem {theorem.proof}"
