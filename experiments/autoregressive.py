"""Jacobi decoding of a character model: how many sweeps replace how many steps?"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments._study import Circumstances, Found, Study, of_variant, spread
from experiments._verdict import verdict_of

TEMPERATURES = (0.0, 0.5, 1.0)
SHOWN = (1, 2, 4, 8, 16, 32, 48)


class Autoregressive(Study):
    """One training a seed; decoded greedily and drawn at two temperatures."""

    name = "autoregressive"
    title = "Autoregressive: a character model decoded by sweeps"
    variants = ("transformer",)

    def measure(self, variant: str, seed: int, here: Circumstances) -> dict[str, Any]:
        """Bits per character; sweeps, agreement and time by temperature; the certificate."""
        from deqops.models import RECIPES, AutoregressiveSettings, train_autoregressive
        from deqops.models._autoregressive_training import TextSettings

        recipe = RECIPES[self.name]
        small = {"epochs": 1, "steps": 2, "width": 8, "characters": 6, "prompt": 4, "longest": 10}
        settings = replace(AutoregressiveSettings(), **small) if here.smoke else AutoregressiveSettings()
        text = recipe.load("python", TextSettings(), Path(), seed)
        checkpoint = here.work / f"{self.name}-{seed}.checkpoint"
        trained = train_autoregressive(text, settings, seed=seed, checkpoint=checkpoint, progress=None)
        operator, state, inputs, batch_dims = recipe.example(trained, text)
        found = {
            "bits": trained.bits["test"],
            "pairs": pair_bits(text),
            "characters": settings.characters,
            "decoding": {str(t): decoding(trained, text, t, seed) for t in TEMPERATURES},
            **verdict_of(operator, state, inputs, batch_dims, theorem="causal"),
        }
        checkpoint.unlink()
        return found

    def section(self, found: Found) -> str:
        """Sweeps and time by temperature."""
        cells = of_variant(found, "transformer")
        rows = []
        for t in map(str, TEMPERATURES):
            parts = [cell["decoding"][t] for cell in cells]
            shares = [statistics.fmean(part["sweeps"]) for part in parts]
            worst, different = max(max(part["sweeps"]) for part in parts), sum(part["different"] for part in parts)
            rows.append(
                f"| {t} | {spread(shares, 1)} | {worst} | {different} |"
                f" {spread([part['against_kept'] for part in parts], 2)} |"
                f" {spread([part['against_plain'] for part in parts], 2)} |"
            )
        certified = sum(cell["verdict"] == "certified" and cell["accepted"] is True for cell in cells)
        head = (
            "| temperature | sweeps, mean | most | characters that differ | time over sequential, keys kept"
            " | time over sequential, prefix read anew |\n|---|---|---|---|---|---|"
        )
        return f"""A transformer of two blocks on Python's help topics, {len(cells)} trainings:
{spread([cell["bits"] for cell in cells], 2)} bits per character of test text (counts of pairs:
{cells[0]["pairs"]:.2f}). {cells[0]["characters"]} characters are decoded after each of 16 test prompts as one equation
`y = G(y)` by Picard sweeps from the empty state; the last sweep only confirms. Theorem `causal` certifies each
trained decoder, and the checker agrees, in {certified} of {len(cells)} trainings: at most
{cells[0]["characters"]} sweeps, whatever the weights.

{head}
{chr(10).join(rows)}

**Sweeps do not pay here.** {early(cells, 2):.0%} of the characters are right after two sweeps,
{early(cells, 10):.0%} after ten (means over all decodings): runs of spaces and parts of common words need
little of what comes before. The rest waits for its turn, and a sweep reads all positions. The result is that of
sequential decoding where no character differs.
"""

    def plot(self, found: Found, path: Path) -> None:
        """Share of final characters against sweeps."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for t in map(str, TEMPERATURES):
            curves = [cell["decoding"][t]["final"] for cell in of_variant(found, "transformer")]
            length = max(map(len, curves))
            full = [[*curve, *[1.0] * (length - len(curve))] for curve in curves]
            mean = [100 * statistics.fmean(values) for values in zip(*full, strict=True)]
            axes.plot(range(length), mean, label=f"temperature {t}")
        axes.set_xlabel("sweeps")
        axes.set_ylabel("final characters in %")
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})


def early(cells: list[dict[str, Any]], sweeps: int) -> float:
    """Share of the characters that are those of the solution after so many sweeps, over all trainings and decodings."""
    curves = [part["final"] for cell in cells for part in cell["decoding"].values()]
    return statistics.fmean(curve[min(sweeps, len(curve) - 1)] for curve in curves)


def decoding(trained: Any, text: torch.Tensor, temperature: float, seed: int) -> dict[str, Any]:
    """Sweeps, agreement, and processor time against the two sequential ways."""
    from deqops.models import decode_sequentially, decoder, gumbel_noise, sweeps
    from deqops.models._autoregressive_training import prompts

    trained = replace(trained, settings=replace(trained.settings, temperature=temperature))
    settings = trained.settings
    found = sweeps(trained, text, seed=seed)
    given = prompts(text, 1, settings.prompt)
    noise = gumbel_noise((1, settings.characters, given.shape[-1]), temperature, seed)
    layer = decoder(trained.model)
    with torch.no_grad():
        own = seconds(lambda: layer.solve(given, noise))
        kept = seconds(lambda: decode_sequentially(trained.model, given, noise))
        plain = seconds(lambda: anew(trained.model, given, noise))
    return {
        "sweeps": found["sweeps"],
        "different": found["different"],
        "final": [row["final"] for row in found["by_iteration"]],
        "against_kept": own / kept,
        "against_plain": own / plain,
    }


def anew(model: Any, prompt: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Sequential decoding that reads the whole prefix for each character."""
    text = prompt
    for place in range(noise.shape[1]):
        choice = model(text)[:, -1] + noise[:, place]
        text = torch.cat([text, (choice >= choice.amax(dim=-1, keepdim=True)).float()[:, None]], dim=1)
    return text[:, prompt.shape[1] :]


def seconds(work: Any, repeats: int = 5) -> float:
    """Least processor time of several calls."""
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def pair_bits(text: torch.Tensor) -> float:
    """Bits per character of test text by counts of pairs in the training text, one added to each."""
    from deqops.models._autoregressive import SYMBOLS
    from deqops.models._autoregressive_training import splits

    train, _, test = splits(text)
    counts = torch.ones(SYMBOLS, SYMBOLS, dtype=torch.float64)
    counts.index_put_((train[:-1], train[1:]), torch.ones(len(train) - 1, dtype=torch.float64), accumulate=True)
    return float(-(counts / counts.sum(dim=1, keepdim=True)).log2()[test[:-1], test[1:]].mean())
