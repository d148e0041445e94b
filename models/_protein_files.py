"""Protein chains from files: a table of arrays, or PDB and mmCIF files of the user's, read by gemmi."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deqops._errors import InputError, MissingDataError

from ._backbones import KINDS, RESIDUES, Chain

_ENDINGS = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz", ".mmcif.gz")
_PARTS = ("ids", "length", "backbone", "residue")
_BACKBONE = ("N", "CA", "C")
_PEPTIDE = 2.0  # angstrom from C to the next N, beyond which a chain has a gap: 1.33 is usual
_ATOM_NEAR = 1e4  # angstrom: coordinates of the file format end there


def table_chains(path: Path) -> list[Chain]:
    """Chains of a NumPy archive, as of the TS50 set.

    Args:
        path: of an `.npz` with `ids` (chains,), `length` (chains,), and for the residues of all chains one after the
            other `backbone` (residues, atoms, 3) in angstrom, the atoms N, CA, C first, and `residue` (residues,),
            numbers from 0 to 20.

    Raises:
        InputError: it is not there or not such an archive.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            ids, length, backbone, residue = (archive[name] for name in _PARTS)
    except OSError as error:
        raise MissingDataError(
            f"root: cannot read {path} ({error.strerror or error}); give the folder that holds it"
        ) from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"root: {path} is no archive of {', '.join(_PARTS)} ({error}); make it anew") from None
    if not _fits(ids, length, backbone, residue):
        raise InputError(f"root: the arrays of {path} do not fit each other; make it anew")
    atoms = torch.split(torch.from_numpy(backbone[:, :3].astype(np.float64)), length.tolist())
    kinds = torch.split(torch.from_numpy(residue.astype(np.int64)), length.tolist())
    return [Chain(str(name), *parts) for name, *parts in zip(ids, kinds, atoms, strict=True)]


def _fits(ids: Any, length: Any, backbone: Any, residue: Any) -> bool:
    """Whether shapes and values are as they have to be."""
    whole = np.issubdtype(length.dtype, np.integer) and np.issubdtype(residue.dtype, np.integer)
    if not whole or not np.issubdtype(backbone.dtype, np.floating):
        return False
    if length.ndim != 1 or len(length) < 1 or ids.shape != length.shape or length.min() < 1:
        return False
    residues = int(length.sum())
    if backbone.ndim != 3 or backbone.shape[1] < 3 or backbone.shape[2] != 3:
        return False
    if residue.shape != (residues,) or len(backbone) != residues:
        return False
    return bool(np.abs(backbone).max() < _ATOM_NEAR and residue.min() >= 0 and residue.max() < KINDS)


def structure_chains(root: Path) -> list[Chain]:
    """Chains of the PDB and mmCIF files below a folder, in the order of their names, cut where they have a gap.

    Of each file the first model; of an atom in several places the first one. A residue that lacks N, CA or C is a gap.

    Raises:
        InputError: there is no such file, or one cannot be read.
        ImportError: gemmi is not installed.
    """
    files = sorted(file for file in root.rglob("*") if file.name.lower().endswith(_ENDINGS) and file.is_file())
    if not files:
        raise MissingDataError(
            f"root: no PDB or mmCIF file below {root}; give a folder with {', '.join(_ENDINGS[:3])} files"
        )
    gemmi = _gemmi()
    chains = [chain for file in files for chain in _chains_of(gemmi, file, str(file.relative_to(root)))]
    if not chains:
        raise InputError(f"root: no protein chain in the {len(files)} files below {root}; give files with proteins")
    return chains


def _gemmi() -> Any:
    try:
        import gemmi
    except ImportError as error:
        raise ImportError(
            "gemmi, which reads PDB and mmCIF files, is missing (pip install 'deqops[proteins]')"
        ) from error
    return gemmi


def _chains_of(gemmi: Any, path: Path, name: str) -> Iterator[Chain]:
    try:
        structure = gemmi.read_structure(str(path))
        structure.setup_entities()
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"root: cannot read {path} ({error}); mend or remove it") from None
    for chain in structure[0] if len(structure) else ():
        rows = [_row(gemmi, residue) for residue in chain.get_polymer()]
        for number, piece in enumerate(_pieces(rows)):
            kinds = torch.tensor([kind for kind, _ in piece])
            yield Chain(f"{name}:{chain.name}:{number}", kinds, torch.stack([atoms for _, atoms in piece]))


def _row(gemmi: Any, residue: Any) -> tuple[int, Tensor] | None:
    """Kind and atoms (3, 3) of a residue; None where an atom is missing."""
    atoms = [next((atom for atom in residue if atom.name == name), None) for name in _BACKBONE]
    if any(atom is None for atom in atoms):
        return None
    places = torch.tensor([atom.pos.tolist() for atom in atoms if atom is not None], dtype=torch.float64)
    return (_kind(gemmi, residue.name), places) if bool((places.abs() < _ATOM_NEAR).all()) else None


def _kind(gemmi: Any, name: str) -> int:
    """The residue's number; a modified one counts as what it was made from."""
    letter = gemmi.find_tabulated_residue(name).one_letter_code.upper()
    plain = gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) if letter.strip() else None
    return RESIDUES.index(plain) if plain in RESIDUES else KINDS - 1


def _pieces(rows: list[tuple[int, Tensor] | None]) -> Iterator[list[tuple[int, Tensor]]]:
    """The stretches without a gap."""
    piece: list[tuple[int, Tensor]] = []
    for row in rows:
        if piece and (row is None or float((row[1][0] - piece[-1][1][2]).norm()) > _PEPTIDE):
            yield piece
            piece = []
        if row is not None:
            piece.append(row)
    if piece:
        yield piece
