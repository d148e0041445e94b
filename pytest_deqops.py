"""pytest plugin of deqops: certify a project's models in its tests, sum up, and fail where something got worse.

A test asks for the fixture `certified`:

    def test_the_classifier_is_certified(certified):
        certified("classifier", model.step, zeros, example, rate=0.95, norm="l2", theorem="picard")

`--deqops-baseline FILE` fails where a verdict is lost or a rate is worse than in the file; `--deqops-update` writes it.
Nothing of deqops or torch is imported before a test asks for the fixture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SLACK = 1e-9
"""A rate is worse where it is above the baseline's by more than this part of it."""
KEY = "deqops"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("deqops", "certified models")
    group.addoption(
        "--deqops-baseline", metavar="FILE", help="fail where a verdict or a rate is worse than in this file"
    )
    group.addoption(
        "--deqops-update", action="store_true", help="write the verdicts and rates of this run to that file"
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and the records of this run."""
    config.addinivalue_line(
        "markers", "deqops(**options): a test that certifies models; options are those of certify, for each call"
    )
    path = config.getoption("--deqops-baseline")
    if config.getoption("--deqops-update") and not path:
        raise pytest.UsageError("--deqops-update: say which file, by --deqops-baseline FILE")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Summary(config, path), "deqops-summary")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for the fixture, so that `-m deqops` selects them."""
    for item in items:
        if "certified" in getattr(item, "fixturenames", ()) and item.get_closest_marker("deqops") is None:
            item.add_marker("deqops")


@pytest.fixture
def certified(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`certified(name, G, *arguments, rate=None, **options)`: `deqops.verify.certify` must say certified.

    The independent checker must accept the certificate, its rate be at most `rate`, and neither be worse than in
    the baseline. Returns the certificate.
    """
    marker = request.node.get_closest_marker("deqops")
    defaults = {} if marker is None else dict(marker.kwargs)
    path = request.config.getoption("--deqops-baseline")
    compared = path is not None and not request.config.getoption("--deqops-update")
    baseline = read_baseline(Path(path)) if compared else {}

    def certify(name: str, G: Any, *arguments: Any, **options: Any) -> Any:
        from deqops.verify import certify, check

        chosen = {**defaults, **options}
        rate = chosen.pop("rate", None)
        certificate = certify(G, *arguments, **chosen)
        record = {
            "name": name,
            "verdict": certificate.verdict.value,
            "theorem": certificate.theorem,
            "rate": certificate.rate,
            "before": baseline.get(name),
        }
        request.node.user_properties.append((KEY, record))
        if record["verdict"] != "certified":
            pytest.fail(f"{name}: {record['verdict']}\n{certificate.explain()}", pytrace=False)
        state, inputs = _checked_arguments(G, arguments)
        report = check(certificate, G, state, *inputs)
        if not report.accepted:
            pytest.fail(f"{name}: the checker rejects the certificate\n{report}", pytrace=False)
        reason = _worse(record, rate)
        if reason:
            pytest.fail(f"{name}: {reason}", pytrace=False)
        return certificate

    return certify


def read_baseline(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a baseline file, by name.

    Raises:
        pytest.UsageError: there is none, or it is no baseline.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {str(name): _record(entry) for name, entry in records.items()}
    except FileNotFoundError as error:
        raise pytest.UsageError(f"--deqops-baseline: no file {path}; make it by --deqops-update") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise pytest.UsageError(f"--deqops-baseline: {path} is no baseline; make it anew by --deqops-update") from error


def _record(entry: dict[str, Any]) -> dict[str, Any]:
    """A model's entry in a baseline.

    Raises:
        TypeError: its rate is no number.
    """
    rate = entry["rate"]
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float)):
        raise TypeError("a rate is a number or null")
    return {"verdict": str(entry["verdict"]), "rate": rate}


def _checked_arguments(G: Any, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    from deqops import EquilibriumLayer

    if isinstance(G, EquilibriumLayer):
        return G.initial_state(*arguments), arguments
    return arguments[0], arguments[1:]


def _worse(record: dict[str, Any], rate: float | None) -> str:
    """Why a certified model fails all the same; empty if it does not."""
    found, before = record["rate"], record["before"]
    if rate is not None and not (found is not None and found <= rate):
        return f"its rate {found} is above {rate}"
    old = None if before is None else before["rate"]
    if isinstance(old, int | float) and math.isfinite(old) and not (found is not None and found <= old * (1 + SLACK)):
        return f"its rate {found} is worse than the baseline's {old}"
    return ""


class _Summary:
    """Gathers what tests certified, here or in workers; sums up, and writes the baseline."""

    def __init__(self, config: pytest.Config, path: str | None) -> None:
        self.config, self.path = config, path
        self.records: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take over what a test recorded."""
        if report.when == "call":
            for key, record in report.user_properties:
                if key == KEY and isinstance(record, dict):
                    self.records[record["name"]] = record

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """One line per model."""
        if not self.records:
            return
        terminalreporter.section("deqops")
        for name, record in sorted(self.records.items()):
            rate = "" if record["rate"] is None else f"rate {record['rate']:.9g}"
            before = record["before"]
            old = f"  (baseline: {before['verdict']}, {before['rate']})" if before else ""
            terminalreporter.line(f"{record['verdict']:10} {name}  {record['theorem'] or ''} {rate}{old}")
        if self.path and self.config.getoption("--deqops-update"):
            terminalreporter.line(f"wrote {self.path}")

    def pytest_sessionfinish(self) -> None:
        """Write the baseline, whole or not at all; models that this run did not touch stay in it."""
        if not (self.path and self.config.getoption("--deqops-update")):
            return
        from deqops._atomic import write_atomically

        path = Path(self.path)
        known = read_baseline(path) if path.exists() else {}
        for name, record in self.records.items():
            known[name] = {"verdict": record["verdict"], "rate": record["rate"]}
        document = {"schema": 1, "models": dict(sorted(known.items()))}
        write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())
