"""Certifier, checker, command line and documents know the same theorems and the same kinds of evidence."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import deqops.verify
from deqops.cli._certify import THEOREMS as CHOICES
from deqops.verify import CONCLUSIONS, REFUTATIONS
from deqops.verify._evidence import KINDS
from deqops.verify._theorems import AUTO, THEOREMS
from deqops.verify.checker._document import EVIDENCE
from deqops.verify.checker._document import THEOREMS as READ
from deqops.verify.checker._theorems import RULES

ROOT = Path(__file__).parent.parent
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
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
    assert set(REFUTATIONS) == {rule.kind for rule in RULES["refuted", "refute"]}


@pytest.mark.parametrize("name", sorted(THEOREMS))
def test_a_theorem_states_itself(name: str) -> None:
    theorem = THEOREMS[name]
    assert theorem.name == name
    assert re.fullmatch(r"T\d+", theorem.number)
    assert theorem.hypotheses
    assert theorem.guarantee
    assert theorem.source
    _is_proven(theorem.proof)


@pytest.mark.parametrize("name", sorted(CONCLUSIONS))
def test_a_conclusion_states_itself(name: str) -> None:
    conclusion = CONCLUSIONS[name]
    assert conclusion.function is getattr(deqops.verify, name)
    assert conclusion.hypotheses
    assert conclusion.guarantee
    assert conclusion.source
    source = inspect.getsource(inspect.getmodule(conclusion.function) or deqops.verify)
    for hypothesis, _ in conclusion.hypotheses:
        assert f'Hypothesis("{hypothesis}"' in source, f"{name} verifies no hypothesis {hypothesis!r}"
    row = rf"^\| `{name}` \| {conclusion.number}\b"
    assert re.search(row, GUARANTEES, re.MULTILINE), f"docs/guarantees.md has no row for {name}"
    _is_proven(conclusion.proof)


@pytest.mark.parametrize("kind", sorted(REFUTATIONS))
def test_a_refutation_states_itself(kind: str) -> None:
    refutation = REFUTATIONS[kind]
    assert refutation.kind == kind
    assert set(refutation.refutes) <= {"Contraction", "UniqueEquilibrium", "Converges"}
    assert refutation.hypotheses
    assert refutation.source
    named = set(re.findall(r"{(\w+)}", refutation.words))
    assert named <= {*KINDS[kind].numbers, *KINDS[kind].counts}
    _is_proven(refutation.proof)


def test_every_theorem_of_the_theory_is_an_object() -> None:
    numbers = {theorem.number for theorem in (*THEOREMS.values(), *CONCLUSIONS.values())} | {"T9"}
    assert numbers == {f"T{number}" for number in range(1, 15)}


def _is_proven(proof: str | None) -> None:
    if proof is not None:
        found = [path for path in (ROOT / "proofs").rglob("*.v") if f"Theorem {proof}" in path.read_text()]
        assert found, f"proofs/ holds no theorem {proof}"
