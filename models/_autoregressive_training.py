"""Training the character model, and `deqops train autoregressive`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deqops._errors import InputError
from deqops._fingerprint import tensor_digest

from ._autoregressive import SYMBOLS, CharacterModel, decode_sequentially, decoder, gumbel_noise
from ._fit import Progress, Task, fit, seeded
from ._recipe import Example, Recipe
from ._text import encoded, python_topics, text_below


@dataclass(frozen=True)
class AutoregressiveSettings:
    """How the character model is built, trained and asked to decode.

    Args:
        epochs: of `steps` optimiser steps each; the learning rate falls to 0 along a cosine.
        steps: of an epoch.
        batch: windows of a step.
        width: of the hidden states, a multiple of heads.
        heads: of attention.
        blocks: of the transformer.
        longest: characters of a training window.
        learning_rate: of Adam, at its largest.
        prompt: characters given.
        characters: decoded after them; prompt + characters is at most longest + 1.
        temperature: 0 decodes greedily; above, draws with fixed Gumbel noise.
    """

    epochs: int = 20
    steps: int = 50
    batch: int = 32
    width: int = 64
    heads: int = 4
    blocks: int = 2
    longest: int = 96
    learning_rate: float = 3e-3
    prompt: int = 32
    characters: int = 64
    temperature: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch", "width", "heads", "blocks", "prompt", "characters"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}; choose at least 1")
        if self.width % self.heads:
            raise InputError(f"heads: got {self.heads}; choose a divisor of width={self.width}")
        if self.prompt + self.characters > self.longest + 1:
            raise InputError(f"longest: got {self.longest}; choose at least {self.prompt + self.characters - 1}")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.temperature < math.inf:
            raise InputError("learning_rate must be positive and temperature not negative; change them")


@dataclass(frozen=True)
class TextSettings:
    """How the text is split.

    Args:
        part: of the text that is used, from its beginning; its last tenth is for tests, the one before for
            validation.
    """

    part: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.part <= 1:
            raise InputError(f"part: got {self.part}; choose above 0 and at most 1")


@dataclass(frozen=True, eq=False)
class TrainedDecoder:
    """A trained character model.

    Attributes:
        model: in eval mode.
        settings: it was trained with.
        loss: mean cross-entropy of each epoch, in nats per character.
        bits: per character of "validation" and "test" text.
    """

    model: CharacterModel
    settings: AutoregressiveSettings
    loss: tuple[float, ...]
    bits: dict[str, float]


class _Training(Task):
    """Teacher forcing: the text itself solves the equation for the scores that are to be learnt."""

    model: CharacterModel

    def __init__(self, text: Tensor, settings: AutoregressiveSettings, seed: int) -> None:
        self.settings, self.seed, self.epochs = settings, seed, settings.epochs
        self.text, self.kept, self.last = splits(text)
        if len(self.last) <= settings.longest:
            raise InputError(f"part: {len(text)} characters are too few for windows of {settings.longest}")
        with seeded(seed):
            self.model = CharacterModel(settings.width, settings.heads, settings.blocks, settings.longest)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)

    def losses(self) -> Iterator[Tensor]:
        """Cross-entropy of the next characters in windows drawn anew."""
        settings = self.settings
        for _ in range(settings.steps):
            starts = torch.randint(len(self.text) - settings.longest, (settings.batch,))
            yield entropy(self.model, windows(self.text, starts, settings.longest + 1))

    def rate(self, part: float) -> float:
        """Half a cosine, from 1 to 0."""
        return 0.5 * (1 + math.cos(math.pi * part))

    def identity(self) -> dict[str, Any]:
        """Settings, seed and text."""
        return {"settings": asdict(self.settings), "seed": self.seed, "data": [tensor_digest(self.text)]}


def splits(text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test text: eight, one and one tenth, in this order."""
    tenth = len(text) // 10
    return text[: 8 * tenth], text[8 * tenth : 9 * tenth], text[9 * tenth :]


def windows(text: Tensor, starts: Tensor, length: int) -> Tensor:
    """(starts, length) characters from each start on."""
    return text[starts[:, None] + torch.arange(length)]


def one_hot(numbers: Tensor) -> Tensor:
    """(..., symbols) float32."""
    return nn.functional.one_hot(numbers, SYMBOLS).float()


def entropy(model: CharacterModel, text: Tensor) -> Tensor:
    """Mean cross-entropy of each character given those before it in its row, in nats."""
    scores = model(one_hot(text[:, :-1]))
    return nn.functional.cross_entropy(scores.flatten(0, 1), text[:, 1:].flatten())


def bits_per_character(model: CharacterModel, text: Tensor) -> float:
    """Of consecutive windows of the text."""
    length = model.longest + 1
    rows = text[: len(text) // length * length].view(-1, length)
    with torch.no_grad():
        parts = [float(entropy(model.eval(), part)) * len(part) for part in torch.split(rows, 64)]
    return sum(parts) / len(rows) / math.log(2)


def train_autoregressive(
    text: Tensor,
    settings: AutoregressiveSettings | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainedDecoder:
    """Train a character model on a text (length,) of character numbers.

    Raises:
        InputError: the text is too short, or the checkpoint belongs to another run.
        ModelFileError: the checkpoint is damaged.
    """
    chosen = settings or AutoregressiveSettings()
    task = _Training(text, chosen, seed)
    loss = fit(task, checkpoint, progress)
    bits = {"validation": bits_per_character(task.model, task.kept), "test": bits_per_character(task.model, task.last)}
    return TrainedDecoder(task.model, chosen, loss, bits)


def prompts(text: Tensor, count: int, length: int) -> Tensor:
    """One-hot prompts (count, length, symbols) at equal distances in the test text."""
    last = splits(text)[2]
    starts = torch.linspace(0, len(last) - length - 1, count).long()
    return one_hot(windows(last, starts, length))


def sweeps(trained: TrainedDecoder, text: Tensor, count: int = 16, seed: int = 0) -> dict[str, Any]:
    """Decode test prompts by sweeps and one character after the other.

    Returns:
        dict[str, Any]: "sweeps" (one number a prompt, the last of which only confirms), "different" (characters that
        differ from sequential decoding), and "by_iteration": after n sweeps, the share of "final" characters.
    """
    settings = trained.settings
    given = prompts(text, count, settings.prompt)
    noise = gumbel_noise((count, settings.characters, SYMBOLS), settings.temperature, seed)
    layer = decoder(trained.model)
    with torch.no_grad():
        solution = layer.solve(given, noise)
        goal = decode_sequentially(trained.model, given, noise)
        state, rows = layer.initial_state(given, noise), []
        for iteration in range(int(solution.evaluations.max()) + 1):
            same = (state == goal).all(dim=-1).double()
            rows.append({"iteration": iteration, "final": float(same.mean())})
            state = layer.operator(state, given, noise)
    different = int((solution.value != goal).any(dim=-1).sum())
    return {"sweeps": solution.evaluations.tolist(), "different": different, "by_iteration": rows}


class AutoregressiveRecipe(Recipe):
    """A character model, measured by bits per character and by the sweeps that decoding takes."""

    name = "autoregressive"
    datasets: ClassVar[Mapping[str, tuple[Any, Any]]] = {
        "python": (AutoregressiveSettings(), TextSettings()),
        "text": (AutoregressiveSettings(), TextSettings()),
    }

    def load(self, dataset: str, settings: TextSettings, root: Path, seed: int) -> Tensor:
        """Character numbers of Python's help topics, or of the text files below `root`."""
        text = python_topics() if dataset == "python" else text_below(root)
        return encoded(text[: int(settings.part * len(text))])

    def train(
        self,
        data: Tensor,
        settings: AutoregressiveSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> TrainedDecoder:
        """As `train_autoregressive`."""
        return train_autoregressive(data, settings, seed=seed, checkpoint=checkpoint, progress=progress)

    def example(self, trained: TrainedDecoder, data: Tensor) -> Example:
        """Two prompts, from the empty state."""
        settings = trained.settings
        given, layer = prompts(data, 2, settings.prompt), decoder(trained.model)
        noise = gumbel_noise((2, settings.characters, SYMBOLS), settings.temperature, 0)
        return Example(layer.operator, layer.initial_state(given, noise), (given, noise), batch_dims=1)

    def metrics(self, trained: TrainedDecoder, data: Tensor) -> dict[str, Any]:
        """Bits per character, sweeps, agreement with sequential decoding."""
        return {"bits_per_character": trained.bits, **sweeps(trained, data)}

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """Bits and sweeps."""
        counts = metrics["sweeps"]
        return (
            f"{metrics['bits_per_character']['test']:.2f} bits per character,"
            f" {sum(counts) / len(counts):.1f} sweeps to decode"
        )
