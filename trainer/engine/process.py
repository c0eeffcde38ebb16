"""Settings that hold for the whole process."""

from __future__ import annotations

import os
import warnings

import torch

from trainer.engine.options import Engine
from trainer.hardware import Precision, default_threads, keep_freed_memory, usable_cores, world_size


def apply_engine(option: Engine, precision: Precision) -> list[str]:
    """Make the settings of the engine option that hold for the whole process; return a description of them."""
    threads = default_threads() if option.threads == "auto" else option.threads
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = option.tf32
    torch.backends.cudnn.allow_tf32 = option.tf32
    on_gpu = precision.device.type == "cuda"
    set_determinism(option.deterministic, on_gpu)
    if option.keep_memory:
        keep_freed_memory()
    cpu = f"{precision.device.type}, {threads} thread{'s' * (threads != 1)}"
    device = torch.cuda.get_device_name(precision.device) if on_gpu else cpu
    layout = "channels-last" if precision.channels_last else "contiguous"
    processes = f", {world_size()} processes" if world_size() > 1 else ""
    return [f"{device}, {precision.name}, {layout}{processes}", *slow(threads, precision)]


def set_determinism(deterministic: bool, on_gpu: bool) -> None:
    """Let a GPU compute with deterministic algorithms, or with those of cuDNN that are the fastest at the first step."""
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic and on_gpu, warn_only=True)
    # Which would only cost time. The module's attribute is one of a class that replaces it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    if deterministic and on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        # torch warns of operations that have none. That of a maximum is needed where windows overlap; ours do not.
        warnings.filterwarnings("ignore", "adaptive_max_pool2d_backward_cuda does not have a deterministic")


def slow(threads: int, precision: Precision) -> list[str]:
    """Return what of the settings makes the CPU slow: more threads than cores, which wait for each other, and fp16."""
    if precision.device.type != "cpu":
        return []
    notes: list[str] = []
    if threads > usable_cores():
        notes.append(f"{threads} threads on {usable_cores()} cores wait for each other; engine.threads=auto is faster")
    if precision.name == "fp16":
        notes.append("CPUs hardly compute in fp16, which can take many times as long; precision=auto is faster")
    return notes
