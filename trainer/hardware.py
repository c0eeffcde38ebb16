"""The hardware a process computes on: usable cores, device, dtype, memory layout, allocator."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer.errors import ConfigError, Problem

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
NEVER, LARGEST = -1, 2**30  # bytes; glibc takes an int


@dataclass
class Precision:
    """Where the arithmetic happens, and in which type: float32 weights, and bf16 products where ``dtype`` is bf16."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = True

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16)

    @property
    def name(self) -> str:
        return "bf16" if self.dtype is torch.bfloat16 else "float32"


def usable_cores() -> int:
    """The processors this process may use, at least 1: those it is bound to (as by taskset or Slurm), no more than a container's
    quota of time, shared evenly with the processes torchrun started beside it on this machine.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, math.ceil(min(quota(), bound)) // beside)


def quota(root: Path = Path("/")) -> float:
    """Processors' worth of time that control groups (Linux, version 1 or 2) let this process have; infinite where none says."""
    found = [math.inf]
    for folder in _groups(root):
        try:
            if (folder / "cpu.max").is_file():
                allowed, period = (folder / "cpu.max").read_text().split()
            else:
                allowed, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            if allowed not in ("max", "-1"):
                found.append(int(allowed) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(found)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups and of those around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        own = Path(path.lstrip("/"))
        yield from (mount / part for part in (own, *own.parents))


def world_size() -> int:
    """Number of processes that train together; 1 for a single process."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def resolve_device(name: str, kind: str) -> torch.device:
    """The device meant by ``device`` and the engine option; ConfigError where it is not there."""
    if name == "auto":
        name = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "cpu": "cpu", "gpu": "cuda"}[kind]
    device = torch.device(name)
    if device.type == "cuda" and device.index is None and world_size() > 1:
        device = torch.device("cuda", torch.cuda.current_device())  # each process has its own
    if kind != "auto" and (kind == "gpu") != (device.type == "cuda"):
        raise ConfigError(Problem("device", name, f"contradicts engine={kind}", "leave out one of the two"))
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


def resolve_precision(device: torch.device, wanted: str, channels_last: bool) -> Precision:
    """The number format for ``precision``; ``auto`` takes bf16 where the processor computes in it."""
    bf16 = wanted == "bf16" or (wanted == "auto" and computes_bf16(device))
    return Precision(device, torch.bfloat16 if bf16 else torch.float32, channels_last)


def default_threads() -> int:
    """What OMP_NUM_THREADS asks for, else the processors this process may use."""
    asked, beside = os.environ.get("OMP_NUM_THREADS", ""), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if asked.isdigit() and int(asked) > 0 and not (beside > 1 and asked == "1"):  # 1 is what torchrun sets unasked
        return int(asked)
    return usable_cores()


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
