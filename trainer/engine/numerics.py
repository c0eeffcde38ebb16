"""What the last bits of a result depend on besides config and data: hardware, threads, libraries, code."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import torch

import trainer
from trainer.engine.distributed import world_size
from trainer.hardware import Precision
from trainer.run_dir import versions

# They compute what a model sees and what becomes of it.
LIBRARIES = ("torch", "torchvision", "numpy", "albumentations", "opencv-python-headless", "pillow", "timm")
# Settings, or groups of them, on which no result depends, and those on which only the rounding does.
WITHOUT_EFFECT = (
    "job", "observer", "data.num_workers", "data.worker_type", "data.cache", "engine.keep_memory", "engine.on_oom",
    "engine.budget", "engine.checkpoint_activations",
)  # fmt: skip
ROUNDING = ("engine", "device")
EXACT = "the results are bit-identical to those without a change"
ROUNDED = "the results differ in their last bits from those without a change"
RANKS = "the batches and their order are the same, the last bits of the results and the random numbers of each process are not"
SETTINGS = "the run continues with the new settings"


def numerics(precision: Precision) -> dict[str, str]:
    """What the last bits depend on, as texts by name, for a checkpoint; on a GPU the CPU and its threads are left out."""
    device = precision.device
    found = {
        "precision": precision.name,
        "processes": str(world_size()),
        "trainer": trainer.__version__,
        "code": code(),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found |= {"CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}
    else:
        found |= {"device": device.type, "threads": str(torch.get_num_threads()), "CPU": cpu_name()}
        found["instructions"] = torch.backends.cpu.get_cpu_capability()
    return found | library_versions()


@cache
def library_versions() -> dict[str, str]:
    """The versions of ``LIBRARIES``, which do not change while the program runs."""
    return versions(LIBRARIES)


@cache
def code() -> str:
    """A digest of the source files of this program, as installed."""
    package = Path(trainer.__file__).parent
    result = hashlib.blake2b(digest_size=6)
    for file in sorted(package.rglob("*.py")):
        result.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes())
    return result.hexdigest()


@cache
def cpu_name(file: Path = Path("/proc/cpuinfo")) -> str:
    """The name of the CPU, by which libraries choose their kernels."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def numeric_changes(then: Mapping[str, object], now: Mapping[str, str]) -> dict[str, list[str]]:
    """What differs between two numerics, of then and now; what only one of them knows is left out.

    >>> numeric_changes({"threads": "2", "precision": "bf16"}, {"threads": "4", "precision": "bf16", "CPU": "x"})
    {'threads': ['2', '4']}
    >>> numeric_changes({"device": "cpu", "threads": "2"}, {"device": "H100", "CUDA": "13.0"})
    {'device': ['cpu', 'H100']}
    """
    return {key: [str(then[key]), value] for key, value in now.items() if key in then and str(then[key]) != value}


def consequence(settings: Iterable[str], numeric: Iterable[str]) -> str:
    """What changed settings and numerics mean for the results of a resumed run.

    >>> consequence(["data.num_workers", "observer.console.every"], [])
    'the results are bit-identical to those without a change'
    >>> consequence([], ["threads"])
    'the results differ in their last bits from those without a change'
    >>> consequence(["optimizer.lr"], ["threads"])
    'the run continues with the new settings'
    """
    settings, names = [key for key in settings if not is_in(key, WITHOUT_EFFECT)], set(numeric)
    parts = [SETTINGS] if any(not is_in(key, ROUNDING) for key in settings) else []
    if "processes" in names:
        parts.append(RANKS)
    elif not parts:
        parts.append(ROUNDED if settings or names else EXACT)
    return "; ".join(parts)


def is_in(key: str, groups: Iterable[str]) -> bool:
    """Whether a setting is one of some settings, or in one of some groups.

    >>> is_in("observer.tensorboard.every", ["data.cache", "observer"]), is_in("data.size", ["data.cache", "observer"])
    (True, False)
    """
    return any(key == name or key.startswith(f"{name}.") for name in groups)
