"""The report in a real browser: nothing overflows on a phone, nothing is fetched, the picture is not blank."""

from __future__ import annotations

import functools
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cli_cases import Layer
from test_report_page import make_run

from deqops.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="no Chromium is installed")

# Loads the page in a frame of the asked width (the window itself cannot be narrower than 500) and reports on it.
PROBE = """<!doctype html><body style="margin:0"><iframe id="f" style="width:{width}px;height:900px;border:0"
srcdoc="{page}"></iframe><pre id="out"></pre><script>
f.onload = () => {{
  const d = f.contentDocument, w = d.documentElement;
  const wide = [...d.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > w.clientWidth + 1);
  const images = [...d.images].map(i => i.complete && i.naturalWidth > 0);
  const narrow = [...d.querySelectorAll('th')].filter(e => e.textContent.trim().length > 3
      && e.getBoundingClientRect().width < 30);
  out.textContent = JSON.stringify({{client: w.clientWidth, scroll: w.scrollWidth, wide: wide.map(e => e.tagName),
    images, narrow: narrow.map(e => e.textContent.trim()),
    small: Math.min(...[...d.querySelectorAll('p, td, th, li')].map(e => parseFloat(f.contentWindow
      .getComputedStyle(e).fontSize)))}});
}};
</script></body>"""


def browse(folder: Path, *options: str) -> str:
    """Chromium's standard output."""
    assert CHROMIUM is not None, "CI must have Chromium"
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--virtual-time-budget=3000",
        f"--user-data-dir={folder / 'profile'}",
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("browser")
    run = functools.partial(make_run, norm="l2", theorem="picard")
    return {
        "certified": write_report(run(root / "certified", Layer(0.5))),
        "refuted": write_report(run(root / "refuted", Layer(1.5))),
        "open": write_report(make_run(root / "open", Layer(0.5), proof=False)),
    }


@pytest.mark.parametrize("name", ["certified", "refuted", "open"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows_and_every_figure_loads(
    pages: dict[str, Path], name: str, width: int, tmp_path: Path
) -> None:
    text = html.escape(pages[name].read_text(encoding="utf-8"), quote=True)
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(width=width, page=text), encoding="utf-8")
    dom = browse(tmp_path, "--dump-dom", "--window-size=1400,1000", probe.as_uri())
    found = json.loads(html.unescape(re.findall(r'<pre id="out">(.*?)</pre>', dom, flags=re.DOTALL)[-1]))
    assert found["client"] == width
    assert found["scroll"] <= width
    assert found["wide"] == []
    assert found["narrow"] == []  # no header broken into single letters
    assert found["images"]
    assert all(found["images"])
    assert found["small"] >= 12


def test_the_picture_shows_verdict_colours_and_curves(pages: dict[str, Path], tmp_path: Path) -> None:
    from PIL import Image

    shot = tmp_path / "shot.png"
    browse(tmp_path, f"--screenshot={shot}", "--window-size=900,2400", pages["certified"].as_uri())
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (2400, 900, 3)
    for colour in ((0x1A, 0x7F, 0x37), (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):  # verdict, bound, measured
        assert int((np.abs(pixels - np.array(colour)).sum(axis=2) < 30).sum()) > 50
    assert float((pixels.sum(axis=2) > 720).mean()) > 0.6  # mostly paper


def test_it_prints_on_a_few_pages(pages: dict[str, Path], tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    browse(tmp_path, f"--print-to-pdf={paper}", "--no-pdf-header-footer", pages["certified"].as_uri())
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 5


def test_the_browser_fetches_nothing_else(pages: dict[str, Path], tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    browse(tmp_path, f"--log-net-log={log}", "--dump-dom", pages["certified"].as_uri())
    own = re.findall(r'"url":"((?:https?|ftp|wss?)://[^"]*)"', log.read_text(encoding="utf-8", errors="replace"))
    ours = [url for url in own if "google" not in url and "gvt1" not in url]  # the browser's own updates
    assert ours == []
