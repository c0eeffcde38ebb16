"""How many processors are there for this process."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available() -> int:
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
