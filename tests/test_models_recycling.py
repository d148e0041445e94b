"""The recycling trunk: equivariance, smoothness, its trainings, and what can be certified of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deqops import InputError
from deqops.models import (
    Corruption,
    Recycler,
    RecyclingSettings,
    by_recycle,
    corrupted,
    protein_data,
    synthetic_chains,
    train_recycler,
)
from deqops.models._corrupted import Crops
from deqops.models._recycling import State
from deqops.models._recycling_training import ProteinData, at_equilibrium, error
from deqops.verify import Around, Verdict, certify, check

SMALL = RecyclingSettings(epochs=2, steps=2, batch=2, single=2, pair=1, hidden=4)


@pytest.fixture(scope="module")
def data() -> ProteinData:
    return protein_data(synthetic_chains(8, 24), residues=12, tests=4)


def model(seed: int, scale: float = 1.0) -> Recycler:
    torch.manual_seed(seed)
    net = Recycler(2, 1, 4).double().eval()
    with torch.no_grad():
        [parameter.mul_(scale) for parameter in net.parameters()]
    return net


def question(seed: int, residues: int = 7) -> tuple[Crops, State]:
    """A crop, and a state that is no equilibrium."""
    generator = torch.Generator().manual_seed(seed)
    crops = corrupted(synthetic_chains(2, 16), residues, 2, Corruption(), generator)
    crops = Crops(*(part.double() for part in crops))
    shapes = (2, residues, 2), (2, residues, residues, 1), (2, residues, 3)
    single, pair, shift = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return crops, (single, pair, shift)


@given(st.integers(0, 2**20))
def test_a_rigid_motion_of_the_noisy_coordinates_turns_the_shift_and_nothing_else(seed: int) -> None:
    net, (crops, state) = model(seed, 2.0), question(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    with torch.no_grad():
        plain = net.trunk(state, *crops.inputs)
        moved = net.trunk((state[0], state[1], state[2] @ turn), crops.sequence, crops.pairs, crops.noisy @ turn + 5)
    assert torch.allclose(moved[0], plain[0], atol=1e-10)
    assert torch.allclose(moved[1], plain[1], atol=1e-10)
    assert torch.allclose(moved[2], plain[2] @ turn, atol=1e-9)


def test_the_trunk_is_smooth_where_residues_meet() -> None:
    """Softened distances and bumps: derivatives exist at equal coordinates, and agree with differences."""
    net, (crops, state) = model(0, 2.0), question(0)
    together = Crops(crops.sequence, crops.pairs, torch.zeros_like(crops.noisy), crops.true)
    shift = torch.zeros_like(state[2]).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: net.trunk((state[0], state[1], s), *together.inputs)[2], (shift,))


def test_problems_of_a_batch_are_independent() -> None:
    net, (crops, state) = model(0), question(0)
    with torch.no_grad():
        both = net.trunk(state, *crops.inputs)
        first = net.trunk(tuple(leaf[:1] for leaf in state), *(part[:1] for part in crops.inputs))
    for one, two in zip(first, both, strict=True):
        assert torch.allclose(one[0], two[0], atol=1e-12)


@pytest.mark.parametrize("training", ["equilibrium", "recycled", "once"])
def test_every_training_lowers_the_error(data: ProteinData, training: str) -> None:
    settings = replace(SMALL, training=training, epochs=4, steps=4, learning_rate=0.03, penalty=0.1)
    trained = train_recycler(data, settings)
    assert min(trained.loss[-2:]) < trained.loss[0]
    assert len(trained.loss) == 4


def test_training_resumes_to_the_same_weights(data: ProteinData, tmp_path: Path) -> None:
    straight = train_recycler(data, SMALL)
    path = tmp_path / "c"

    def stop(done: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recycler(data, replace(SMALL), checkpoint=path, progress=stop)
    again = train_recycler(data, SMALL, checkpoint=path)
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    with pytest.raises(InputError, match="belongs to other"):
        train_recycler(data, SMALL, seed=1, checkpoint=path)


def test_measures_begin_with_the_noisy_input(data: ProteinData) -> None:
    from deqops.models import lddt

    net = train_recycler(data, SMALL).model
    rows = by_recycle(net, data.tests, passes=3)
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["lddt"] == pytest.approx(float(lddt(data.tests.noisy, data.tests.true).mean()))
    with torch.no_grad():
        state = net.recycled(3, *data.tests.inputs)
        assert rows[3]["lddt"] == pytest.approx(
            float(lddt(data.tests.noisy + state[2], data.tests.true).mean()), abs=1e-6
        )
    smoothed = by_recycle(net, data.tests, passes=40, smoothing=0.5)
    found = at_equilibrium(net, data.tests)
    assert found["converged"] == 1
    assert smoothed[-1]["rmsd"] == pytest.approx(found["rmsd"], rel=1e-2)


def test_the_error_is_nought_for_the_truth_only() -> None:
    crops = question(0)[0]
    assert float(error(crops.true, crops.true)) == pytest.approx(0.2)  # what smoothing the root leaves
    assert float(error(crops.noisy, crops.true)) > 1


def test_t6_newton_kantorovich_certifies_an_equilibrium_and_the_checker_agrees() -> None:
    crops = question(1, residues=3)[0]
    net, inputs = model(1), tuple(part[:1].float() for part in crops.inputs)
    net = net.float()
    start = net.layer.initial_state(*inputs)
    certificate = certify(net.trunk, start, *inputs, theorem="newton_kantorovich", norm="linf", region=Around())
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.region.radius > 1e-5
    assert check(certificate, net.trunk, start, *inputs).accepted
    with torch.no_grad():
        found = net.layer.solve(*inputs).value
    assert float(certificate.error_bound(net.trunk, found, *inputs).linf.max()) < 1e-2


def test_chains_are_split_not_crops(data: ProteinData) -> None:
    assert len(data.chains) == 7
    names = {chain.name for chain in data.chains}
    assert len(names) == 7
    assert data.short.noisy.shape == (4, 8, 3)
    with pytest.raises(InputError, match="at least"):
        protein_data(synthetic_chains(4, 24), residues=12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": "twice"}, "choose from"),
        ({"epochs": 0}, "epochs"),
        ({"penalty": -1.0}, "penalty"),
        ({"smoothing": 0.0}, "smoothing"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]
