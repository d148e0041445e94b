"""`deqops report`: what the page says for each verdict, what it refuses, and that nothing in it is alive."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cli_cases import Layer, Sorting, arguments, write_model
from torch import nn

from deqops import InputError, ModelFileError
from deqops._tensorfile import write_tensors
from deqops.cli import main
from deqops.report import _words, write_report
from deqops.report._facts import read_facts
from deqops.report._trajectory import trajectory
from deqops.verify import certify

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
POINTS = [
    {"iteration": n, "train": 1.0, "validation": 0.5 + n / 100, "test": 0.4 + n / 100, "residual": 0.5**n}
    for n in range(11)
]


def make_run(folder: Path, module: nn.Module, *, proof: bool = True, **options: Any) -> Path:
    """A run's folder with model, inputs, the state after 40 steps, and perhaps a certificate."""
    folder.mkdir()
    state, x = arguments()
    write_model(folder / "model.pt2", module)
    write_tensors(folder / "inputs.safetensors", state, (x,))
    (folder / "run.json").write_text(
        json.dumps({"model": "layer", "seed": 3, "data": {"missing": 0.9}, "settings": {"gain": 0.5}})
    )
    metrics = {"accuracy": {"train": 1.0, "validation": 0.5, "test": 0.625}, "by_iteration": POINTS}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if proof:
        with torch.no_grad():
            for _ in range(40):
                state = module(state, x)
        if bool(state.isfinite().all()):
            write_tensors(folder / "state.safetensors", state, (x,))
        certify(module, arguments()[0], x, **options).save(folder / "certificate.json")
    return folder


def page(folder: Path, *options: str) -> str:
    assert main(["report", str(folder), *options]) == 0
    return (folder / "report.html").read_text(encoding="utf-8")


def words(text: str) -> str:
    """The page's text: no styles, no tags."""
    body = re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL)
    return html.unescape(" ".join(body.split()))


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "good", Layer(0.5))


def test_a_certified_run_says_what_is_proven_and_what_is_not(certified: Path) -> None:
    text = words(page(certified))
    assert "Proven: Picard's iteration converges to the one equilibrium everywhere" in text
    assert re.search(r"by a factor of at most 0\.50000000\d", text)
    assert "contraction q < 1" in text
    assert "linear map" in text
    assert "independent checker re-derived every bound" in text
    assert "What is not proven" in text
    assert "The floating-point program." in text
    assert "62.5 %" in text
    assert "deqops check certificate.json --model model.pt2 --inputs inputs.safetensors" in text
    assert "model layer, seed 3, missing 0.9, gain 0.5" in text


def test_an_unchecked_certificate_is_said_to_be_unchecked(certified: Path) -> None:
    text = words(page(certified, "--no-check"))
    assert "was not re-checked" in text
    assert "re-derived" not in text


def test_a_rejected_certificate_is_said_to_be_rejected(certified: Path, tmp_path: Path, capsys: Any) -> None:
    document = json.loads((certified / "certificate.json").read_text())
    document["rate"] = document["evidence"]["bound"] = (0.25).hex()
    document["hypotheses"][0]["value"] = (0.25).hex()
    folder = copy_of(certified, tmp_path / "lie")
    from deqops.verify import Certificate
    from deqops.verify._document import digest  # the liar recomputes the digest

    document["digest"] = digest(document)
    (folder / "certificate.json").write_text(json.dumps(document))
    assert Certificate.load(folder / "certificate.json").rate == 0.25
    text = words(page(folder))
    assert "REJECTED" in text
    assert "does not accept it; take nothing for proven" in text
    assert "Proven" not in text.split("Check it yourself")[0]
    assert "by a factor of at most" not in text
    assert "No bound of its error is proven." in text
    assert "the independent checker rejects the certificate: " in capsys.readouterr().out


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_a_refuted_run_shows_its_witness(tmp_path: Path) -> None:
    text = words(page(make_run(tmp_path / "run", Layer(1.5), norm="l2", theorem="picard")))
    assert "Proven false: “G is a contraction" in text
    assert "Two states of problem" in text
    assert "only the claim above is false" in text
    assert "by a factor of at most" not in text


def test_an_unknown_run_says_why_and_what_was_tried(tmp_path: Path) -> None:
    text = words(page(make_run(tmp_path / "run", Sorting())))
    assert "Neither proven nor refuted" in text
    assert "Why:" in text
    assert "sort" in text
    assert "The bounds that were found are too large to tell" in text


def test_what_was_tried_is_told_from_the_file(tmp_path: Path) -> None:
    text = words(page(make_run(tmp_path / "run", Layer(1.5))))
    assert "What was tried" in text


def test_a_run_without_a_certificate_says_how_to_get_one(tmp_path: Path) -> None:
    text = words(page(make_run(tmp_path / "run", Layer(0.5), proof=False)))
    assert "Nothing is proven of this model yet" in text
    assert "deqops certify model.pt2 --inputs inputs.safetensors -o certificate.json" in text
    assert "No bound of its error is proven." in text


def test_a_local_certificate_names_its_ball(tmp_path: Path) -> None:
    from deqops.verify import Ball

    state, _ = arguments()
    region = Ball(state, 2.0)
    text = words(page(make_run(tmp_path / "run", Layer(0.5), region=region, theorem="local_picard", norm="l2")))
    assert "in a ball of radius 2" in text
    assert "Anything outside of the region" in text


def test_the_bound_lies_above_the_measured_distance(certified: Path) -> None:
    """Theorem `picard`: `||y_n - y*|| <= q^n ||y_0 - y*||`, up to the computed equilibrium's own error."""
    found = trajectory(read_facts(certified, None))
    assert found.error is not None
    assert len(found.bound) == len(found.distance) == 61
    for measured, bound in zip(found.distance, found.bound, strict=True):
        assert measured <= bound + 2 * found.error + 1e-6
    assert found.bound[10] < 0.01 * found.bound[0]  # and it falls


@pytest.mark.parametrize("theorem", ["damped", "auto"])
def test_damped_iterations_are_iterated_damped(tmp_path: Path, theorem: str) -> None:
    folder = make_run(tmp_path / "run", Layer(0.5), theorem=theorem, damping=0.5)
    found = trajectory(read_facts(folder, None))
    assert found.damping == 0.5
    assert found.bound[1] / found.bound[0] == pytest.approx(0.75)
    assert "y ← 0.5 y + 0.5 G(y)" in words(page(folder))


def test_strings_from_files_never_become_markup(certified: Path, tmp_path: Path) -> None:
    folder = copy_of(certified, tmp_path / "<b>run")
    (folder / "run.json").write_text(json.dumps({"model": HOSTILE, "settings": {HOSTILE: HOSTILE}}))
    (folder / "metrics.json").write_text(json.dumps({"accuracy": {"test": HOSTILE, "train": True}}))
    text = page(folder, "--no-check")
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "<b>run" not in text
    assert "&lt;script&gt;" in text


def test_the_page_loads_nothing(certified: Path) -> None:
    text = page(certified, "--no-check")
    sources = re.findall(r"(?:src|href|action|srcset)\s*=\s*\"([^\"]*)\"", text)
    assert sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"<(script|link|iframe|object|embed|form)\b|@import|url\(|http-equiv=.refresh", text)
    assert "default-src 'none'" in text


def test_the_same_run_gives_the_same_page(certified: Path) -> None:
    assert page(certified) == page(certified)


HUGE = [{"iteration": 0, "error": -1e308}, {"iteration": 1, "error": 1e308}]
"""Numbers whose difference no axis can hold."""


@pytest.mark.parametrize("rows", ["text", [], [1], [{"iteration": 1}], [{**POINTS[0], "test": math.inf}], HUGE])
def test_a_curve_that_is_none_is_left_out(certified: Path, tmp_path: Path, rows: Any) -> None:
    folder = copy_of(certified, tmp_path / "run")
    (folder / "metrics.json").write_text(json.dumps({"accuracy": {"test": 0.5}, "by_iteration": rows}))
    text = page(folder, "--no-check")
    assert text.count("<img") == 1
    assert "50.0 %" in words(text)


def with_metrics(folder: Path, target: Path, metrics: Any) -> str:
    copied = copy_of(folder, target)
    (copied / "metrics.json").write_text(json.dumps(metrics))
    return page(copied, "--no-check")


def test_any_number_by_iteration_has_a_figure_of_its_own(certified: Path, tmp_path: Path) -> None:
    rows = [{"iteration": n, "psnr": 10.0 + n, "step_size": 0.1**n} for n in range(5)]
    text = with_metrics(certified, tmp_path / "run", {"psnr": 14.0, "by_iteration": rows})
    assert text.count("<img") == 3
    assert 'alt="psnr from 10 after 0 iterations to 14 after 4"' in text
    assert "Step size after so many iterations, as measured." in words(text)
    assert "Share classified correctly" not in text


def test_accuracies_and_other_numbers_are_told_apart(certified: Path, tmp_path: Path) -> None:
    rows = [{"iteration": n, "test": 0.5 + n / 10, "residual": 1.0 / (1 + n)} for n in range(3)]
    metrics = {"accuracy": {"train": 1.0, "test": 0.7}, "by_iteration": rows, "by_plain_iteration": rows}
    text = with_metrics(certified, tmp_path / "run", metrics)
    assert text.count("<img") == 5
    assert 'alt="test accuracy from 50.0 % after 0 iterations to 70.0 % after 2"' in text
    assert "(plain iteration)" in words(text)
    table = words(text).split("Share classified correctly")[1].split("Accuracy of the read-out")[0]
    assert "70.0 %" in table
    assert "validation" not in table


def test_numbers_that_are_named_like_a_split_but_are_no_shares_are_plotted_as_they_are(
    certified: Path, tmp_path: Path
) -> None:
    rows = [{"iteration": n, "test": 3.0 - n} for n in range(3)]
    text = with_metrics(certified, tmp_path / "run", {"by_iteration": rows})
    assert 'alt="test from 3 after 0 iterations to 1 after 2"' in text


def test_plain_numbers_are_listed_and_what_is_proven_elsewhere_is_not(certified: Path, tmp_path: Path) -> None:
    metrics = {"weight_norm_bound": 6.5, "error": {"l2": 0.25}, "rate": 0.125, "verified": True, "huge": 10**400}
    text = words(with_metrics(certified, tmp_path / "run", metrics))
    table = text.split("Numbers in metrics.json")[1].split("Check it yourself")[0]
    assert "weight norm bound 6.5" in table
    assert "error l2 0.25" in table
    assert "0.125" not in table
    assert "verified" not in table
    assert "huge" not in table


def test_names_of_numbers_never_become_markup_or_formulas(certified: Path, tmp_path: Path) -> None:
    rows = [{"iteration": n, HOSTILE: float(n), "$\\frac{\u4e2d": 1.0} for n in range(3)]
    text = with_metrics(certified, tmp_path / "run", {HOSTILE: 1.0, "by_iteration": rows})
    assert "<script" not in text
    assert "<img src=x" not in text
    assert text.count("<img") == 3


def test_the_number_of_figures_is_bounded(certified: Path, tmp_path: Path) -> None:
    rows = [{"iteration": n, **{f"n{k}": 1.0 * n for k in range(40)}} for n in range(2)]
    assert with_metrics(certified, tmp_path / "run", {"by_iteration": rows}).count("<img") == 13


def test_metrics_of_a_stranger_are_shown_as_far_as_they_go(certified: Path, tmp_path: Path) -> None:
    """A share beyond all floats, and half of a character, which no UTF-8 file can hold."""
    metrics = {"accuracy": {"train": 10**400, "test": 0.5}, "half \ud800": 1.0}
    text = with_metrics(certified, tmp_path / "run", metrics)
    assert "half ?" in text
    assert "50.0 %" in text


# ----------------------------------------------------------------------------------------------- bad folders


def test_a_certificate_of_another_model_is_refused(certified: Path, tmp_path: Path, capsys: Any) -> None:
    folder = copy_of(certified, tmp_path / "run")
    write_model(folder / "model.pt2", Layer(0.25))
    assert main(["report", str(folder), "--no-check"]) == 65
    assert "about another model" in capsys.readouterr().err.splitlines()[-1]


def test_a_certificate_of_other_inputs_is_refused(tmp_path: Path) -> None:
    class Product(nn.Module):
        def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return 0.25 * z * x

    folder = make_run(tmp_path / "run", Product())
    state, x = arguments()
    write_tensors(folder / "inputs.safetensors", state, (0.5 * x,))
    with pytest.raises(InputError, match="other values of input"):
        write_report(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", b"{"),
        ("metrics.json", b"[1]"),
        ("run.json", b"\xff\xfe"),
        ("metrics.json", b"[" * 100_000),
        ("certificate.json", b"{}"),
        ("state.safetensors", b"cut"),
        ("model.pt2", b"PK"),
    ],
)
def test_damaged_files_are_65_in_one_line(
    certified: Path, tmp_path: Path, capsys: Any, file: str, content: bytes
) -> None:
    folder = copy_of(certified, tmp_path / "run")
    (folder / "report.html").unlink(missing_ok=True)
    (folder / file).write_bytes(content)
    assert main(["report", str(folder), "--no-check"]) == 65
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("deqops: ")
    assert not (folder / "report.html").exists()
    with pytest.raises((InputError, ModelFileError)):
        write_report(folder)


def test_folders_that_are_none_are_66(tmp_path: Path, capsys: Any) -> None:
    assert main(["report", str(tmp_path / "none")]) == 66
    assert "no such folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 66
    assert "has no model.pt2" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_73(certified: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["report", str(certified), "--no-check", "-o", str(tmp_path / "no" / "page.html")]) == 73
    assert "cannot write" in capsys.readouterr().err.splitlines()[-1]


def test_json_output_names_the_page(certified: Path, capsys: Any) -> None:
    assert main(["report", str(certified), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"report": str(certified / "report.html"), "checked": True}


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.9999999999, 1e-300, 123456.789, 2.0])
@pytest.mark.parametrize("digits", [3, 4, 9])
def test_printed_bounds_are_rounded_up(value: float, digits: int) -> None:
    assert value <= float(_words.at_most(value, digits)) <= value * (1 + 10.0 ** (2 - digits))


def test_inputs_between_two_ends_are_not_called_the_ones_in_this_folder() -> None:
    from deqops.verify import InputBox

    x = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(lambda z, x: torch.tanh(x * z), x, InputBox(x, x + 0.5))
    assert [record.status for record in certificate.inputs] == ["box"]
    said = " ".join(_words.not_proven(SimpleNamespace(certificate=certificate, check=None, rejected=False)))  # type: ignore[arg-type]
    assert "outside of the two ends" in said
    assert "in this folder" not in said
