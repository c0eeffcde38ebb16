"""Environment variables of this process: those that torchrun sets, and those that libraries read when they are imported."""

from __future__ import annotations

import os


def launched_processes() -> int:
    """Return how many processes torchrun, or a launcher that sets its variables, has started; 0 without one."""
    return int(os.environ["WORLD_SIZE"]) if "WORLD_SIZE" in os.environ and "RANK" in os.environ else 0


def launched_rank() -> int:
    """Return the rank that torchrun gave this process; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def local_processes() -> int:
    """Return how many processes torchrun started on this machine; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def configure_libraries() -> None:
    """Set what libraries read when they are imported; what the user has set stays."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version
    if "OMP_WAIT_POLICY" not in os.environ:
        # OpenMP's threads wait for each other by spinning, by default for milliseconds, which takes time from other
        # programs: an epoch of two simultaneous runs took 12.2 s each, with this 3.5 s; alone, 0.53 s both ways.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if int(os.environ.get("WORLD_SIZE", "0")) > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of what distributed.wrap does on purpose


def configure_own_process() -> None:
    """Set what holds in a process that runs nothing but ``train``, and in those that it starts."""
    # The backend of a notebook, inherited by a command started there, may not be installed here.
    os.environ["MPLBACKEND"] = "agg"
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # worker processes import nothing from the working directory
