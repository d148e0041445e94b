"""Autoregressive decoding as one causal equation, solved by Jacobi sweeps over all positions at once.

A character model gives scores of the next character from those before it. Decoding N characters after a prompt is the
equation `y = G(y)`: component i of G(y) is the character that the model chooses at position i from the prompt and
`y_1 .. y_{i-1}`. G is causal, so Picard's iteration reaches the one solution, which is what sequential decoding gives,
in at most N sweeps from any start (theorem `causal`, T8), and in fewer where characters can be guessed right before
all of those before them are final.

Zappala, Levine, He, Rizvi, Levy, van Dijk: Operator Learning Meets Numerical Analysis, arXiv:2310.01618, appendix B.5;
Song, Meng, Liao, Ermon: Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving, ICML 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deqops import EquilibriumLayer, Picard, Tolerance

from ._text import CHARACTERS

SYMBOLS = len(CHARACTERS)


class CharacterModel(nn.Module):
    """Scores of the next character: a small causal transformer on one-hot characters.

    Position t sees positions up to t; what it may not see is masked by minus infinity, which takes it out exactly.

    Args:
        width: of the hidden states.
        heads: of attention; divides width.
        blocks: of attention and a two-layer network, each behind a layer norm.
        longest: text that it can read.
    """

    def __init__(self, width: int = 64, heads: int = 4, blocks: int = 2, longest: int = 96) -> None:
        super().__init__()
        self.longest = longest
        self.embedding = nn.Linear(SYMBOLS, width, bias=False)
        self.position = nn.Parameter(0.02 * torch.randn(longest, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.scores = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, SYMBOLS))

    def forward(self, text: Tensor) -> Tensor:
        """Scores (batch, length, symbols) of the character after each one of `text` (batch, length, symbols)."""
        hidden = self.embedding(text) + self.position[: text.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        scores: Tensor = self.scores(hidden)
        return scores


class Block(nn.Module):
    """Causal self-attention and a two-layer network, both residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """The states (batch, length, width) after the block."""
        queries, keys, values = self.projected(x)
        return self.finished(x, self.attended(queries, keys, values, future(x.shape[1], x.device)))

    def projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, heads, length, width / heads)."""
        batch, length, width = x.shape
        parts = self.inward(self.before_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        return queries, keys, values

    def attended(self, queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None) -> Tensor:
        """Values averaged by softmax weights; `hidden` marks what a query may not see."""
        scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[-1])
        if hidden is not None:
            scores = scores.masked_fill(hidden, -math.inf)
        return torch.softmax(scores, dim=-1) @ values

    def finished(self, x: Tensor, attended: Tensor) -> Tensor:
        """What follows attention."""
        x = x + self.outward(attended.transpose(1, 2).reshape(x.shape))
        finished: Tensor = x + self.network(self.before_network(x))
        return finished


def future(length: int, device: torch.device) -> Tensor:
    """What position t (row) may not see: the later ones. (length, length)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class Decoding(nn.Module):
    """G of the equation: each position chooses a character from the prompt and the state before it.

    `G(y, prompt, noise)_i = onehot(argmax(scores(prompt, y_1 .. y_{i-1}) + noise_i))`; noise 0 is greedy decoding, and
    the temperature times Gumbel noise draws from the model. The noise is an input, drawn once: a map that draws anew
    would not be one map. Equal largest scores are all marked.

    Args:
        model: the character model.
    """

    def __init__(self, model: CharacterModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, state: Tensor, prompt: Tensor, noise: Tensor) -> Tensor:
        """(batch, N, symbols) one-hot, from a state (batch, N, symbols) and a prompt (batch, P, symbols)."""
        text = torch.cat([prompt, state[:, :-1]], dim=1)
        scores = self.model(text)[:, prompt.shape[1] - 1 :] + noise
        chosen: Tensor = (scores >= scores.amax(dim=-1, keepdim=True)).to(state.dtype)
        return chosen


def decoder(model: CharacterModel) -> EquilibriumLayer:
    """The layer that decodes by sweeps from an empty state; characters are one-hot, so it ends when none changes."""
    return EquilibriumLayer(
        Decoding(model).eval(),
        solver=Picard(),
        tolerance=Tolerance(relative=1e-3),
        initial=empty_state,
        max_evaluations=model.longest + 1,
    )


def empty_state(prompt: Tensor, noise: Tensor) -> Tensor:
    """No character anywhere: zeros like the noise."""
    return torch.zeros_like(noise)


def gumbel_noise(shape: tuple[int, ...], temperature: float, seed: int) -> Tensor:
    """The noise that turns the choice of the largest score into a draw at a temperature; 0 at temperature 0."""
    if temperature == 0:
        return torch.zeros(shape)
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (-temperature * (-uniform.clamp(min=1e-300).log()).log()).float()


def decode_sequentially(model: CharacterModel, prompt: Tensor, noise: Tensor) -> Tensor:
    """One character after the other, each with the keys and values of those before it at hand: what sweeps replace.

    Args:
        model: in eval mode.
        prompt: one-hot (batch, P, symbols).
        noise: as for `Decoding`, (batch, N, symbols).

    Returns:
        Tensor: one-hot (batch, N, symbols), the solution of the equation.
    """
    chosen, kept = [], Kept(model)
    with torch.no_grad():
        scores = kept.scores_after(prompt)
        for place in range(noise.shape[1]):
            choice = scores + noise[:, place]
            chosen.append((choice >= choice.amax(dim=-1, keepdim=True)).to(prompt.dtype))
            if place + 1 < noise.shape[1]:
                scores = kept.scores_after(chosen[-1][:, None])
    return torch.stack(chosen, dim=1)


class Kept:
    """Keys and values of the text read so far, block by block."""

    def __init__(self, model: CharacterModel) -> None:
        self.model, self.read = model, 0
        self.pairs: list[tuple[Tensor, Tensor] | None] = [None] * len(model.blocks)

    def scores_after(self, text: Tensor) -> Tensor:
        """Scores (batch, symbols) of the character after the text so far and `text` (batch, length, symbols)."""
        length = text.shape[1]
        hidden = self.model.embedding(text) + self.model.position[self.read : self.read + length]
        unseen = future(length, text.device) if length > 1 else None
        for number, block in enumerate(self.model.blocks):
            assert isinstance(block, Block)
            queries, keys, values = block.projected(hidden)
            before = self.pairs[number]
            if before is not None:
                keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
            self.pairs[number] = keys, values
            hidden = block.finished(hidden, block.attended(queries, keys, values, unseen))
        self.read += length
        scores: Tensor = self.model.scores(hidden[:, -1])
        return scores
