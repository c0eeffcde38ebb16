"""Memory: what a run holds does not grow with its epochs."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from trainer.build import build
from trainer.config.compose import compose
from trainer.config.schema import resolve
from trainer.engine.loop import fit
from trainer.run_dir import create_run_dir


def resident() -> float:
    """MiB of this process in memory."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def test_two_hundred_epochs_with_all_observers_do_not_grow(tmp_path):
    words = [
        "data=fake",
        "data.size=8",
        "data.count=60",
        "data.num_classes=3",
        "architecture.widths=[4]",
        "batch_size=16",
    ]
    words += [
        "epochs=200",
        "averaging=ema",
        "regularizer=[mixup,dropout]",
        "augmentation=[crop,flip]",
        "schedule=[clr]",
    ]
    config = resolve(compose([*words, "device=cpu"]))
    run = build(config, tmp_path / "run")
    create_run_dir(tmp_path / "run", config.tree, words, "cpu")
    seen: list[tuple[float, int]] = []

    class Look:
        def on_epoch_end(self, run: Any, row: dict[str, Any]) -> None:
            if len(run.history) in (60, 200):
                gc.collect()
                seen.append((resident(), len(gc.get_objects())))

        on_fit_start = on_step_end = on_fit_end = lambda self, run, result=None: None

    fit(run, [*config.observer.values(), Look()])
    (before, objects), (after, more) = seen
    assert after - before < 8, f"{after - before:.1f} MiB more after 140 epochs"
    assert more - objects < 140 * 40, "a row of the history is some ten objects an epoch"
