"""The tier `extracted`: the checkers of the theory, extracted to OCaml and compiled once into the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import deqops

from ._euclid import EuclideanProof, Spectrum
from ._network import Layer, Network
from ._sup_norm import SupNorm, SupNormProof
from ._theory import BUILD_SECONDS, MissingToolError, Progress, compiled

MODULES = ("SupNorm", "Euclid")


def extracted_fault(
    network: Network, proof: SupNormProof | EuclideanProof, *, seconds: float, megabytes: int, progress: Progress
) -> str:
    """What the extracted checker says is wrong with a proof of contraction; "" where it accepts it.

    Raises:
        MissingToolError: no Coq, no OCaml compiler, or no zarith.
    """
    program = checker(progress)
    progress("the extracted checker is at work")
    command = [
        "sh",
        "-c",
        f'ulimit -v {megabytes * 1024}; ulimit -s unlimited 2>/dev/null; exec "$1"',
        "sh",
        str(program),
    ]
    try:
        done = subprocess.run(
            command, input=question(network, proof), capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the extracted checker took over {seconds:g} s"
    if done.returncode:
        return f"the extracted checker broke off ({' '.join(done.stderr.split())[-200:] or done.returncode})"
    return "" if done.stdout.strip() == "true" else "the extracted checker does not accept the numbers"


def checker(progress: Progress) -> Path:
    """The compiled program."""
    theory = compiled(MODULES, progress)
    sources = Path(deqops.__file__).resolve().parent / "proofs" / "extraction"
    program = theory.folder / "checkers"
    if program.exists():
        return program
    finder = shutil.which("ocamlfind")
    if finder is None:
        raise MissingToolError(
            "no OCaml compiler (ocamlfind) on this machine; "
            "`apt-get install ocaml-findlib libzarith-ocaml-dev` brings one"
        )
    progress("extracting the checkers, once")
    with tempfile.TemporaryDirectory(dir=theory.folder) as place:
        for name in ("Checkers.v", "driver.ml"):
            shutil.copy(sources / name, place)
        _build([theory.coqc, *theory.options, "Checkers.v"], place)
        names = ["checkers.mli", "checkers.ml", "driver.ml"]
        _build([finder, "ocamlopt", "-O3", "-package", "zarith", "-linkpkg", *names, "-o", "checkers"], place)
        os.replace(Path(place) / "checkers", program)
    return program


def _build(command: list[str], place: str) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        raise MissingToolError(
            f"the checkers do not build ({' '.join((done.stderr or done.stdout).split())[-300:]}); "
            "they need `apt-get install ocaml-findlib libzarith-ocaml-dev`"
        )


# ------------------------------------------------------------------------------------------------ the question


def question(network: Network, proof: SupNormProof | EuclideanProof) -> str:
    """What the program reads."""
    if isinstance(proof, EuclideanProof):
        spectra = _list(_spectrum(one) for one in proof.spectra)
        parts = ["euclidean", str(network.size), _layers(network), spectra, _ratios(proof.rate)]
    elif network.exact:
        hidden = _list(_norm(norm) for norm in proof.hidden)
        parts = ["sup", str(network.size), _norm(proof.norm), _layers(network), hidden, _ratios(proof.rate)]
    else:
        layer = network.layers[0]
        parts = ["near", str(network.size), _norm(proof.norm), _layer(layer)]
        parts.append(_ratios(proof.stored, layer.slack, proof.rate))
    return "\n".join(parts) + "\n"


def _ratios(*numbers: Fraction) -> str:
    return " ".join(f"{number.numerator} {number.denominator}" for number in numbers)


def _layers(network: Network) -> str:
    return _list(_layer(layer) for layer in network.layers)


def _layer(layer: Layer) -> str:
    phi = layer.activation.coq.replace("(", "").replace(")", "")
    return "\n".join([phi, _integers(layer.exponents), _table(layer.mantissas.tolist())])


def _norm(norm: SupNorm) -> str:
    return "\n".join([str(norm.unit), _integers(norm.entries), _integers(norm.reciprocals), str(norm.whole)])


def _spectrum(one: Spectrum) -> str:
    head = f"{one.scale} {one.level} {one.gap}"
    return "\n".join([head, _table(one.factor.tolist()), f"{one.rate.numerator} {one.rate.denominator}"])


def _table(rows: list[list[int]]) -> str:
    return _list(_integers(row) for row in rows)


def _integers(numbers: Iterable[int]) -> str:
    return _list(str(int(number)) for number in numbers)


def _list(parts: Iterable[str]) -> str:
    whole = list(parts)
    return " ".join([str(len(whole)), *whole])
