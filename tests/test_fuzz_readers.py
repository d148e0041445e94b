"""Every reader, fed random bytes and mutated valid files: a refusal in one line or a value; no crash, no code run.

A mutated certificate that the checker still accepts must claim nothing that is false of the model.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzzing
import pytest
import torch
from cli_cases import Layer, arguments, write_inputs, write_model
from torch import Tensor, nn

from deqops import DeqopsError, load
from deqops._tensorfile import read_tensors
from deqops.cli._exit import CommandError
from deqops.cli._run_folder import claimed_folder
from deqops.graph import trace
from deqops.models._checkpoint import read_checkpoint, write_checkpoint
from deqops.report._facts import read_facts
from deqops.report._write import write_report
from deqops.verify import Ball, Certificate, Verdict, certify, check
from deqops.verify._document import digest

OPERATOR = trace(Layer(0.5), *arguments())
EXPANDING = trace(Layer(1.5), *arguments())
LARGE = 140_000  # numbers: more than the mebibyte that a certificate holds inside
SIBLING = "0" * 64 + ".safetensors"


@dataclass(frozen=True)
class Reader:
    """A file of a valid folder, how it is read, and how it is mutated besides byte by byte."""

    file: str
    read: Callable[[Path], Any]
    mutations: tuple[Callable[[bytes, random.Random], bytes], ...]


def json_mutation(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(fuzzing.mutated_json(json.loads(content), rng)).encode()


def signed_mutation(content: bytes, rng: random.Random) -> bytes:
    """A forger recomputes the digest."""
    document = fuzzing.mutated_json(json.loads(content), rng)
    if isinstance(document, dict):
        document["digest"] = digest(document)
    return json.dumps(document).encode()


def read_model_file(path: Path) -> None:
    state, x = arguments()
    load(path)(state, x)


def read_certificate(path: Path) -> None:
    certificate = Certificate.load(path)
    certificate.explain()
    state, _ = arguments()
    certificate.distance_bound(state, state + 1)


def check_certificate(path: Path) -> None:
    """What is accepted must be true."""
    state, x = arguments()
    if check(path, OPERATOR, state, x).accepted:
        assert_true(Certificate.load(path), x)


def check_refutation(path: Path) -> None:
    """The two points of an accepted refutation are moved apart, up to the rounding of this test."""
    state, x = arguments()
    if check(path, EXPANDING, state, x).accepted:
        certificate = Certificate.load(path)
        assert certificate.verdict is Verdict.REFUTED
        assert certificate.witness is not None
        first, second = (points[0].double() for points in (certificate.witness.first, certificate.witness.second))
        problem = certificate.witness.problem
        apart = certificate.distance_bound(first, second)[problem]
        image = [torch.tanh(1.5 * point + x.double()) for point in (first, second)]
        assert certificate.distance_bound(*image)[problem] >= apart * (1 - 1e-9)
        assert apart > 0


def assert_true(certificate: Certificate, x: Tensor) -> None:
    """No sampled pair contradicts the rate, and a ball is mapped into itself."""
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.fingerprint == OPERATOR.fingerprint
    assert certificate.rate is not None
    generator = torch.Generator().manual_seed(0)
    damping = getattr(certificate.claim, "damping", 1.0)

    def step(state: Tensor) -> Tensor:
        return (1 - damping) * state + damping * torch.tanh(0.5 * state + x.double())

    ball = certificate.region if isinstance(certificate.region, Ball) else None
    center = torch.zeros(2, 3, dtype=torch.float64) if ball is None else ball.leaves[0].double()
    radius = 4.0 if ball is None else ball.radius
    for scale in (1.0, 0.3, 0.03):
        offsets = [torch.randn(2, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
        lengths = [certificate.distance_bound(center + offset, center) for offset in offsets]
        pair = [center + scale * radius * o / n.clamp(min=1e-9)[:, None] for o, n in zip(offsets, lengths, strict=True)]
        before, after = certificate.distance_bound(*pair), certificate.distance_bound(step(pair[0]), step(pair[1]))
        assert bool((after <= certificate.rate * before * (1 + 1e-9) + 1e-12).all())
    if ball is not None:
        moved = certificate.distance_bound(step(center), center)
        assert certificate.bound is not None
        assert bool((moved <= (1 - certificate.bound) * radius * (1 + 1e-9)).all())


def read_witness(path: Path) -> None:
    Certificate.load(path.parent / "large.json")


def report(path: Path) -> None:
    write_report(path.parent, path.parent / "page.html")


def claim(path: Path) -> None:
    with claimed_folder(path.parent.parent, path.parent.name, {"model": "pign"}):
        pass


def facts(path: Path) -> None:
    read_facts(path.parent, None)


READERS = {
    "model": Reader("model.pt2", read_model_file, (fuzzing.mutated_zip,)),
    "tensors": Reader("inputs.safetensors", read_tensors, (fuzzing.mutated_tensors,)),
    "certificate": Reader("certificate.json", read_certificate, (json_mutation, signed_mutation)),
    "checker": Reader("certificate.json", check_certificate, (json_mutation, signed_mutation)),
    "local checker": Reader("local.json", check_certificate, (signed_mutation,)),
    "refutation checker": Reader("refuted.json", check_refutation, (signed_mutation,)),
    "witness": Reader(SIBLING, read_witness, (fuzzing.mutated_tensors,)),
    "checkpoint": Reader("checkpoint.pt", read_checkpoint, (fuzzing.mutated_zip,)),
    "label": Reader("run.json", claim, (json_mutation,)),
    "metrics": Reader("metrics.json", facts, (json_mutation,)),
}


def make_folder(folder: Path) -> Path:
    state, x = arguments()
    write_model(folder / "model.pt2", Layer(0.5))
    write_inputs(folder / "inputs.safetensors")
    write_inputs(folder / "state.safetensors")
    certify(Layer(0.5), state, x).save(folder / "certificate.json")
    certify(Layer(0.5), state, x, region=Ball(state, 3.0), theorem="local_picard").save(folder / "local.json")
    certify(Layer(1.5), state, x, norm="l2", theorem="picard").save(folder / "refuted.json")
    many = torch.zeros(1, LARGE)
    certify(Doubling(), many, norm="l2", theorem="picard").save(folder / "large.json")
    name_sibling(folder)
    (folder / "metrics.json").write_text(json.dumps({"accuracy": {"test": 0.5}, "by_iteration": []}))
    write_checkpoint(
        folder / "checkpoint.pt",
        {"identity": "a", "loss": [0.5], "model": Layer(0.5).state_dict(), "optimiser": {"state": {}}, "best": None},
    )
    with claimed_folder(folder.parent, folder.name + "-label", {"model": "pign"}) as claimed:
        shutil.copy(claimed.path / "run.json", folder / "run.json")
    return folder


def name_sibling(folder: Path) -> None:
    """Give the file of the first witness a name that the tests know."""
    document = json.loads((folder / "large.json").read_text())
    witness = document["witnesses"]["first_0"]
    (folder / witness["file"]).rename(folder / SIBLING)
    witness["file"] = SIBLING
    document["digest"] = digest(document)
    (folder / "large.json").write_text(json.dumps(document))


class Doubling(nn.Module):
    """`2 z`: its counterexample is as large as the state."""

    def forward(self, z: Tensor) -> Tensor:
        return 2 * z


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid file of every kind; each is read once, so that what is imported on first use is there."""
    folder = make_folder(tmp_path_factory.mktemp("valid"))
    for reader in READERS.values():
        reader.read(folder / reader.file)
    report(folder / "run.json")
    return folder


def campaign(reader: Reader, valid: Path, folder: Path, rounds: int, seed: int) -> tuple[int, int]:
    """How many files were read and how many refused."""
    shutil.copytree(valid, folder, dirs_exist_ok=True)
    content, path = (valid / reader.file).read_bytes(), folder / reader.file
    accepted = 0
    for number in range(rounds):
        rng = random.Random(f"{seed} {number}")
        kind = rng.random()
        if kind < 0.1:
            spoilt = fuzzing.random_bytes(rng)
        elif kind < 0.35:
            spoilt = fuzzing.mutated_bytes(content, rng)
        else:
            spoilt = rng.choice(reader.mutations)(content, rng)
        path.write_bytes(spoilt)
        try:
            accepted += fuzzing.read_all(lambda: reader.read(path), (DeqopsError, CommandError))
        except BaseException as error:
            kept = folder / f"fails-{number}"
            kept.write_bytes(spoilt)
            raise AssertionError(f"round {number}, file kept as {kept}: {error!r}") from error
    return accepted, rounds - accepted


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", sorted(READERS))
def test_spoilt_files_are_read_or_refused(valid: Path, tmp_path: Path, name: str) -> None:
    accepted, refused = campaign(READERS[name], valid, tmp_path, 120, 0)
    assert refused > 20
    assert accepted > 0 or name in {"label", "checker"}


def test_the_truth_that_accepted_certificates_are_held_to(valid: Path, tmp_path: Path) -> None:
    """A weaker claim is accepted and true; a stronger one is rejected, and would be caught if it were not."""
    _, x = arguments()
    for rate, true in ((0.75, True), (0.45, False)):
        document = json.loads((valid / "certificate.json").read_text())
        document["rate"] = document["evidence"]["bound"] = document["hypotheses"][0]["value"] = rate.hex()
        document["digest"] = digest(document)
        path = tmp_path / "c.json"
        path.write_text(json.dumps(document))
        assert check(path, OPERATOR, *arguments()).accepted is true
        if true:
            assert_true(Certificate.load(path), x)
        else:
            with pytest.raises(AssertionError):
                assert_true(Certificate.load(path), 0 * x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", sorted(READERS))
def test_spoilt_files_are_read_or_refused_at_length(valid: Path, tmp_path: Path, name: str) -> None:
    campaign(READERS[name], valid, tmp_path, 20_000, 1)
