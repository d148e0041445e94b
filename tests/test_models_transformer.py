"""The field transformer: patches, training through the equilibrium, agreement of its iterations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deqops import InputError
from deqops.models import FieldTransformer, FlowSettings, TransformerSettings, error_by_iteration, flows_of
from deqops.models import train_transformer as train
from deqops.models._transformer import cut, joined
from deqops.models._transformer_training import relative_errors, symmetric
from deqops.verify import Around, Verdict, certify, check

FLOWS = flows_of(FlowSettings(trajectories=10, pairs=2, side=8))
SMALL = TransformerSettings(epochs=2, width=8, heads=2)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_patches_are_cut_and_joined(count: int, patch: int, batch: int) -> None:
    side = count * patch
    field = torch.arange(batch * side * side, dtype=torch.float32).view(batch, side, side)
    assert torch.equal(joined(cut(field, patch), side, patch), field)
    assert torch.equal(cut(field, patch)[0, 0], field[0, :patch, :patch].flatten())


def test_flows_are_split_by_trajectory_and_scaled() -> None:
    (earlier, later), (test, _) = FLOWS
    assert earlier.shape == later.shape == (16, 8, 8)
    assert len(test) == 4
    assert torch.equal(earlier[1], later[0])
    whole = torch.cat([earlier, later])
    assert 0.5 < float(whole.square().mean()) < 2


def test_a_symmetric_flow_has_the_same_error() -> None:
    """Shifts and reflections keep the relative change; vorticity of a reflected flow changes sign."""
    earlier, later = FLOWS.test
    torch.manual_seed(0)
    for _ in range(6):
        moved = symmetric(earlier, later)
        torch.testing.assert_close(relative_errors(*moved), relative_errors(earlier, later))


def test_iterations_end_at_the_equilibrium() -> None:
    """The block starts as a contraction near its equilibrium: steps and Anderson's method agree."""
    torch.manual_seed(0)
    model = FieldTransformer(8, 4, 8, 2).eval()
    field = FLOWS.test[0]
    with torch.no_grad():
        steps = model.iterates(field)
        state = [next(steps) for _ in range(60)][-1]
        torch.testing.assert_close(model.state(field), state, rtol=2e-3, atol=2e-3)


def test_training_lowers_the_loss_and_untied_blocks_count() -> None:
    trained = train(FLOWS, replace(SMALL, epochs=15, penalty=0.1))
    assert trained.loss[-1] < trained.loss[0]
    rows = error_by_iteration(trained.model, FLOWS, 12)
    assert rows[-1]["residual"] < rows[0]["residual"]
    assert rows[-1]["error"] == pytest.approx(trained.error, rel=1e-2)
    untied = train(FLOWS, replace(SMALL, steps=3, tied=0)).model
    tied = train(FLOWS, replace(SMALL, steps=3)).model
    assert len(untied.blocks) == 3
    assert len(tied.blocks) == 1


def test_t2_a_small_trained_block_is_certified_around_its_equilibrium() -> None:
    model = train(FLOWS, replace(SMALL, width=4)).model
    field = FLOWS.test[0][:1]
    start = model.layer.initial_state(field)
    certificate = certify(model.operator, start, field, region=Around())
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, model.operator, start, field).accepted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "divisor"),
        ({"steps": -1}, "steps"),
        ({"tied": 0}, "steps"),
        ({"smoothing": 0.0}, "smoothing"),
        ({"penalty": -1.0}, "penalty"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_a_patch_that_does_not_divide_the_field_is_refused() -> None:
    with pytest.raises(InputError, match="patch"):
        train(FLOWS, replace(SMALL, patch=3))
    with pytest.raises(InputError, match="trajectories"):
        FlowSettings(trajectories=4)
