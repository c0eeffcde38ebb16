"""What a user sees: text for terminals of 80 and 40 columns, screenshots of the report and of TensorBoard in a browser.

After an intended change: ``python scripts/screenshots.py --text`` and ``python scripts/screenshots.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "images" / "screens"


@pytest.fixture(scope="module")
def screenshots() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import screenshots
    finally:
        sys.path.pop(0)
    return screenshots


@pytest.mark.parametrize("width", [80, 40])
def test_the_table_and_the_summary_of_a_run_look_as_kept(screenshots, width):
    text = screenshots.text_screen(width)
    assert text == (ROOT / "tests" / "screens" / f"run_{width}.txt").read_text("utf-8")
    table = [
        line for line in text.splitlines() if "%" in line and not line.startswith(("validation", "test", "finished"))
    ]
    assert len(table) == 3
    assert max(map(len, table)) <= width


def gray(path: Path) -> np.ndarray:
    """A screenshot as brightness in [0, 1], a fiftieth of its size: layout without letters."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((48, 30), Image.Resampling.BOX), float) / 255


def test_every_screen_is_kept_as_a_small_image(screenshots):
    names = {f"report_{name}.png" for name in screenshots.REPORTS} | {
        f"tensorboard_{tab}.png" for tab in screenshots.TABS
    }
    names |= {f"terminal_{width}.svg" for width in screenshots.WIDTHS}
    assert {path.name for path in KEPT.iterdir()} == names
    assert sum(path.stat().st_size for path in KEPT.iterdir()) < 1_000_000
    for width in screenshots.WIDTHS:
        assert "http" not in (KEPT / f"terminal_{width}.svg").read_text().replace("http://www.w3.org/", "")


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_shows_the_report_and_seven_pages_of_tensorboard_as_kept(screenshots, tmp_path):
    if screenshots.chromium() is None:
        pytest.skip("no chromium here")
    screenshots.make_screenshots(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in KEPT.iterdir()}
    for new in sorted(tmp_path.glob("*.png")):
        with Image.open(new) as image, Image.open(KEPT / new.name) as kept:
            assert image.size == kept.size, new.name
        a, b = gray(new), gray(KEPT / new.name)
        assert a.std() > 0.01, f"{new.name} is empty"
        assert abs(a - b).mean() < 0.06, new.name


@pytest.mark.browser
@pytest.mark.slow
def test_the_curves_of_a_report_show_values_below_the_pointer_and_hide_a_curve_whose_name_is_clicked(
    screenshots, tmp_path
):
    if screenshots.chromium() is None:
        pytest.skip("no chromium here")
    screenshots.train(tmp_path, *screenshots.SMALL, "epochs=3", "output=run")
    errors: list[str] = []
    with screenshots.opened_browser() as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
        tab.goto(f"file://{tmp_path}/run/report.html")
        tab.locator("figure.curves svg").first.hover()
        assert "loss by epoch 2: train " in tab.locator("figure.curves output").inner_text()
        curve = tab.locator("figure.curves g[data-series=validation]").first
        assert curve.is_visible()
        tab.locator("button.key", has_text="validation").click()
        assert not curve.is_visible()
        tab.locator("button.key", has_text="validation").click()
        assert curve.is_visible()
        narrow = browser.new_page(viewport={"width": 360, "height": 640}, java_script_enabled=False)
        narrow.goto(f"file://{tmp_path}/run/report.html")
        assert narrow.locator("figure.curves g[data-series=train] polyline").first.is_visible()
        boxes = [svg.bounding_box() for svg in narrow.locator("figure.curves .panels > svg").all()]
        assert len(boxes) == 3
        assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)
    assert errors == []
