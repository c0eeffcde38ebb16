"""Take a screenshot of TensorBoard for a directory of runs, with Chromium.

python scripts/screenshot.py LOGDIR IMAGE.png [--page timeseries|scalars|images|histograms|text|hparams] [--wait 8]
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


def screenshot(address: str, page: str, path: Path, wait: float, texts: Iterable[str] = ()) -> None:
    """Save a screenshot of a page of TensorBoard once it shows all ``texts`` (an error after a minute)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(f"{address}#{page}")
        for text in texts:
            tab.get_by_text(text).first.wait_for(state="attached", timeout=60_000)
        tab.wait_for_timeout(1000 * wait)
        tab.screenshot(path=str(path))
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--page", default="timeseries")
    parser.add_argument("--wait", type=float, default=8.0)
    options = parser.parse_args()
    if chromium() is None:
        sys.exit("Chromium is not installed; install it with the package manager of the system")
    options.image.parent.mkdir(parents=True, exist_ok=True)
    with tensorboard(options.logdir) as address:
        screenshot(address, options.page, options.image, options.wait)


if __name__ == "__main__":
    main()
