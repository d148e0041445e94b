"""Runs a proof through Coq's kernel and believes only what a second run says of the compiled file."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ._theory import Theory

PROOF, MARK = "Certified", "@@@"
PLACE = f"{PROOF}.proof"

REALS = {
    "ClassicalDedekindReals.sig_forall_dec": "Coq.Reals.ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec": "Coq.Reals.ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep": (
        "Coq.Logic.FunctionalExtensionality.functional_extensionality_dep"
    ),
    "Classical_Prop.classic": "Coq.Logic.Classical_Prop.classic",
}
"""The axioms of the classical reals, as Coq prints them and where each must come from."""

MACHINE = {"PrimInt63": "Coq.Numbers.Cyclic.Int63.PrimInt63", "Uint63": "Coq.Numbers.Cyclic.Int63.Uint63"}
"""Where the operations of machine integers, and what the kernel assumes of them, live."""


@dataclass(frozen=True)
class Verdict:
    """What Coq made of a file.

    Attributes:
        accepted: the kernel checked it, it proves what was expected, from allowed axioms only.
        reason: why not; "" where accepted.
        axioms: what the theorem rests on.
    """

    accepted: bool
    reason: str
    axioms: tuple[str, ...] = ()


def judge(
    source: str, statement: str, modules: tuple[str, ...], theory: Theory, *, seconds: float, megabytes: int
) -> Verdict:
    """Compile a proof in an empty folder, then ask Coq, in a file of ours, what it proves and from what.

    Args:
        source: the proof, with a theorem `proven`.
        statement: what it must prove; the names that are not the theory's are the proof's definitions.
        modules: of the theory, imported where the statement is read.
        theory: compiled.
        seconds: for both runs together.
        megabytes: of address space for each.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "proof.v").write_text(source)
        failed = _run(theory, folder, "proof.v", seconds, megabytes)
        if isinstance(failed, Verdict):
            return failed
        (folder / "question.v").write_text(_question(statement, modules, source))
        answer = _run(theory, folder, "question.v", seconds, megabytes)
        if isinstance(answer, Verdict):
            return Verdict(False, f"it does not prove what was expected: {answer.reason}")
        return _read(answer)


def _run(theory: Theory, folder: Path, name: str, seconds: float, megabytes: int) -> str | Verdict:
    """Standard output, or why there is none."""
    command = [theory.coqc, *theory.options, "-Q", ".", PROOF, name]
    limited = ["sh", "-c", f'ulimit -v {megabytes * 1024}; exec "$@"', "sh", *command]
    try:
        done = subprocess.run(limited, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Verdict(False, f"Coq took over {seconds:g} s")
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        return Verdict(False, said or f"coqc ended with status {done.returncode}; was {megabytes} MiB too little?")
    return done.stdout


def _question(statement: str, modules: tuple[str, ...], source: str) -> str:
    """A file that has Coq check the statement's type, and print the assumptions and where they come from.

    The proof is required but not imported, so no notation or name of its own reaches the statement.
    """
    defined = set(re.findall(r"^Definition (\w+)", source, re.M))
    qualified = re.sub(r"\b\w+\b", lambda m: f"{PLACE}.{m[0]}" if m[0] in defined else m[0], statement)
    lines = ["From Coq Require Import String Reals List ZArith.", f"From Deqops Require Import {' '.join(modules)}."]
    lines += [f"Require {PLACE}.", f"Definition expected : {qualified} := {PLACE}.proven."]
    for axiom in REALS:
        lines += [_say(f"place {axiom}"), f"Locate {axiom}."]
    for module in MACHINE:
        lines += [_say(f"place {module}"), f"Locate Module {module}."]
    return "\n".join([*lines, _say("axioms -"), "Print Assumptions expected.", _say("end -")]) + "\n"


def _say(what: str) -> str:
    return f'Goal True. idtac "{MARK} {what}". exact I. Qed.'


def _read(output: str) -> Verdict:
    pieces = re.split(rf"^{MARK} (\w+) (\S+)$", output, flags=re.M)
    said = {(kind, name): text for kind, name, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True)}
    genuine = {a for a, home in REALS.items() if _first_line(said["place", a]) == f"Constant {home}"}
    modules = {m for m, home in MACHINE.items() if _first_line(said["place", m]) == f"Module {home}"}
    names = assumptions(said["axioms", "-"])
    foreign = sorted(name for name in names if name not in genuine and name.split(".")[0] not in modules)
    if foreign:
        return Verdict(False, f"it rests on {', '.join(foreign)}")
    return Verdict(True, "", tuple(sorted(names)))


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


def assumptions(text: str) -> set[str]:
    """The axioms in the output of `Print Assumptions`; a line that is not understood counts as one."""
    text = text.strip()
    if text == "Closed under the global context":
        return set()
    if not text.startswith("Axioms:\n"):
        return {text[:80] or "(no answer)"}
    heads = [line for line in text.split("\n")[1:] if not line.startswith(" ")]
    return {line.split()[0] if re.fullmatch(r"[\w.']+( :.*)?", line) else line for line in heads}
