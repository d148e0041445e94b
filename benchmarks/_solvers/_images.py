"""A convolutional equilibrium network trained on scikit-learn's digits; each image is a problem."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deqops import EquilibriumLayer, Tolerance

from ._problem import Problem, reference

CHANNELS, SIDE = 16, 8
LIMIT = 0.95


class Images(nn.Module):
    """`z = tanh(K * z + inject(x))`, scores read off z."""

    def __init__(self) -> None:
        super().__init__()
        self.inject = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.kernel = nn.Parameter(torch.randn(CHANNELS, CHANNELS, 3, 3) / (3 * CHANNELS**0.5))
        self.readout = nn.Linear(CHANNELS * SIDE * SIDE, 10)
        self.layer = EquilibriumLayer(self.step, tolerance=Tolerance(relative=1e-3))

    def step(self, z: Tensor, injected: Tensor) -> Tensor:
        return torch.tanh(nn.functional.conv2d(z, self.kernel, padding=1) + injected)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layer(self.inject(x)).flatten(1))

    def project_(self) -> None:
        """Scales K so that an estimate of its norm is at most LIMIT."""
        with torch.no_grad():
            v = torch.ones(1, CHANNELS, SIDE, SIDE)
            for _ in range(20):
                u = nn.functional.conv2d(v / v.norm(), self.kernel, padding=1)
                v = nn.functional.conv_transpose2d(u, self.kernel, padding=1)
            self.kernel.mul_(min(1.0, LIMIT / float(u.norm())))


def trained(steps: int) -> tuple[Images, Tensor]:
    """The network after so many steps of Adam, and images it has not seen."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = torch.from_numpy(digits.images / 16).float()[:, None], torch.from_numpy(digits.target).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Images()
        model.project_()
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        for chosen in torch.randint(0, 1500, (steps, 64)):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimiser.step()
            model.project_()
    return model.eval(), x[1500:]


def images(quick: bool) -> Problem:
    model, unseen = trained(2 if quick else 60)
    kernel = model.kernel.detach()
    with torch.no_grad():
        injected = model.inject(unseen[: 2 if quick else 64])

    def operator(z: Tensor, injected: Tensor) -> Tensor:
        return torch.tanh(nn.functional.conv2d(z, kernel, padding=1) + injected)

    def in_jax(jax: object) -> object:
        weights, offset, pads = kernel.numpy(), injected.numpy(), ((1, 1), (1, 1))
        return lambda z: jax.numpy.tanh(jax.lax.conv_general_dilated(z, weights, (1, 1), pads) + offset)

    start, wide = torch.zeros_like(injected), kernel.double()
    truth = reference(
        lambda z: torch.tanh(nn.functional.conv2d(z, wide, padding=1) + injected.double()),
        start,
    )
    title = f"image DEQ on digits, {len(start)} images, {CHANNELS} x {SIDE} x {SIDE}"
    return Problem("e", title, operator, start, truth, in_jax, inputs=(injected,), batched=("problem",))
