"""Where and how the arithmetic is done: device, number format, memory layout, threads, freed memory."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

import torch

from trainer import processors
from trainer.checks import ConfigError, Problem
from trainer.engine.distributed import world
from trainer.engine.run import Precision

if TYPE_CHECKING:
    from trainer.engine.options import Engine

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
NEVER, LARGEST = -1, 2**30  # bytes; glibc takes an int


def device_of(name: str, engine: Engine) -> torch.device:
    """The device meant by ``device`` and the engine option; ConfigError where it is not there."""
    if name == "auto":
        name = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "cpu": "cpu", "gpu": "cuda"}[engine.kind]
    device = torch.device(name)
    if device.type == "cuda" and device.index is None and world() > 1:
        device = torch.device("cuda", torch.cuda.current_device())  # each process has its own
    if engine.kind != "auto" and (engine.kind == "gpu") != (device.type == "cuda"):
        raise ConfigError(Problem("device", name, f"contradicts engine={engine.kind}", "leave out one of the two"))
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not found or (device.index or 0) >= found:
            there = f"there are {found} GPUs" if found else "torch sees no GPU here"
            raise ConfigError(Problem("device", name, there, "device=cpu, or device=auto"))
    return device


def computes_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies in bf16 itself, so that bf16 is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False


def precision_of(device: torch.device, wanted: str, engine: Engine) -> Precision:
    """The number format for ``precision``; ``auto`` takes bf16 where the processor computes in it."""
    bf16 = wanted == "bf16" or (wanted == "auto" and computes_bf16(device))
    return Precision(device, torch.bfloat16 if bf16 else torch.float32, engine.channels_last)


def apply_engine(engine: Engine, precision: Precision) -> list[str]:
    """Set what is set once for the process; return what was chosen, in words."""
    threads = default_threads() if engine.threads == "auto" else engine.threads
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = engine.tf32
    torch.backends.cudnn.allow_tf32 = engine.tf32
    torch.backends.cudnn.benchmark = not engine.deterministic
    torch.backends.cudnn.deterministic = engine.deterministic
    if engine.keep_memory:
        keep_freed_memory()
    where = (
        torch.cuda.get_device_name(precision.device) if precision.device.type == "cuda" else f"cpu, {threads} threads"
    )
    layout = "channels-last" if precision.channels_last else "contiguous"
    several = f", {world()} processes" if world() > 1 else ""
    return [f"{where}, {precision.name}, {layout}{several}"]


def default_threads() -> int:
    """What OMP_NUM_THREADS asks for, else the processors this process may use."""
    asked, beside = os.environ.get("OMP_NUM_THREADS", ""), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if asked.isdigit() and int(asked) > 0 and not (beside > 1 and asked == "1"):  # 1 is what torchrun sets unasked
        return int(asked)
    return processors.available()


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for the next step instead of giving them back to the kernel and faulting them in
    again; returns whether it listened. Elsewhere than on Linux with glibc there is nothing to tell.

    torch is told to ask for pages of 2 MiB for its large tensors (it looks at its first one): what is faulted in nevertheless,
    because the blocks kept do not fit, then costs a hundredth.
    """
    if not sys.platform.startswith("linux"):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, NEVER)) and bool(mallopt(M_MMAP_THRESHOLD, LARGEST))
