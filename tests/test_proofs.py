"""The proofs compile, rest on nothing but the classical reals, say what is recorded; and the audit can fail."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PROOFS = ROOT / "proofs"
VICTIM, TITLE = "Powers", "picard powers"  # a file no other file needs, and its theorem's title
needs_coq = pytest.mark.skipif(
    shutil.which("coqc") is None, reason="no Coq compiler: apt-get install coq libcoq-interval"
)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("proofs_audit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


audit = load(PROOFS / "audit.py")


def table() -> list[list[str]]:
    """The rows of the README's table of theorems, cell by cell, without back-ticks."""
    text = (PROOFS / "README.md").read_text()
    lines = text[text.index("| theorem |") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [[cell.replace("`", "") for cell in row] for row in rows[2:]]


def copied(folder: Path, *left_out: str) -> Path:
    """The proofs as they are, to be spoilt."""
    skip = shutil.ignore_patterns("*.coq", "*.coq.*", "*.cache", "*.aux", "*.vok", "*.vos", "*.glob", *left_out)
    shutil.copytree(PROOFS, folder / "proofs", ignore=skip)
    return folder / "proofs"


# --- without Coq ------------------------------------------------------------------------------------------------


def test_no_file_admits_or_assumes_anything() -> None:
    files = sorted(PROOFS.rglob("*.v"))
    assert len(files) >= 10
    for file in files:
        found = re.search(r"\b(Admitted|admit|Axioms?|Parameters?|Conjecture|Abort)\b", file.read_text())
        assert found is None, (file, found)


def test_sources_definitions_and_exports_are_as_recorded() -> None:
    assert audit.source_faults(PROOFS) == []


def test_the_table_names_exactly_the_exported_theorems_and_files() -> None:
    exported = audit.exported(PROOFS)
    assert [(row[0], row[3], row[4]) for row in table()] == [
        (title, entry["file"], entry["coq"]) for title, entry in exported.items()
    ]
    for entry in exported.values():
        assert entry["coq"].split(".")[1] == Path(entry["file"]).stem
        assert (PROOFS / entry["file"]).is_file()
    assert {row[3] for row in table()} <= set((PROOFS / "_CoqProject").read_text().split())


def test_the_table_names_existing_checkers_and_property_tests() -> None:
    tests = "".join(path.read_text() for path in sorted((ROOT / "tests").glob("test_*.py")))
    for row in table():
        for file in filter(None, row[5].split(", ")):
            assert (ROOT / file).is_file(), row
        assert not row[6] or f"def {row[6]}(" in tests, row


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        (
            "Metric",
            "d (G y) (G z) <= q * d y z",
            "d (G y) (G z) <= q * d y z + 1",
            "Deqops.Metric.lipschitz: its definition",
        ),
        ("Metric", "exists l, S l /\\ tends u l", "exists l, tends u l", "Deqops.Metric.complete: its definition"),
        (
            "WeightedSpace",
            "norm x := w * Rabs x",
            "norm x := Rabs x",
            "Deqops.WeightedSpace.weighted_line: its definition",
        ),
        (
            "Picard",
            "Lemma separation",
            "Theorem separation",
            "Deqops.Picard.separation: a Theorem that is not exported",
        ),
        ("Picard", "Theorem picard ", "Lemma picard ", "Deqops.Picard.picard: exported, but no such Theorem"),
        ("Damped", "Section Damping.", "Section Damping. Axiom easy : False.", "Damped.v: uses Axiom"),
        ("Damped", "Section Damping.", "Section Damping. (* Axiom (* *) *)", None),
        ("Damped", "Section Damping.", "Section Damping. Unset Guard Checking.", "Damped.v: uses Unset"),
    ],
)
def test_a_spoilt_source_is_noticed(tmp_path: Path, file: str, old: str, new: str, complaint: str | None) -> None:
    folder = copied(tmp_path, "*.vo")
    path = folder / "theory" / f"{file}.v"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    faults = audit.source_faults(folder)
    assert len(faults) == (complaint is not None), faults
    assert all(fault.startswith(str(complaint)) for fault in faults)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Closed under the global context\n", set()),
        ("Axioms:\nA.b : forall x : nat,\n  x = x\nlong.name\n  : Prop\n", {"A.b", "long.name"}),
        ("Axioms:\nA.b : Prop\nloop is assumed to be guarded.\n", {"A.b", "loop is assumed to be guarded."}),
        ("Section Variables:\nx : False\n", {"Section Variables:\nx : False"}),
        ("", {"(no answer)"}),
    ],
)
def test_assumptions_are_read_and_what_is_not_understood_counts(text: str, expected: set[str]) -> None:
    assert audit.assumptions(text) == expected


def test_without_a_compiler_make_says_that_nothing_was_checked(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        ["make", "-C", str(PROOFS)], capture_output=True, text=True, check=False, env={"PATH": str(tools)}
    )
    assert done.returncode == 0, done.stderr
    assert "NOT checked" in done.stdout
    assert "apt-get install coq libcoq-interval" in done.stdout


# --- with Coq ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built() -> str:
    """What `make` prints for the proofs as they are; one test worker builds at a time."""
    folder = os.open(PROOFS, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        done = subprocess.run(["make", "-C", str(PROOFS)], capture_output=True, text=True, check=False)
    finally:
        os.close(folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-1000:]
    return done.stdout


@needs_coq
def test_the_proofs_compile_and_pass_the_audit(built: str) -> None:
    assert "FAILED" not in built
    for entry in audit.exported(PROOFS).values():
        assert re.search(rf"^proofs: {re.escape(entry['coq'])} +axioms: ", built, re.M), entry["coq"]


@needs_coq
def test_an_uncompiled_change_is_noticed(built: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    assert audit.stale(folder) == []
    (folder / "theory" / f"{VICTIM}.v").touch()
    assert audit.stale(folder) == [f"{VICTIM}.v: not compiled since it changed"]


def coq_faults_of(folder: Path, *files: str) -> list[str]:
    """Compile the files, then what Coq finds wrong with the victim's theorem."""
    for file in files:
        command = ["coqc", "-q", "-R", "theory", "Deqops", f"theory/{file}.v"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    theorems = {TITLE: audit.exported(folder)[TITLE]}
    faults: list[str] = audit.coq_faults(theorems, audit.ask(folder, [theorems[TITLE]["coq"]]))
    return faults


def using(text: str, assumed: str) -> str:
    """The victim's source with a proof that rests on what is assumed."""
    return text.replace("  intros start.\n", f"  intros start. pose proof {assumed} as unused.\n", 1)


def admitted(text: str) -> str:
    """The victim's source with its theorem admitted."""
    head, theorem = text.split("Theorem picard_powers", 1)
    statement = theorem.split("Proof.", 1)[0]
    return f"{head}Theorem picard_powers{statement}Admitted.\nEnd Power.\n"


def weakened(text: str) -> str:
    """The victim's source with a stronger hypothesis."""
    text = text.replace("0 <= q_m < 1.", "0 <= q_m < 1 / 2.").replace("picard q_range", "picard range")
    return text.replace("  intros start.\n", "  intros start. assert (range : 0 <= q_m < 1) by lra.\n", 1)


def outside(text: str, declaration: str) -> str:
    return text.replace("Section Power.", f"{declaration}\nSection Power.", 1)


SPOILT: dict[str, tuple[Callable[[str], str], str]] = {
    "axiom": (lambda text: using(outside(text, "Axiom easy : False."), "easy"), "rests on Powers.easy"),
    "variable": (lambda text: using(outside(text, "Variable easy : False."), "easy"), "rests on Powers.easy"),
    "admitted": (admitted, "rests on Powers.picard_powers"),
    "weakened": (weakened, "its statement is not the recorded one"),
}


@needs_coq
@pytest.mark.parametrize("name", [None, *SPOILT])
def test_coq_shows_a_spoilt_theorem(built: str, tmp_path: Path, name: str | None) -> None:
    folder = copied(tmp_path)
    path = folder / "theory" / f"{VICTIM}.v"
    if name is None:
        assert coq_faults_of(folder, VICTIM) == []
        return
    spoil, complaint = SPOILT[name]
    path.write_text(spoil(path.read_text()))
    assert coq_faults_of(folder, VICTIM) == [f"{TITLE}: {complaint}"]


@needs_coq
def test_an_axiom_under_an_allowed_name_is_not_allowed(built: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "theory" / "Classical_Prop.v").write_text("Axiom classic : False.\n")
    path = folder / "theory" / f"{VICTIM}.v"
    text = outside(path.read_text(), "From Deqops Require Classical_Prop.")
    path.write_text(using(text, "Deqops.Classical_Prop.classic"))
    faults = coq_faults_of(folder, "Classical_Prop", VICTIM)
    assert faults == [f"{TITLE}: rests on Classical_Prop.classic"]
