"""What ``train --version`` prints: what bug reports need, without importing torch."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from trainer import __version__
from trainer.gpus import driver_gpus, why_no_gpu


def about() -> str:
    """Return the versions of trainer, torch and Python, and what ``device=auto`` finds."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "is not installed"
    reason = why_no_gpu()
    device = f"CPU ({reason})" if reason else f"{driver_gpus()} GPU(s)"
    return f"trainer {__version__}\ntorch {torch}, Python {platform.python_version()}, {platform.platform()}\ndevice: {device}"
