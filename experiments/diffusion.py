"""Diffusion: samples by sweeps of one causal equation, and denoisers as fixed-point maps of restoration."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments._study import Circumstances, Found, Study, of_variant, spread
from experiments._verdict import observed_iterations, verdict_of

STEPS = (2, 4, 8, 16, 32, 64)
SWEPT = (16, 32, 64, 128)
SAMPLERS = {"DDIM": 0.0, "DDPM": 1.0}
FORMS = ("cumulative", "shifted")
ITERATIONS = (0, 1, 10, 100, 1000)
RATE = 0.95
LEVELS = (0.5, 0.1)
"""Noise levels of the diffusion model where it restores; the first one is that of the other denoisers, too."""


class Diffusion(Study):
    """One diffusion model a seed, and four denoisers beside it."""

    name = "diffusion"
    title = "Diffusion: trajectories by sweeps, and restoration"
    variants = ("digits",)

    def measure(self, variant: str, seed: int, here: Circumstances) -> dict[str, Any]:
        """Quality, sweeps and time; verdicts; restoration."""
        from deqops.models import DiffusionSettings, digit_pixels, train_diffusion

        images, size = digit_pixels(), Size(here.smoke)
        settings = replace(DiffusionSettings(), **size.training)
        checkpoint = here.work / f"{self.name}-{seed}.checkpoint"
        model = train_diffusion(images, settings, seed=seed, checkpoint=checkpoint).model
        found = {
            "quality": qualities(model, images, seed, size),
            "sweeps": [sweeps(model, n, *which, seed, size) for n in size.swept for which in ways(n)],
            "curves": curves(model, seed, size),
            "verdict": trajectory_verdict(model, size),
            "restoration": restorations(model, images, seed, size),
        }
        checkpoint.unlink()
        return found

    def section(self, found: Found) -> str:
        """Three tables."""
        cells = of_variant(found, "digits")
        return "\n\n".join([introduction(cells), quality_text(cells), sweep_text(cells), restoration_text(cells)])

    def plot(self, found: Found, path: Path) -> None:
        """Distance against sweeps; PSNR against iterations."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        cells = of_variant(found, "digits")
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        for name in cells[0]["curves"]:
            values = zip(*(cell["curves"][name] for cell in cells), strict=True)
            left.semilogy([statistics.fmean(value) for value in values], label=name)
        left.set_xlabel("Picard sweeps")
        left.set_ylabel("distance from the sequential image")
        left.legend()
        for name, rows in by_denoiser(cells, "inpainting").items():
            points = [(max(row["iteration"], 0.5), row["psnr"]) for row in rows[0]["rows"]]
            right.semilogx(*zip(*points, strict=True), marker="o", label=name)
        right.set_xlabel("iterations (0 drawn at 0.5), inpainting, seed 0")
        right.set_ylabel("PSNR in dB")
        right.legend(fontsize="small")
        figure.savefig(path, format="svg", metadata={"Date": None})


class Size:
    """How much is measured."""

    def __init__(self, smoke: bool) -> None:
        self.training: dict[str, Any] = {"epochs": 1, "updates": 3, "width": 16} if smoke else {}
        self.denoising: dict[str, Any] = {"epochs": 1, "updates": 2, "hidden": 8} if smoke else {}
        self.steps = STEPS[:3] if smoke else STEPS
        self.swept = (4,) if smoke else SWEPT
        self.chosen = 4 if smoke else 64
        self.samples, self.batch = (20, 2) if smoke else (500, 16)
        self.iterations = ITERATIONS[:3] if smoke else ITERATIONS
        self.budget = 0.1 if smoke else None  # seconds of a clock: a busy machine would change verdicts


# -------------------------------------------------------------------------------------------------- samples


def qualities(model: Any, images: Any, seed: int, size: Size) -> list[dict[str, Any]]:
    """Of as many samples of each kind, against the test images."""
    from deqops import Anderson, Picard
    from deqops.models import sample_draws, sample_quality, sample_sequentially, sampler, train_features

    features = train_features(images, seed=seed)
    rows: list[dict[str, Any]] = []

    def add(name: str, steps: int, x: Tensor) -> None:
        quality = sample_quality(features, x, images.test)
        rows.append({"name": name, "steps": steps, **quality._asdict(), "nearest": nearest(x, images)})

    add("training images", 0, images.train[: size.samples])
    add("normal distribution", 0, normal_images(images.train, size.samples, seed))
    for name, noise in SAMPLERS.items():
        for steps in size.steps:
            draws = sample_draws(size.samples, steps, images.size, seed)
            add(name, steps, sample_sequentially(model, draws, noise)[:, -1])
        draws = sample_draws(size.samples, size.chosen, images.size, seed)
        for solver in (Picard(), Anderson(memory=5)):
            with torch.no_grad():
                solution = sampler(model, size.chosen, noise, solver=solver).solve(draws, throw=False)
            add(f"{name}, {type(solver).__name__}", size.chosen, solution.value[:, -1])
    return rows


def nearest(x: Tensor, images: Any) -> float:
    """Median distance to the nearest training image, over that of the test images: far below 1 says copied."""
    ours, theirs = (torch.cdist(part, images.train).min(dim=1).values.median() for part in (x, images.test))
    return float(ours / theirs)


def normal_images(train: Tensor, count: int, seed: int) -> Tensor:
    """Draws of the training pixels' normal distribution: the baseline without a network."""
    values, vectors = torch.linalg.eigh(torch.cov(train.double().T))
    drawn = torch.randn(count, train.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mixed = (drawn * values.clamp(min=0).sqrt()) @ vectors.T
    return (train.double().mean(0) + mixed).float()


# --------------------------------------------------------------------------------------------------- sweeps


def ways(steps: int) -> list[tuple[str, str, str]]:
    """Sampler, form and solver; the shifted form takes a sweep for every step, which is shown up to 64."""
    forms, solvers = FORMS[: 1 if steps > 64 else 2], ("Picard", "Anderson")
    return [(name, form, solver) for name in SAMPLERS for form in forms for solver in solvers]


def sweeps(model: Any, steps: int, name: str, form: str, solver: str, seed: int, size: Size) -> dict[str, Any]:
    """Until a relative residual of 1e-3: how many, how near, how long beside step by step."""
    from deqops import Anderson, Picard
    from deqops.models import sample_draws, sample_sequentially, sampler

    draws, noise = sample_draws(size.batch, steps, model.size, seed + 1000), SAMPLERS[name]
    layer = sampler(model, steps, noise, form=form, solver=Picard() if solver == "Picard" else Anderson(memory=5))
    with torch.no_grad():
        solution, goal = layer.solve(draws, throw=False), sample_sequentially(model, draws, noise)[:, -1]
        times = [
            least_seconds(lambda part=part: layer.solve(part, throw=False))  # type: ignore[misc]
            / least_seconds(lambda part=part: sample_sequentially(model, part, noise))  # type: ignore[misc]
            for part in (draws[:1], draws)
        ]
    distance = (solution.value[:, -1] - goal).norm(dim=1) / goal.norm(dim=1)
    return {
        "steps": steps,
        "sampler": name,
        "form": form,
        "solver": solver,
        "sweeps": solution.evaluations.tolist(),
        "unsolved": int((solution.result != 1).sum()),
        "distance": float(distance.max()),
        "time one": times[0],
        "time batch": times[1],
    }


def least_seconds(work: Callable[[], Any], repeats: int = 2) -> float:
    """Least processor time of several calls."""
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return max(min(found), 1e-9)


def curves(model: Any, seed: int, size: Size) -> dict[str, list[float]]:
    """Distance of the image after n sweeps from the sequential one, by sampler and form."""
    from deqops.models import by_sweep, sample_draws

    draws = sample_draws(size.batch, size.chosen, model.size, seed + 1000)
    return {
        f"{name}, {form}": [max(row["distance"], 1e-8) for row in by_sweep(model, draws, noise, form)]
        for name, noise in SAMPLERS.items()
        for form in FORMS
    }


def trajectory_verdict(model: Any, size: Size) -> dict[str, Any]:
    """T8, of the trajectory of one image; it holds for all draws."""
    from deqops.models import sample_draws, sampler

    layer, draws = sampler(model, size.chosen), sample_draws(1, size.chosen, model.size, 0)
    return verdict_of(layer.operator, layer.initial_state(draws), (draws,), 1, theorem="causal")


# ---------------------------------------------------------------------------------------------- restoration


def restorations(model: Any, images: Any, seed: int, size: Size) -> list[dict[str, Any]]:
    """Every denoiser on both problems."""
    from deqops.models import DenoiserSettings, blurring, linear_restoration, masking, psnr

    settings, rows = replace(DenoiserSettings(rate=RATE, sigma=LEVELS[0]), **size.denoising), []
    truth = images.test[:300]
    generator = torch.Generator().manual_seed(seed)
    shared = common_denoisers(model, images, settings, seed)
    for task, matrix in (("inpainting", masking(images.size)), ("deblurring", blurring(images.side))):
        b = truth @ matrix.T
        b = b + settings.measured * torch.randn(b.shape, generator=generator)
        linear = psnr(linear_restoration(images.train, matrix, b, settings.measured), truth)
        rows.append({"task": task, "denoiser": "linear baseline", "rows": [{"iteration": 0, "psnr": linear}]})
        for name, denoiser in {**shared, **trained_through(images, settings, matrix, seed)}.items():
            rows.append({"task": task, "denoiser": name, **restoration(denoiser, matrix, b, truth, size)})
    return rows


def common_denoisers(model: Any, images: Any, settings: Any, seed: int) -> dict[str, Any]:
    """Those that know nothing of the problem."""
    from deqops.models import AtLevel, train_denoiser

    free = replace(settings, rate=math.inf)
    return {
        **{f"diffusion model, σ = {level}": AtLevel(model, level).eval() for level in LEVELS},
        "free": train_denoiser(images, free, seed=seed).model,
        "contractive": train_denoiser(images, settings, seed=seed).model,
    }


def trained_through(images: Any, settings: Any, matrix: Tensor, seed: int) -> dict[str, Any]:
    """The contractive one, trained for this problem."""
    from deqops.models import train_denoiser

    return {"contractive, equilibrium": train_denoiser(images, settings, degradation=matrix, seed=seed).model}


def restoration(denoiser: Any, matrix: Tensor, b: Tensor, truth: Tensor, size: Size) -> dict[str, Any]:
    """PSNR against iterations; verdicts everywhere and, where none is certified, around the first equilibrium."""
    from deqops.models import Restoration, restored_psnr
    from deqops.verify import Around

    operator = Restoration(denoiser, matrix).eval()
    start, first = (b @ operator.data)[:1], b[:1]
    everywhere = verdict_of(operator, start, (first,), 1, norm="l2", theorem="picard", budget=size.budget)
    around = {}
    if everywhere["verdict"] != "certified":
        around = {"around": verdict_of(operator, start, (first,), 1, region=Around(), budget=size.budget)}
    return {
        "observed": observed_iterations(operator, start, (first,)),
        "rows": restored_psnr(operator, b, truth, size.iterations),
        "everywhere": everywhere,
        **around,
    }


# ----------------------------------------------------------------------------------------------------- text


def introduction(cells: list[dict[str, Any]]) -> str:
    """What was trained."""
    return f"""A residual network of two blocks that denoises scikit-learn's 8 x 8 digits (1200 for training, 597 for
tests), {len(cells)} trainings. All numbers come from `python -m experiments.results --only diffusion`;
`deqops train diffusion` trains one model."""


def quality_text(cells: list[dict[str, Any]]) -> str:
    """Samples against steps."""
    rows = []
    for parts in zip(*(cell["quality"] for cell in cells), strict=True):
        values = (spread([part[key] for part in parts], 2) for key in ("frechet", "precision", "recall", "nearest"))
        rows.append(f"| {parts[0]['name']} | {parts[0]['steps'] or ''} | {' | '.join(values)} |")
    return f"""### Samples against steps

Squared Fréchet distance, precision and recall (3 nearest neighbours) in the 32 features of a classifier trained with
the same seed, of 500 images against the test images. "Nearest" is the median distance to the nearest training image,
over that of the test images: 1 where samples are as far from the training images as test images are. Rows with a solver
are the same draws solved by sweeps to a relative residual of 1e-3.

| images | steps | Fréchet | precision | recall | nearest |
|---|---|---|---|---|---|
{chr(10).join(rows)}

**More steps help up to 32, and sweeps change nothing**: solved to 1e-3, 64 steps give the same quality as one after the
other. The Fréchet distance alone does not tell the network's samples from a normal distribution's, which has the right
means and covariances by construction; precision does. Samples are not copies: they are further from the training images
than test images are."""


def sweep_text(cells: list[dict[str, Any]]) -> str:
    """Sweeps against steps."""
    rows = []
    for parts in zip(*(cell["sweeps"] for cell in cells), strict=True):
        one, counts = parts[0], [statistics.fmean(part["sweeps"]) for part in parts]
        most, unsolved = max(max(part["sweeps"]) for part in parts), sum(part["unsolved"] for part in parts)
        rows.append(
            f"| {one['sampler']} | {one['form']} | {one['solver']} | {one['steps']} | {spread(counts, 1)} | {most} |"
            f" {unsolved} | {max(part['distance'] for part in parts):.1e} |"
            f" {' | '.join(spread([part[key] for part in parts], 2) for key in ('time one', 'time batch'))} |"
        )
    found = [cell["verdict"] for cell in cells]
    certified = sum(part["verdict"] == "certified" and part["accepted"] is True for part in found)
    return f"""### Sweeps against steps

The trajectory of N steps is one equation `y = G(y)`, and theorem `causal` certifies it: at most N sweeps, whatever the
weights, for all draws (N = 64: certified, and accepted by the checker, in {certified} of {len(cells)} trainings, in
{spread([part["seconds"] for part in found], 1)} s). "Cumulative" writes each time by all earlier ones, "shifted" by
the one before; they have the same solution. {len(cells[0]["sweeps"][0]["sweeps"])} draws a training are solved to a
relative residual of 1e-3; the last sweep only confirms. "Distance" is the largest relative distance of an image from
the sequential one. Times are those of the solve over sequential sampling, in processor time of one thread, for one
image and for the whole batch; sequential sampling is 1.

| sampler | form | solver | steps | sweeps, mean | most | unsolved | distance | time, one | time, batch |
|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

**The form decides.** Cumulative sweeps hardly grow with the steps; shifted ones are as many as the steps, and
Anderson's method makes them more, though both forms have the same certificate. Fixed noise (DDPM) takes half as many
sweeps again.
On one thread sweeps save time only for one image: without noise from 32 steps on, with noise hardly, at 128.
A batch of 16 keeps the thread busy anyway: a sweep then costs nearly half of what all steps cost one after the
other."""


def restoration_text(cells: list[dict[str, Any]]) -> str:
    """PSNR against iterations, and verdicts."""
    counts = sorted({row["iteration"] for row in cells[0]["restoration"][1]["rows"]})
    rows = []
    for task in ("inpainting", "deblurring"):
        for name, parts in by_denoiser(cells, task).items():
            values = [at_iteration(parts, count) for count in counts]
            verdicts = [verdicts_of(parts, key) for key in ("everywhere", "around")]
            rows.append(f"| {task} | {name} | {' | '.join([*values, steps_of(parts), *verdicts])} |")
    return f"""### Restoration

`z <- D(z - A^T (A z - b))` with half of the pixels missing, or blurred, and noise of standard deviation 0.1 in b;
PSNR in dB on 300 test images, after so many iterations. The denoisers: the diffusion model at a noise level; a
two-layer network, free or with `bounded(network, {RATE})`, trained to denoise at σ = {LEVELS[0]}; and the bounded one
trained through its equilibrium for the problem. The baseline is the best affine restoration of normal images with the
training images' mean and covariance. Verdicts: `picard` in l2 everywhere, with the rate; and, where that
is not certified, any theorem on a ball around the first image's equilibrium. "Steps" are iterations until the first
image's step has a thousandth of its first size, observed, and where `picard` is certified the number that is enough,
ln(1/1000) / ln(rate).

| problem | denoiser | {" | ".join(f"{count}" for count in counts)} | steps | everywhere | around one |
|{"---|" * (len(counts) + 5)}
{chr(10).join(rows)}

**Iterating helps, and the first ten iterations do most of it.** After that all denoisers stay where they are, to 1,000
iterations, but for the diffusion model at σ = 0.1, which loses half a dB of inpainting after 100: only the contractive
ones are certified to stay. The certificate costs 0.2 to 0.3 dB against the same network left free; training through the
equilibrium gives that back, more than that for inpainting. **No contractive denoiser beats the affine baseline here**;
the diffusion model at the lower noise level beats all. It is refuted as a contraction everywhere, and what is certified
of it is one image's small ball around its equilibrium."""


def by_denoiser(cells: list[dict[str, Any]], task: str) -> dict[str, list[dict[str, Any]]]:
    """A problem's measurements, by denoiser."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        for part in cell["restoration"]:
            if part["task"] == task:
                found.setdefault(part["denoiser"], []).append(part)
    return found


def at_iteration(parts: list[dict[str, Any]], count: int) -> str:
    """PSNR after so many iterations."""
    values = [row["psnr"] for part in parts for row in part["rows"] if row["iteration"] == count]
    return spread(values, 2) if len(values) == len(parts) else "diverged" if len(parts[0]["rows"]) > 1 else ""


def steps_of(parts: list[dict[str, Any]]) -> str:
    """Observed iterations, and certified ones where there are some; the largest of the trainings."""
    if "observed" not in parts[0]:
        return ""
    rates = [part["everywhere"]["rate"] for part in parts if part["everywhere"]["rate"]]
    enough = f", {max(math.ceil(math.log(1e-3) / math.log(rate)) for rate in rates)} certified" if rates else ""
    return f"{max(part['observed'] for part in parts)} observed{enough}"


def verdicts_of(parts: list[dict[str, Any]], key: str) -> str:
    """How often which verdict, and the mean rate where there is one."""
    found = [part[key] for part in parts if key in part]
    names = sorted({one["verdict"] for one in found})
    texts = []
    for name in names:
        these = [one for one in found if one["verdict"] == name]
        rates = [one["rate"] for one in these if one["rate"] is not None]
        theorems = " by " + " and ".join(sorted({one["theorem"] for one in these})) if name == "certified" else ""
        refused = " not accepted" if any(one["accepted"] is False for one in these) else ""
        texts.append(f"{len(these)} {name}{theorems}{refused}" + (f" ({statistics.fmean(rates):.3f})" if rates else ""))
    return ", ".join(texts)
