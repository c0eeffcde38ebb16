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

from trainer.environment import local_processes
from trainer.errors import ConfigError, Problem
from trainer.gpus import gpus_here

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
NEVER, LARGEST = -1, 2**30  # bytes, as the int that glibc expects

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}


@dataclass
class Precision:
    """Device, dtype and memory format of the computation. Weights are float32; products are computed in the dtype."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = True

    def autocast(self) -> torch.autocast:
        """Context manager in which torch computes in this precision."""
        dtype = torch.float16 if self.dtype is torch.float16 else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.dtype is not torch.float32)

    @property
    def name(self) -> str:
        """``bf16``, ``fp16`` or ``float32``."""
        return next(name for name, dtype in DTYPES.items() if dtype is self.dtype)


def usable_cores() -> int:
    """Number of CPU cores that this process may use, at least 1.

    These are the cores it is bound to (by taskset or Slurm, for example), at most a container's CPU quota, divided by
    the number of processes that torchrun started on this machine.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(quota(), bound)) // local_processes())


def quota(root: Path = Path("/")) -> float:
    """CPU quota of this process's control groups (Linux, version 1 or 2), in cores; infinite without a limit."""
    quotas = [math.inf]
    for folder in _groups(root):
        try:
            if (folder / "cpu.max").is_file():
                allowed, period = (folder / "cpu.max").read_text().split()
            else:
                allowed, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            if allowed not in ("max", "-1"):
                quotas.append(int(allowed) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas)


def _groups(root: Path, controller: str = "cpu") -> Iterator[Path]:
    """The directories of this process's control groups and of their parents."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        own = Path(path.lstrip("/"))
        yield from (mount / part for part in (own, *own.parents))


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes of main memory that this process may still use, at most what its control groups leave (Linux); None if unknown."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    for folder in _groups(root, "memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                free = min(free, int((folder / limit).read_text()) - int((folder / used).read_text()))
            except (OSError, ValueError):  # no such file, or "max"
                continue
    return max(0, free)


def world_size() -> int:
    """Number of processes that train together; 1 for a single process."""
    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if started else 1


def resolve_device(name: str, kind: str) -> torch.device:
    """The device that ``device`` and the engine option name; ConfigError if this machine does not have it."""
    if name == "auto":
        name = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "cpu": "cpu", "gpu": "cuda"}[kind]
    device = torch.device(name)
    if device.type == "cuda" and device.index is None and world_size() > 1:
        device = torch.device("cuda", torch.cuda.current_device())  # each rank has its own
    if kind != "auto" and (kind == "gpu") != (device.type != "cpu"):
        raise ConfigError(Problem("device", name, f"contradicts engine={kind}", "leave out one of the two"))
    if device.type == "cuda":
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= gpus:
            text = gpus_here(gpus) if gpus else "torch sees no GPU here"
            raise ConfigError(Problem("device", name, text, "device=cpu, or device=auto"))
        if world_size() > 1 and local_processes() > gpus:
            text = f"torchrun has started {local_processes()} processes on this machine, and {gpus_here(gpus)}"
            raise ConfigError(Problem("device", name, text, f"torchrun --nproc-per-node={gpus}, or device=cpu"))
    if device.type == "mps" and (reason := why_no_mps()):
        raise ConfigError(Problem("device", name, reason, "device=cpu, or device=auto"))
    return device


def why_no_mps() -> str:
    """Why torch cannot compute on the GPU of a Mac here; empty if it can."""
    if not torch.backends.mps.is_built():
        return "the installed torch is built without MPS, which there is for macOS only"
    return "" if torch.backends.mps.is_available() else "needs Apple silicon and macOS 14 or later"


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished, so that wall-clock times are meaningful."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """The dtype of sums over an epoch: float64, but on MPS, which does not have it, float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def computes_bf16(device: torch.device) -> bool:
    """Whether the device supports bf16 products in hardware, so that bf16 is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "mps":
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False


def resolve_precision(device: torch.device, name: str, channels_last: bool) -> Precision:
    """The precision that ``precision`` names; ``auto`` is bf16 if the device supports it in hardware, else float32."""
    if name == "auto":
        name = "bf16" if computes_bf16(device) else "float32"
    return Precision(device, DTYPES[name], channels_last)


def default_threads() -> int:
    """Number of CPU threads: OMP_NUM_THREADS if it is set, else the cores that this process may use."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    set_by_torchrun = local_processes() > 1 and setting == "1"  # its default
    if setting.isdigit() and int(setting) > 0 and not set_by_torchrun:
        return int(setting)
    return usable_cores()


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next step instead of returning it to the kernel, and return whether it does.

    torch is made to use pages of 2 MiB for large tensors (it reads the setting at its first one): page faults for memory
    that could not be reused then cost a hundredth. Without glibc, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, NEVER)) and bool(mallopt(M_MMAP_THRESHOLD, LARGEST))
