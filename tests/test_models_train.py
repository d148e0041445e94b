"""Training: deterministic, resumable bit for bit, careful with checkpoint files."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deqops import InputError, ModelFileError
from deqops.models import PIGNSettings, TrainedPIGN, by_iteration, train_gcn, train_pign
from deqops.models._checkpoint import read_checkpoint, write_checkpoint

SETTINGS = PIGNSettings(epochs=8, channels=4)


def ring(nodes: int = 24) -> Any:
    """Two classes on a ring: the first half's features point one way, the second half's the other."""
    from torch_geometric.data import Data

    generator = torch.Generator().manual_seed(5)
    place = torch.arange(nodes)
    labels = (place >= nodes // 2).long()
    following = (place + 1) % nodes
    masks = [(place % 4 == 0), (place % 4 == 1), (place % 4 > 1)]
    return Data(
        x=torch.randn(nodes, 3, generator=generator) + 2 * labels[:, None],
        edge_index=torch.cat([torch.stack([place, following]), torch.stack([following, place])], dim=1),
        y=labels,
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
    )


def same_weights(first: TrainedPIGN, second: TrainedPIGN) -> bool:
    a, b = first.model.state_dict(), second.model.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_seed_decides_everything_and_the_global_generator_nothing() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train_pign(ring(), SETTINGS, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_weights(first, train_pign(ring(), SETTINGS, seed=3))
    assert not same_weights(first, train_pign(ring(), SETTINGS, seed=4))


def test_training_learns_an_easy_graph() -> None:
    trained = train_pign(ring(), PIGNSettings(epochs=60, channels=4, dropout=0.0))
    assert trained.loss[-1] < 0.3 * trained.loss[0]
    assert trained.accuracy["test"] >= 0.9


def test_the_weight_stays_within_its_limit() -> None:
    trained = train_pign(ring(), PIGNSettings(epochs=8, channels=4, limit=0.4, learning_rate=0.1))
    weight = trained.model.operator.T.convolution.lin.weight  # type: ignore[union-attr]
    assert float(torch.linalg.svdvals(weight.detach().double())[0]) <= 0.4 * (1 + 1e-6)


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    def stop(done: int, total: int, loss: float) -> None:
        if done == 7:
            raise KeyboardInterrupt

    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train_pign(ring(), SETTINGS, checkpoint=file, progress=stop)
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]
    epochs: list[int] = []
    resumed = train_pign(ring(), SETTINGS, checkpoint=file, progress=lambda done, total, loss: epochs.append(done))
    assert epochs == [6, 7, 8]
    assert same_weights(resumed, train_pign(ring(), SETTINGS))
    again = train_pign(ring(), SETTINGS, checkpoint=file)
    assert same_weights(resumed, again)
    assert again.loss == resumed.loss


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    train_pign(ring(), SETTINGS, checkpoint=file)
    with pytest.raises(InputError, match="other settings, seed or data"):
        train_pign(ring(), SETTINGS, seed=1, checkpoint=file)
    with pytest.raises(InputError, match="other settings, seed or data"):
        train_pign(ring(28), SETTINGS, checkpoint=file)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.target,)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    file, target = tmp_path / "checkpoint.pt", tmp_path / "touched"
    torch.save({"format": "deqops-checkpoint-3", "model": Payload(target)}, file)
    with pytest.raises(ModelFileError):
        train_pign(ring(), SETTINGS, checkpoint=file)
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()  # the payload is real


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x02}q\x00."])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match="remove it") as caught:
        train_pign(ring(), SETTINGS, checkpoint=file)
    assert "\n" not in str(caught.value)


def test_one_changed_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    trained = train_pign(ring(), SETTINGS, checkpoint=file)
    weight = next(iter(trained.model.state_dict().values())).numpy().tobytes()
    content = bytearray(file.read_bytes())
    content[content.index(weight) + 2] ^= 1
    file.write_bytes(bytes(content))
    torch.load(file, weights_only=True)  # torch alone does not notice
    with pytest.raises(ModelFileError, match="damaged"):
        train_pign(ring(), SETTINGS, checkpoint=file)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {}},
        {"model": None},
        {"optimiser": {}},
        {"loss": ["x"]},
        {"loss": None},
        {"best": {"model": {}, "value": [1.0, 0.0]}},
        {"best": {"value": [1.0]}},
        {"best": 3},
    ],
    ids=str,
)
def test_a_checkpoint_with_other_content_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "checkpoint.pt"
    train_pign(ring(), SETTINGS, checkpoint=file)
    write_checkpoint(file, read_checkpoint(file) | change)
    with pytest.raises(ModelFileError, match="does not fit this run"):
        train_pign(ring(), SETTINGS, checkpoint=file)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    with pytest.raises(InputError, match=r"the loss is nan after \d+ epochs; choose a smaller learning_rate"):
        train_gcn(ring(), replace(SETTINGS, learning_rate=1e30))


def test_data_without_a_part_or_with_nan_are_refused() -> None:
    data = ring()
    data.x[0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        train_pign(data, SETTINGS)
    del data.train_mask
    with pytest.raises(InputError, match="train_mask"):
        train_pign(data, SETTINGS)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"learning_rate": 0.0}, {"dropout": 1.0}, {"weight_decay": -1.0}])
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        PIGNSettings(**options)


def test_the_weights_that_do_best_on_the_validation_set_are_kept() -> None:
    settings = replace(SETTINGS, epochs=30, learning_rate=0.2, select_every=1)
    seen = []
    for epochs in range(1, 31):  # the first epochs of a longer run
        trained = train_pign(ring(), replace(settings, epochs=epochs, select_every=0))
        seen.append(trained.accuracy["validation"])
    assert train_pign(ring(), settings).accuracy["validation"] == max(seen)
    assert min(seen) < max(seen)


def test_an_interrupted_training_remembers_the_best_weights(tmp_path: Path) -> None:
    def stop(done: int, total: int, loss: float) -> None:
        if done == 17:
            raise KeyboardInterrupt

    settings, file = replace(SETTINGS, epochs=20, learning_rate=0.2, select_every=1), tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train_pign(ring(), settings, checkpoint=file, progress=stop)
    assert same_weights(train_pign(ring(), settings, checkpoint=file), train_pign(ring(), settings))


def test_the_baseline_trains_and_does_not_read_a_pigns_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    settings = PIGNSettings(epochs=60, channels=8, dropout=0.0)
    assert train_gcn(ring(), settings, checkpoint=file).accuracy["test"] >= 0.9
    with pytest.raises(InputError, match="other settings"):
        train_pign(ring(), settings, checkpoint=file)


def test_the_curve_ends_at_the_equilibrium() -> None:
    trained = train_pign(ring(), replace(SETTINGS, operator="propagation", limit=0.5))
    rows = by_iteration(trained.model, ring(), 40)
    assert [row["iteration"] for row in rows] == list(range(41))
    assert rows[-1]["residual"] < 1e-5 < rows[0]["residual"]
    assert {name: rows[-1][name] for name in trained.accuracy} == trained.accuracy


@pytest.mark.parametrize("operator", ["convolution", "propagation"])
def test_bag_of_words_features_are_trained_on_as_sparse_ones(operator: str) -> None:
    data = ring(600)
    x = torch.zeros(600, 300)
    x[torch.arange(600), torch.arange(600) % 300] = 1.0
    x[:, 0] += data.y
    data.x = x
    trained = train_pign(data, replace(SETTINGS, operator=operator, epochs=40, learning_rate=0.05))
    assert trained.accuracy["test"] > 0.9
