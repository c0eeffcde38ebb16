"""Memory: a run does not grow with its epochs."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.observer import Observer
from trainer.observers.context import Context, build_observers
from trainer.run_dir import create_run_dir


def resident() -> float:
    """Resident memory of this process in MiB."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.slow
def test_memory_does_not_grow_over_two_hundred_epochs_with_the_default_observers(tmp_path):
    overrides = [
        "data=fake",
        "data.size=8",
        "data.count=60",
        "data.num_classes=3",
        "architecture.widths=[4]",
        "batch_size=16",
    ]
    overrides += [
        "epochs=200",
        "averaging=ema",
        "regularizer=[mixup,dropout]",
        "augmentation=[crop,flip]",
        "schedule=[clr]",
    ]
    config = load_config([*overrides, "device=cpu"])
    run = build(config, tmp_path / "run")
    create_run_dir(tmp_path / "run", config.tree, overrides, "cpu")
    measured: list[tuple[float, int]] = []

    class Measure(Observer):
        def on_epoch_end(self, view: Any, row: Any) -> None:
            if view.epochs_done in (60, 200):
                gc.collect()
                measured.append((resident(), len(gc.get_objects())))

    fit(run, [*build_observers(config.observer.values(), Context(run)), Measure()])
    (memory_60, objects_60), (memory_200, objects_200) = measured
    assert memory_200 - memory_60 < 8, f"{memory_200 - memory_60:.1f} MiB more after 140 epochs"
    assert objects_200 - objects_60 < 140 * 40, "a row of the history is about ten objects per epoch"
