"""Whether there is a GPU, as far as that shows without torch, which takes seconds to import."""

from __future__ import annotations

import ctypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from trainer.errors import Problem


def why_no_device(name: str) -> str:
    """Return why this machine does not have the device of a name such as ``cuda:1``; empty if it has, or if only torch can tell.

    >>> why_no_device("cpu"), why_no_device("auto")
    ('', '')
    """
    kind, _, index = name.partition(":")
    if kind == "mps" and sys.platform != "darwin":
        return "is the GPU of a Mac"
    return why_no_gpu(int(index or 0)) if kind == "cuda" else ""


def device_problems(device: str, kind: str) -> list[Problem]:
    """Return the error of a GPU that is named and not there.

    Args:
        device: The setting ``device``.
        kind: The setting ``engine.kind``.

    >>> device_problems("auto", "auto"), device_problems("cpu", "gpu")
    ([], [])
    """
    if reason := why_no_device(device):
        return [Problem("device", device, reason, "device=cpu, or device=auto")]
    if device == "auto" and kind == "gpu" and (reason := why_no_gpu()):
        return [Problem("engine.kind", "gpu", reason, "engine=auto takes the CPU")]
    return []


def why_no_gpu(index: int = 0) -> str:
    """Return why CUDA cannot use GPU number ``index`` here; empty if it can, or if only torch can tell.

    torch states in ``torch/version.py`` for which platform it was built; the driver is asked for the number of GPUs, in which
    it follows CUDA_VISIBLE_DEVICES.
    """
    spec = find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    if version is None or not version.is_file():
        return ""
    built_for = dict(re.findall(r"^(cuda|hip|xpu)\b[^=]*= *(.+)$", version.read_text(), re.MULTILINE))
    if built_for.get("hip", "None") != "None" or "cuda" not in built_for or not sys.platform.startswith("linux"):
        return ""
    if built_for["cuda"] == "None":
        return "the installed torch is built without CUDA"
    gpus = driver_gpus()
    return "" if index < gpus else gpus_here(gpus) if gpus else "the driver sees no GPU here"


def gpus_here(count: int) -> str:
    """Return how many GPUs there are, in words.

    >>> gpus_here(1), gpus_here(2)
    ('there is 1 GPU', 'there are 2 GPUs')
    """
    return "there is 1 GPU" if count == 1 else f"there are {count} GPUs"


def driver_gpus() -> int:
    """Return how many GPUs the CUDA driver offers; 0 without a driver."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value
