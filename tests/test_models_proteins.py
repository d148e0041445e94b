"""Chains built and read, crops with noise, and the two measures of structures."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deqops import InputError
from deqops.cli import main
from deqops.models import (
    Chain,
    Corruption,
    _backbones,
    corrupted,
    lddt,
    rmsd,
    structure_chains,
    synthetic_chains,
    table_chains,
)
from deqops.models._backbones import RESIDUES, build


def motion(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A random rotation and shift."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    return turn * torch.linalg.det(turn), 10 * torch.randn(3, generator=generator, dtype=torch.float64)


def points(seed: int, residues: int = 12) -> torch.Tensor:
    return 6 * torch.randn(residues, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 2**20))
def test_rigid_motions_change_no_measure(seed: int) -> None:
    turn, shift = motion(seed)
    x, y = points(seed), points(seed + 1)
    moved = x @ turn + shift
    assert float(lddt(moved, x)) == 1
    assert float(rmsd(moved, x)) < 1e-13 * float(x.norm() + shift.norm())
    assert float(rmsd(moved, y)) == pytest.approx(float(rmsd(x, y)), rel=1e-9)
    assert float(lddt(moved, y)) == pytest.approx(float(lddt(x, y)), abs=1e-9)


def test_a_reflection_is_no_rotation() -> None:
    x = points(0)
    mirrored = x * torch.tensor([1.0, 1.0, -1.0])
    assert float(lddt(mirrored, x)) == 1
    assert float(rmsd(mirrored, x)) > 1


def test_measures_of_known_cases() -> None:
    line = torch.tensor([[0.0, 0, 0], [4, 0, 0], [30, 0, 0]])
    longer = torch.tensor([[0.0, 0, 0], [5.5, 0, 0], [30, 0, 0]])
    assert float(lddt(longer, line)) == 0.5  # the one short distance is off by 1.5: within 2 and 4
    pair = torch.tensor([[0.0, 0, 0], [4, 0, 0]])
    assert float(rmsd(1.5 * pair, pair)) == pytest.approx(1.0)  # each end is off by 1
    assert lddt(torch.stack([pair, pair]), torch.stack([pair, 20 * pair])).isnan().tolist() == [False, True]


@given(st.integers(0, 2**20))
def test_the_best_motion_is_no_worse_than_others(seed: int) -> None:
    turn, shift = motion(seed)
    x, y = points(seed), points(seed + 1)
    assert float(rmsd(x, y)) <= float((x @ turn + shift - y).square().sum(dim=-1).mean().sqrt()) + 1e-12


def test_measures_of_other_shapes_are_refused() -> None:
    for measure in (lddt, rmsd):
        with pytest.raises(InputError, match="shapes"):
            measure(torch.zeros(4, 3), torch.zeros(5, 3))


def torsion(a: Any, b: Any, c: Any, d: Any) -> float:
    """The angle of four points in space, in degrees; by another formula than `build`'s."""
    first, second = np.cross(b - a, c - b), np.cross(c - b, d - c)
    sine = np.dot(np.cross(first, second), c - b) / np.linalg.norm(c - b)
    return math.degrees(math.atan2(sine, np.dot(first, second)))


def test_built_chains_have_the_torsions_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    phi, psi = (6 * torch.rand(2, 9, generator=generator, dtype=torch.float64) - 3 for _ in range(2))
    for number, chain in enumerate(build(phi, psi)):
        n, ca, c = chain.numpy().transpose(1, 0, 2)
        for i in range(8):
            assert torsion(n[i], ca[i], c[i], n[i + 1]) == pytest.approx(math.degrees(psi[number, i]))
            assert abs(torsion(ca[i], c[i], n[i + 1], ca[i + 1])) == pytest.approx(180)
            assert torsion(c[i], n[i + 1], ca[i + 1], c[i + 1]) == pytest.approx(math.degrees(phi[number, i + 1]))
        assert np.linalg.norm(n[1:] - c[:-1], axis=1) == pytest.approx(1.329)
        assert np.linalg.norm(ca - n, axis=1) == pytest.approx(1.458)


def test_an_alpha_helix_rises_by_an_angstrom_and_a_half() -> None:
    angles = torch.full((1, 24), 1.0, dtype=torch.float64)
    ca = build(math.radians(-57) * angles, math.radians(-47) * angles)[0, :, 1]
    ends = ca[:6].mean(dim=0), ca[-6:].mean(dim=0)
    assert float((ends[1] - ends[0]).norm()) / 18 == pytest.approx(1.5, abs=0.1)
    assert float((ca[3] - ca[0]).norm()) == pytest.approx(5.2, abs=0.3)


def test_synthetic_chains_do_not_clash_and_are_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chains, again = synthetic_chains(3, 40, seed=1), synthetic_chains(3, 40, seed=1)
    for chain, same in zip(chains, again, strict=True):
        assert torch.equal(chain.backbone, same.backbone)
        assert torch.equal(chain.residue, same.residue)
        assert len(chain) == 40
        gaps = torch.cdist(chain.backbone[:, 1], chain.backbone[:, 1])
        assert float(gaps[gaps.triu(2) > 0].min()) > 3.5
    with pytest.raises(InputError, match="at least 1"):
        synthetic_chains(0)
    monkeypatch.setattr(_backbones, "_NEAREST", 6.0)  # nearer than a residue's neighbours but one
    monkeypatch.setattr(_backbones, "_ATTEMPTS", 1)
    with pytest.raises(InputError, match="choose shorter"):
        synthetic_chains(1, 400)


def test_crops_are_cut_from_chains_and_corrupted_as_asked() -> None:
    chains = synthetic_chains(4, 40)
    generator = torch.Generator().manual_seed(0)
    clean = corrupted(chains, 12, 5, Corruption(0.0, 0.0, 0.0), generator)
    assert torch.equal(clean.noisy, clean.true)
    gaps = torch.cdist(clean.true, clean.true, compute_mode="donot_use_mm_for_euclid_dist")
    index = torch.arange(12)
    assert torch.equal(clean.pairs[..., 0] == 1, (gaps < 8) & ((index[:, None] - index).abs() > 2))
    assert clean.sequence.sum(dim=-1).unique().tolist() == [1]
    noisy = corrupted(chains, 40, 200, Corruption(2.0, 1.0, 0.0), generator)
    assert float((noisy.noisy - noisy.true).std()) == pytest.approx(2.0, rel=0.05)
    assert float(noisy.pairs[..., 0].sum()) == 0
    with pytest.raises(InputError, match="choose fewer"):
        corrupted(chains, 41, 1, Corruption())


@pytest.mark.parametrize("change", [{"noise": -1.0}, {"noise": math.nan}, {"missing": 1.5}, {"false": -0.1}])
def test_corruption_out_of_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="choose"):
        Corruption(**change)


def arrays() -> dict[str, Any]:
    """A table of two chains."""
    backbone = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    return {
        "ids": np.array(["one", "two"]),
        "length": np.array([2, 3]),
        "backbone": backbone,
        "residue": np.array([0, 19, 20, 1, 2], dtype=np.int8),
    }


def test_a_table_is_read_chain_by_chain(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **arrays())
    first, second = table_chains(tmp_path / "t.npz")
    assert (first.name, len(first), second.name, len(second)) == ("one", 2, "two", 3)
    assert second.backbone[0].tolist() == [[24, 25, 26], [27, 28, 29], [30, 31, 32]]
    assert second.residue.tolist() == [20, 1, 2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length", np.array([2, 4])),
        ("length", np.array([2.0, 3.0])),
        ("residue", np.array([0, 1, 2, 3, 21])),
        ("backbone", np.full((5, 4, 3), np.nan)),
        ("backbone", np.zeros((5, 2, 3))),
        ("ids", np.array(["one"])),
        ("ids", np.array([{}, {}], dtype=object)),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    np.savez(tmp_path / "t.npz", **{**arrays(), name: value})
    with pytest.raises(InputError, match="make it anew"):
        table_chains(tmp_path / "t.npz")


def test_other_files_in_a_tables_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        table_chains(tmp_path / "no.npz")
    (tmp_path / "t.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="make it anew"):
        table_chains(tmp_path / "t.npz")


def pdb(chain: Chain, skipped: tuple[int, ...] = (), names: dict[int, str] | None = None) -> str:
    """PDB records of a chain's backbone, some residues left out."""
    lines = []
    for place, (kind, atoms) in enumerate(zip(chain.residue.tolist(), chain.backbone.tolist(), strict=True)):
        name = (names or {}).get(place, RESIDUES[kind])
        for atom, (x, y, z) in zip(("N", "CA", "C"), atoms, strict=True):
            if place not in skipped:
                lines.append(
                    f"ATOM  {len(lines) + 1:5d}  {atom:<3s} {name} A{place + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                    f"  1.00  0.00           {atom[0]}"
                )
    return "\n".join([*lines, "TER", "END", ""])


def test_structures_are_read_and_cut_at_gaps(tmp_path: Path) -> None:
    gemmi = pytest.importorskip("gemmi")
    chain = synthetic_chains(1, 20)[0]
    (tmp_path / "a.pdb").write_text(pdb(chain, skipped=(7,), names={3: "MSE"}))
    gemmi.read_structure(str(tmp_path / "a.pdb")).make_mmcif_document().write_file(str(tmp_path / "b.cif"))
    found = structure_chains(tmp_path)
    assert [len(piece) for piece in found] == [7, 12, 7, 12]
    assert [piece.name for piece in found] == ["a.pdb:A:0", "a.pdb:A:1", "b.cif:A:0", "b.cif:A:1"]
    for piece in found[::2]:
        assert float((piece.backbone - chain.backbone[:7]).abs().max()) <= 6e-4
        assert piece.residue[3] == RESIDUES.index("MET")
        assert torch.equal(piece.residue[4:], chain.residue[4:7])
    for piece in found[1::2]:
        assert torch.equal(piece.residue, chain.residue[8:])


def test_folders_without_structures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no PDB or mmCIF"):
        structure_chains(tmp_path)
    pytest.importorskip("gemmi")
    (tmp_path / "a.pdb").write_text("no structure\n")
    with pytest.raises(InputError, match="no protein chain"):
        structure_chains(tmp_path)
    (tmp_path / "b.cif").write_bytes(b"\xff not cif")
    with pytest.raises(InputError, match=r"b\.cif"):
        structure_chains(tmp_path)


def test_structures_without_gemmi_end_with_69(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pdb").write_text(pdb(synthetic_chains(1, 20)[0]))
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "gemmi":
            raise ImportError("No module named 'gemmi'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    command = ["train", "recycling", "--dataset", "structures", "--root", str(tmp_path), "--runs", str(tmp_path / "r")]
    assert main(command) == 69
    assert "deqops[proteins]" in capsys.readouterr().err
