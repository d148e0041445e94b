"""Jacobi decoding (T8): the sweeps' solution is sequential decoding, in at most as many sweeps as characters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deqops import InputError, Picard, solve
from deqops.models import (
    AutoregressiveSettings,
    CharacterModel,
    decode_sequentially,
    decoder,
    gumbel_noise,
    train_autoregressive,
)
from deqops.models._autoregressive import SYMBOLS
from deqops.models._autoregressive_training import bits_per_character, one_hot, splits
from deqops.models._text import CHARACTERS, decoded, encoded, python_topics, text_below
from deqops.verify import Verdict, certify, check

SMALL = AutoregressiveSettings(epochs=2, steps=3, batch=4, width=8, heads=2, longest=12, prompt=4, characters=8)


def model(seed: int, scale: float = 3.0) -> CharacterModel:
    """Untrained, with weights large enough that characters matter."""
    torch.manual_seed(seed)
    net = CharacterModel(width=8, heads=2, blocks=2, longest=12).eval()
    with torch.no_grad():
        [parameter.mul_(scale) for parameter in net.parameters()]
    return net


def question(seed: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.randint(SYMBOLS, (3, 4), generator=torch.Generator().manual_seed(seed))
    return one_hot(numbers), gumbel_noise((3, 8, SYMBOLS), temperature, seed)


@given(st.integers(0, 2**20), st.sampled_from([0.0, 1.0]))
def test_t8_causal_sweeps_end_at_sequential_decoding_from_any_start(seed: int, temperature: float) -> None:
    """T8: at most N sweeps and one that confirms, from the empty state and from a random one."""
    net, (prompt, noise) = model(seed), question(seed, temperature)
    with torch.no_grad():
        goal = decode_sequentially(net, prompt, noise)
        solution = decoder(net).solve(prompt, noise)
        other = one_hot(torch.randint(SYMBOLS, (3, 8), generator=torch.Generator().manual_seed(seed + 1)))
        again = solve(decoder(net).operator, other, prompt, noise, solver=Picard(), max_evaluations=9)
    assert torch.equal(solution.value, goal)
    assert torch.equal(again.value, goal)
    assert int(solution.evaluations.max()) <= 9


@given(st.integers(0, 2**20))
def test_t8_causal_after_n_sweeps_n_characters_are_final(seed: int) -> None:
    net, (prompt, noise) = model(seed), question(seed, 1.0)
    layer = decoder(net)
    with torch.no_grad():
        goal, state = decode_sequentially(net, prompt, noise), layer.initial_state(prompt, noise)
        for sweep in range(1, 9):
            state = layer.operator(state, prompt, noise)
            assert torch.equal(state[:, :sweep], goal[:, :sweep])


def test_t8_causal_is_certified_and_checked() -> None:
    layer, inputs = decoder(model(0)), question(0, 1.0)
    start = layer.initial_state(*inputs)
    certificate = certify(layer.operator, start, *inputs, theorem="causal")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.evidence.counts["depth"] == 8
    assert check(certificate, layer.operator, start, *inputs).accepted


def test_noise_draws_from_the_models_distribution() -> None:
    """Gumbel noise: the largest score of log p + noise is a draw from p."""
    p = torch.tensor([0.5, 0.3, 0.2])
    drawn = (p.log() + gumbel_noise((20000, 3), 1.0, 0)).argmax(dim=1)
    shares = torch.bincount(drawn) / len(drawn)
    assert float((shares - p).abs().max()) < 0.02  # five standard deviations
    assert torch.equal(gumbel_noise((2, 3), 0.0, 0), torch.zeros(2, 3))


def test_training_learns_and_scores_bits() -> None:
    text = encoded("the cat sat on the mat. " * 100)
    settings = replace(SMALL, epochs=6, steps=20, batch=16, learning_rate=1e-2)
    trained = train_autoregressive(text, settings)
    assert trained.loss[-1] < 0.5 * trained.loss[0]
    assert trained.bits["test"] == bits_per_character(trained.model, splits(text)[2])
    assert trained.bits["test"] < 2.5


def test_a_uniform_model_takes_log2_of_the_symbols() -> None:
    net = model(0)
    with torch.no_grad():
        [parameter.zero_() for parameter in net.scores.parameters()]
    assert bits_per_character(net, encoded(CHARACTERS * 5)) == pytest.approx(torch.tensor(96.0).log2().item(), rel=1e-6)


def test_text_is_read_from_a_folder_and_from_python(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b" * 1500, encoding="utf-8")
    (tmp_path / "a.txt").write_text("é" * 600, encoding="utf-8")
    text = text_below(tmp_path)
    assert decoded(encoded(text)) == "?" * 600 + "\n" + "b" * 1500
    assert len(python_topics()) > 100_000


def test_text_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \*.txt"):
        text_below(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"short")
    with pytest.raises(InputError, match="at least"):
        text_below(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff" * 5000)
    with pytest.raises(InputError, match="UTF-8"):
        text_below(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "divisor"),
        ({"longest": 9}, "longest"),
        ({"epochs": 0}, "epochs"),
        ({"temperature": -1}, "not neg"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **change)


def test_a_short_text_is_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        train_autoregressive(encoded("abc" * 20), SMALL)
