"""The seeded defects of `mutations/`: each still applies and names tests that are there; a few are really run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutations import _copy, _run
from mutations.__main__ import main
from mutations._defect import ROOT, Defect, DefectError, defects, read

KNOWN = defects()
CHEAP = ["broyden-memory-off-by-one", "midrad-product-without-error", "checker-digest-skipped"]


def test_there_are_enough_and_they_are_numbered() -> None:
    assert len(KNOWN) >= 20
    assert [int(defect.name.split("-")[0]) for defect in KNOWN] == list(range(1, len(KNOWN) + 1))
    assert len({defect.sentence for defect in KNOWN}) == len(KNOWN)


@pytest.mark.parametrize("defect", KNOWN, ids=lambda defect: defect.name)
def test_it_applies_and_names_tests_that_are_there(defect: Defect) -> None:
    _copy.apply(defect, ROOT, only_check=True)
    for test in defect.tests:
        path, _, function = test.partition("::")
        text = (ROOT / path).read_text()
        assert f"def {function.split('[')[0]}(" in text or not function


@pytest.mark.parametrize("name", CHEAP)
def test_it_is_caught(name: str) -> None:
    (defect,) = [defect for defect in KNOWN if defect.name.endswith(name)]
    found = _run.judged(defect).test
    assert found is not None
    assert found.partition("::")[0] in {test.partition("::")[0] for test in defect.tests}


def test_the_command_line_lists_and_refuses_names_that_no_defect_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{defect.name}: {defect.sentence}" for defect in KNOWN]
    assert main(["no-such-defect"]) == 1
    assert "no such defect" in capsys.readouterr().err


# --------------------------------------------------------------------------------- what is no catch


@pytest.fixture
def harmless(tmp_path: Path) -> Defect:
    """A change of nothing but words, with tests that take no time."""
    patch = tmp_path / "00-harmless.patch"
    patch.write_text(
        "defect: none.\ntests: tests/test_nothing.py\n--- /dev/null\n+++ b/tests/test_nothing.py\n"
        "@@ -0,0 +1,2 @@\n+def test_nothing() -> None:\n+    pass\n"
    )
    return read(patch)


def test_a_change_that_no_test_sees_survives(harmless: Defect) -> None:
    assert _run.judged(harmless).test is None


def test_tests_that_are_not_there_are_an_error(harmless: Defect) -> None:
    with pytest.raises(DefectError, match="00-harmless: pytest ended with code 4"):
        _run.judged(Defect(harmless.patch, "none.", ("tests/test_absent.py",)))


def test_a_patch_that_does_not_apply_is_an_error(harmless: Defect) -> None:
    text = (
        harmless.patch.read_text()
        .replace("/dev/null", "a/deqops/_loop.py")
        .replace("b/tests/test_nothing.py", "b/deqops/_loop.py")
    )
    harmless.patch.write_text(text.replace("@@ -0,0 +1,2 @@\n", "@@ -1,1 +1,3 @@\n no such line\n"))
    with pytest.raises(DefectError, match="00-harmless: the patch does not apply"):
        _run.judged(harmless)


def test_a_file_without_its_two_lines_is_an_error(tmp_path: Path) -> None:
    patch = tmp_path / "00-silent.patch"
    patch.write_text("defect: none.\n--- a/x\n+++ b/x\n")
    with pytest.raises(DefectError, match="must begin with the lines"):
        read(patch)


def test_the_copy_is_what_is_tested() -> None:
    """Its links lead to its own folders, not to those of the tree it was made from."""
    with _copy.copied(None) as folder:
        for name in ("verify", "models"):
            assert (folder / "deqops" / name).is_symlink()
            assert (folder / "deqops" / name).resolve() == folder / name
        assert not (folder / ".git").exists()
