"""Make the screenshots of what a user sees: terminal, report and TensorBoard, of small runs on digits.

python scripts/screenshots.py [DIRECTORY] [--text]

The default directory is docs/images/screens. --text writes the screens that tests/test_screens.py compares instead.
Needs Chromium, but for --text.
"""

from __future__ import annotations

import argparse
import io
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("data=digits", "architecture.widths=[4,8]", "regularizer=[]", "device=cpu")
WIDTHS = (80, 40)
REPORTS = {"desktop": (1280, False), "dark": (1280, True), "narrow": (400, False)}  # width and color scheme
# The pages of TensorBoard, with texts that are there once it has drawn them.
TABS = {
    "timeseries": ("1_loss", "2_accuracy", "sweep/0_optimizer"),
    "scalars": ("1_loss", "2_accuracy"),
    "custom_scalars": ("curves", "update-to-weight ratio by layer"),
    "images": ("batch", "tag: batch"),
    "distributions": ("7_activations",),
    "histograms": ("7_activations",),
    "hparams": ("optimizer", "*best/accuracy_test"),
}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    """The path of the browser, or None if none is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def tensorboard(logdir: Path) -> Iterator[str]:
    """Run TensorBoard for ``logdir`` and yield its address; stop it on exit."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(logdir),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}data/runs", timeout=1).read()
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        server.terminate()
        server.wait()


def screenshot(
    browser: Browser,
    address: str,
    path: Path,
    texts: Iterable[str] = (),
    wait: float = 1.0,
    width: int = 1280,
    dark: bool = False,
) -> None:
    """Save a screenshot of a page once it shows all ``texts`` (an error after a minute)."""
    scheme = "dark" if dark else "light"
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.goto(address)
    for text in texts:
        tab.get_by_text(text).first.wait_for(state="attached", timeout=60_000)
    tab.wait_for_timeout(1000 * wait)
    tab.screenshot(path=str(path))
    tab.close()
    shrink(path)


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """Start Chromium without a window; close it on exit."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


def shrink(path: Path, width: int = 900) -> None:
    """Reduce a screenshot to ``width`` pixels and 256 colors, a fifth of its bytes."""
    with Image.open(path) as image:
        size = (min(width, image.width), round(image.height * min(1, width / image.width)))
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(256, Image.Quantize.MAXCOVERAGE).save(
            path, optimize=True
        )


def make_runs(directory: Path) -> tuple[Path, Path]:
    """Train a run and a sweep; return the run and the directory of both."""
    runs = directory / "outputs"
    train(directory, "-m", *SMALL, "optimizer=adam,sgd", "seed=0,1", "epochs=6", "output=outputs/sweep")
    train(directory, *SMALL, "epochs=12", "augmentation=[rotation]", "output=outputs/run")
    return runs / "run", runs


def train(directory: Path, *overrides: str) -> None:
    """Run a command of ours."""
    subprocess.run([sys.executable, "-m", "trainer", *overrides], cwd=directory, check=True, stdout=subprocess.DEVNULL)


def make_screenshots(directory: Path) -> None:
    """Make all screenshots with a browser."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        run, runs = make_runs(Path(work))
        with opened_browser() as browser:
            report = f"file://{run.resolve()}/report.html"
            for name, (width, dark) in REPORTS.items():
                screenshot(browser, report, directory / f"report_{name}.png", width=width, dark=dark)
            with tensorboard(runs) as address:
                for page, texts in TABS.items():
                    path = directory / f"tensorboard_{page}.png"
                    screenshot(browser, f"{address}#{page}", path, texts, wait=3.0)
    for width in WIDTHS:
        (directory / f"terminal_{width}.svg").write_text(terminal_svg(width))


def terminal_svg(width: int) -> str:
    """What a run prints to a terminal, as a screenshot; its font is the reader's, nothing is loaded from anywhere."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as work:
        console.print(terminal_text(Path(work), width), markup=False, highlight=False)
    svg = console.export_svg(title="train data=digits epochs=6", unique_id="screen")
    return re.sub(r"@font-face \{.*?\}\n*|<!--.*?-->", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")


def terminal_text(directory: Path, width: int) -> str:
    """What a run prints to a terminal of a width, without its bars."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(width), "LINES": "40", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trainer", *SMALL, "epochs=6", "output=run"]
    process = subprocess.Popen(command, cwd=directory, env=environment, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the end, on Linux
            break
        if not part:
            break
        shown += part
    os.close(master)
    process.wait()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [
        line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")
    ]  # what a status line was replaced by
    return "\n".join(line for line in lines if "━" not in line and line.strip())


def text_screen(width: int) -> str:
    """The table of epochs and the summary of a run with known numbers, for a terminal of a width."""
    from trainer.builder import build
    from trainer.config.load import load_config
    from trainer.engine.view import RunView
    from trainer.observers.epoch_table import EpochTable
    from trainer.observers.summary import summary_lines

    run = build(load_config(["data=digits", "data.limit=100", "device=cpu"]))
    columns = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    for epoch, values in enumerate(
        [(1.5, 0.5, 1.25, 0.625), (0.75, 0.8125, 0.5, 0.875), (0.25, 1.0, 0.5625, 0.84375)], 1
    ):
        row = {"phase": "all", "epoch": float(epoch), "step": 2 * epoch, "lr": 0.05 / epoch, "mean_lr": 0.05 / epoch}
        run.history.append(
            row | dict(zip(columns, values, strict=True)) | {"seconds": 1.5, "images_per_second": 12345.0}
        )
    run.best = {"row": 1, "model": {}, "averaged": None}
    view = RunView(run)
    table = EpochTable(view, width)
    rows = [table.line(view, row, i) for i, row in enumerate(view.history)]
    finding = {
        "name": "overfitting", "kind": "overfitting", "evidence": "the validation loss rose from 0.5 to 0.5625 after epoch 2",
        "meaning": "The network memorizes the training images.", "attempt": ["regularizer=[early_stopping,dropout]", "epochs=2"],
    }  # fmt: skip
    scores = {"accuracy": 0.875, "loss": 0.5}
    result = {
        "status": "finished",
        "stop_reason": "finished",
        "seconds": 12.5,
        "observer_seconds": 0.25,
        "observer_fraction": 0.02,
    }
    result |= {"best_epoch": 2.0, "validation": scores, "test": scores, "findings": [finding]}
    return "\n".join([table.heading(), *rows, *summary_lines(view, result, width)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", default=ROOT / "docs" / "images" / "screens")
    parser.add_argument("--text", action="store_true")
    options = parser.parse_args()
    if options.text:
        for width in WIDTHS:
            (ROOT / "tests" / "screens" / f"run_{width}.txt").write_text(text_screen(width))
    elif chromium() is None:
        sys.exit("Chromium is not installed; install it with the package manager of the system")
    else:
        make_screenshots(options.directory)


if __name__ == "__main__":
    main()
