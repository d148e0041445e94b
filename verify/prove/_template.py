"""The Coq file of a proof, from a fixed template: nothing but numbers and hashes is put into it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ._dyadic import Array
from ._euclid import EuclideanProof, Spectrum
from ._float_layer import FloatBox
from ._locate import Box, Location
from ._network import Layer, Network, Shift
from ._sup_norm import SupNorm, SupNormProof

SPARSE = 0.25
"""The part of entries that are not 0 up to which a matrix is written with gaps."""
WORD = 60
"""Bits of a mantissa that one machine integer of Coq holds, sign aside."""

HEAD = """(** Written by `deqops prove`. The weights are exact: a row's entries are its mantissas over 2^exponent. *)
From Coq Require Import String Reals List ZArith Sint63.
From Deqops Require Import Lists Layers {modules}.
Import ListNotations.

"""


Contraction = SupNormProof | EuclideanProof


def modules(proof: Contraction, location: Location | None, floats: FloatBox | None = None) -> tuple[str, ...]:
    """The modules of the theory that a proof imports."""
    norm = "SupNorm" if isinstance(proof, SupNormProof) else "Euclid"
    located = () if location is None else ("Located",)
    return ("Lists", "Layers", norm, *located, *(() if floats is None else ("Floats",)))


def source(
    network: Network, proof: Contraction, location: Location | None, inputs: str, floats: FloatBox | None = None
) -> str:
    """The whole file.

    Args:
        network: its layers.
        proof: of contraction.
        location: boxes, or None where no fixed point is located.
        inputs: the hash of the inputs, "" for none.
        floats: the box that a float32 program does not leave, or None.
    """
    parts = [HEAD.format(modules=" ".join(modules(proof, location, floats)))]
    parts += [_layer(number, layer) for number, layer in enumerate(network.layers, 1)]
    parts.append(_definition("layers", "list stored", _names("layer", len(network.layers))))
    parts.append(_witnesses(proof))
    parts.append(_contraction(network, proof))
    if location is not None:
        parts.append(_located(network, location))
    if floats is not None:
        parts.append(_floats(network, floats))
    parts.append(_theorem(network, proof, location, inputs, floats))
    return "".join(parts)


def statement(
    network: Network, proof: Contraction, location: Location | None, inputs: str, floats: FloatBox | None = None
) -> str:
    """The theorem's statement as the file gives it."""
    space = f"{network.size} {_distance(proof)} {_rate(proof)}"
    if not network.exact:
        relative = network.layers[0].slack
        claim = (
            f"forall (A : list (list R)) (c : list R), near_matrix (rational {relative.numerator} "
            f"{relative.denominator}) A (matrix layer_1) -> length c = length (mantissas layer_1) -> "
            f"converges {space} (layer {_parenthesised(network.layers[0].activation.coq)} A c)"
        )
    elif location is None:
        claim = f"forall shifts : list (list R), fits layers shifts -> converges {space} (network layers shifts)"
    elif _exact(network):
        claim = f"converges_near {space} (network layers (map exactly given)) center radii"
    else:
        claim = (
            "forall shifts : list (list R), Forall2 admits given shifts -> "
            f"converges_near {space} (network layers shifts) center radii"
        )
    if floats is not None:
        claim = f"{claim} /\\ floats_stay {_stay(floats)}"
    return f'about "{network.fingerprint}" "{inputs}" ({claim})'


def _stay(floats: FloatBox) -> str:
    return f"{floats.location.exponent} wide layer_1 rounded large {floats.deep} {floats.many}"


def _floats(network: Network, floats: FloatBox) -> str:
    growth = f"{floats.growth.numerator} {floats.growth.denominator}"
    asked = (
        f"(located_ok {network.size} {floats.location.exponent} wide [layer_1] [rounded] [] && "
        f"floats_ok {_stay(floats)} {growth})%bool"
    )
    parts = [_box("wide", floats.location.box), _shift("rounded", floats.shift)]
    parts.append(_definition("large", "list Z", _integers(floats.large)))
    return "".join([*parts, _lemma("rounds_inside", f"{asked} = true")])


def _distance(proof: Contraction) -> str:
    return "(sup_distance (weights_of norm))" if isinstance(proof, SupNormProof) else "euclidean_distance"


def _rate(proof: Contraction) -> str:
    return f"(rational {proof.rate.numerator} {proof.rate.denominator})"


def _witnesses(proof: Contraction) -> str:
    if isinstance(proof, EuclideanProof):
        parts = [_spectrum(f"spectrum_{number}", one) for number, one in enumerate(proof.spectra, 1)]
        return "".join([*parts, _definition("spectra", "list spectrum", _names("spectrum", len(proof.spectra)))])
    parts = [_norm(f"hidden_{number}", norm) for number, norm in enumerate(proof.hidden, 1)]
    parts.append(_definition("hidden", "list sup_norm", _names("hidden", len(proof.hidden))))
    return "".join([*parts, _norm("norm", proof.norm)])


def _parenthesised(term: str) -> str:
    return f"({term})" if " " in term else term


def _near_numbers(network: Network, proof: SupNormProof) -> str:
    relative = network.layers[0].slack
    numbers = (proof.stored, relative, proof.rate)
    return " ".join(f"{number.numerator} {number.denominator}" for number in numbers)


def _exact(network: Network) -> bool:
    return all(layer.shift is not None and layer.shift.exact for layer in network.layers)


def _asked(network: Network, proof: Contraction) -> str:
    """The arguments of the checker."""
    rate = f"{proof.rate.numerator} {proof.rate.denominator}"
    if isinstance(proof, EuclideanProof):
        return f"{network.size} layers spectra {rate}"
    return f"{network.size} norm layers hidden {rate}"


def _contraction(network: Network, proof: Contraction) -> str:
    if isinstance(proof, SupNormProof) and not network.exact:
        return _lemma("contracts", f"near_ok {network.size} norm layer_1 {_near_numbers(network, proof)} = true")
    checker = "sup_norm_ok" if isinstance(proof, SupNormProof) else "euclidean_ok"
    return _lemma("contracts", f"{checker} {_asked(network, proof)} = true")


def _located(network: Network, location: Location) -> str:
    lines = [_shift(f"shift_{number}", layer.shift) for number, layer in enumerate(network.layers, 1)]
    lines.append(_definition("given", "list shift", _names("shift", len(network.layers))))
    lines.append(_box("around", location.box))
    lines += [_box(f"between_{number}", box) for number, box in enumerate(location.hidden, 1)]
    lines.append(_definition("between", "list box", _names("between", len(location.hidden))))
    lines.append(_definition("center", "list R", f"map (dyadic {location.exponent}) (fst around)"))
    lines.append(_definition("radii", "list R", f"map (dyadic {location.exponent}) (snd around)"))
    asked = f"located_ok {network.size} {location.exponent} around layers given between"
    asked = f"({asked} && forallb exact_ok given)%bool" if _exact(network) else asked
    lines.append(_lemma("holds", f"{asked} = true"))
    return "".join(lines)


def _theorem(
    network: Network, proof: Contraction, location: Location | None, inputs: str, floats: FloatBox | None
) -> str:
    stated = statement(network, proof, location, inputs, floats)
    term = _term(network, proof, location)
    if floats is not None:
        growth = f"{floats.growth.numerator} {floats.growth.denominator}"
        term = f"conj ({term}) (@floats_ok_sound {network.size} {_stay(floats)} {growth} rounds_inside)"
    return f"Theorem proven : {stated}.\nProof.\n  apply read_from. exact ({term}).\nQed.\n"


def _term(network: Network, proof: Contraction, location: Location | None) -> str:
    if isinstance(proof, SupNormProof) and not network.exact:
        return f"@sup_norm_near {network.size} norm layer_1 {_near_numbers(network, proof)} contracts"
    own = f"{_asked(network, proof)} contracts"
    if isinstance(proof, SupNormProof):
        converges, entries = f"@sup_norm_converges {own}", f"(@sup_norm_entries {own})"
    else:
        converges, entries = f"@euclidean_converges {own}", f"(euclidean_bounds_entries {network.size})"
    if location is None:
        return converges
    numbers = f"{location.exponent} around layers given between {entries} holds"
    space = f"{network.size} {_distance(proof)} {_rate(proof)}"
    if _exact(network):
        return f"@located_exactly {space} {numbers} ({converges})"
    return f"fun shifts near => @located_ok_sound {space} {numbers} shifts near ({converges} shifts)"


# ------------------------------------------------------------------------------------------------ terms


def _layer(number: int, layer: Layer) -> str:
    fields = (
        f"phi := {layer.activation.coq};\n   exponents := {_integers(layer.exponents)};\n"
        f"   mantissas := {_matrix(layer.mantissas)}"
    )
    return _definition(f"layer_{number}", "stored", f"\n  {{| {fields} |}}")


def _norm(name: str, norm: SupNorm) -> str:
    fields = (
        f"unit := {norm.unit};\n   entries := {_integers(norm.entries)};\n"
        f"   reciprocals := {_integers(norm.reciprocals)};\n   whole := {norm.whole}"
    )
    return _definition(name, "sup_norm", f"\n  {{| {fields} |}}")


def _spectrum(name: str, one: Spectrum) -> str:
    fields = (
        f"scale := {one.scale};\n   level := {one.level};\n   gap := {one.gap};\n   factor := "
        f"{_matrix(one.factor)};\n   numerator := {one.rate.numerator};\n   denominator := {one.rate.denominator}"
    )
    return _definition(name, "spectrum", f"\n  {{| {fields} |}}")


def _shift(name: str, shift: Shift | None) -> str:
    if shift is None:
        raise ValueError("a free shift is not located")
    fields = (
        f"places := {_integers(shift.places)};\n   values := {_integers(shift.values)};\n"
        f"   slack := {_integers(shift.slack)}"
    )
    return _definition(name, "shift", f"\n  {{| {fields} |}}")


def _box(name: str, box: Box) -> str:
    return _definition(name, "box", f"\n  ({_integers(box.centers)},\n   {_integers(box.radii)})")


def _matrix(rows: Array) -> str:
    """Rows of mantissas: all of them, or those that are not 0 with the gaps before them."""
    if np.count_nonzero(rows) > SPARSE * rows.size:
        return _table(rows.tolist())
    places = [np.flatnonzero(row) for row in rows]
    gaps = [np.diff(own, prepend=-1) - 1 for own in places]
    present = [row[own].tolist() for row, own in zip(rows, places, strict=True)]
    lines = ";\n".join("[" + ";".join(map(str, own)) + "]" for own in gaps)
    return f"sparse_rows ([\n{lines}])%Z\n   ({_table(present)})"


def _table(rows: list[list[int]]) -> str:
    """Rows of machine integers, in parts of 60 bits where they are wider."""
    wide = max((abs(int(m)).bit_length() for row in rows for m in row), default=0)
    if wide <= WORD:
        lines = ";\n".join("[" + ";".join(map(str, row)) + "]" for row in rows)
        return f"map (map Sint63.to_Z) ([\n{lines}])%sint63"
    high = [[m >> WORD for m in row] for row in rows]
    low = [[m & ((1 << WORD) - 1) for m in row] for row in rows]
    return f"joined_parts ({_table(high)})\n   ({_table(low)})"


def _integers(numbers: Iterable[int]) -> str:
    return "([" + ";".join(map(str, numbers)) + "])%Z"


def _names(stem: str, count: int) -> str:
    return "[" + "; ".join(f"{stem}_{number}" for number in range(1, count + 1)) + "]"


def _definition(name: str, kind: str, body: str) -> str:
    return f"Definition {name} : {kind} := {body}.\n"


def _lemma(name: str, stated: str) -> str:
    return f"Lemma {name} : {stated}.\nProof. vm_cast_no_check (eq_refl true). Qed.\n"
