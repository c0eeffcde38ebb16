"""Where a run is written: readable folder names, and the files which say how to repeat it."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

# What only says where or how fast a run is made would clutter its name.
UNNAMED = ("output", "resume", "checkpoint", "device", "hydra", "observer", "engine")


def slug(overrides: list[str], longest: int = 100) -> str:
    """The overrides as part of a file name.

    >>> slug(["optimizer=adam", "schedule=[warmup,cosine]", "optimizer.lr=0.01", "output=/tmp/x"])
    'optimizer=adam,schedule=warmup+cosine,optimizer.lr=0.01'
    """
    kept = [o for o in overrides if not o.lstrip("+~").startswith(UNNAMED)]
    text = ",".join(re.sub(r"[\[\]{}'\"]", "", o.replace(",", "+")) for o in kept)
    text = re.sub(r"[^\w.,=+~-]+", "-", text).strip("-")
    return text if len(text) <= longest else text[: longest - 1] + "~"


def run_folder(overrides: list[str], now: datetime | None = None) -> Path:
    """A new folder's path, ``outputs/<date>/<time>_<overrides>``; a number is added where it exists already."""
    now = now or datetime.now()
    name = "_".join(filter(None, [now.strftime("%H-%M-%S"), slug(overrides)]))
    folder = Path("outputs") / now.strftime("%Y-%m-%d") / name
    taken, number = folder, 1
    while taken.exists():
        number += 1
        taken = folder.with_name(f"{folder.name}_{number}")
    return taken


def sweep_folder(output: str | None) -> str:
    """The folder of a whole sweep (a resolver for ``conf/train.yaml``)."""
    return output or datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S_sweep")


def job_folder() -> str:
    """The folder of one job of a sweep, inside the sweep's (a resolver for ``conf/train.yaml``)."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    return "_".join(filter(None, [str(hydra.job.num), slug(list(hydra.overrides.task))]))
