"""Takes a picture of TensorBoard over a folder of runs, in Chromium.

python scripts/screenshot.py LOGDIR PICTURE.png [--page timeseries|scalars|images|histograms|text|hparams] [--wait 8]
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    """The browser's path, or None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def tensorboard(logdir: Path) -> Iterator[str]:
    """A TensorBoard over ``logdir``, stopped on leaving; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
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
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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


def picture(address: str, page: str, path: Path, wait: float, words: Iterable[str] = ()) -> None:
    """Save what the browser shows of a page of TensorBoard, once all ``words`` stand on it (an error after a minute)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(f"{address}#{page}")
        for word in words:
            tab.get_by_text(word).first.wait_for(state="attached", timeout=60_000)
        tab.wait_for_timeout(1000 * wait)
        tab.screenshot(path=str(path))
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--page", default="timeseries")
    parser.add_argument("--wait", type=float, default=8.0)
    options = parser.parse_args()
    if chromium() is None:
        sys.exit("no chromium here: install it with the system's package manager")
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    with tensorboard(options.logdir) as address:
        picture(address, options.page, options.picture, options.wait)


if __name__ == "__main__":
    main()
