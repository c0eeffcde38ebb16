"""The doctor: all checks, in order."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.builder import build, load_splits
from trainer.jobs.doctor.data import check_data
from trainer.jobs.doctor.network import initial_loss, memory, signals, speed
from trainer.jobs.doctor.suspects import find_suspects
from trainer.jobs.doctor.table import show
from trainer.jobs.doctor.training import SMALL_WEIGHT_DECAY, learning_rates, overfit_batches, without_regularization
from trainer.report.suspects import write_suspects
from trainer.run_dir import check_available, create_run_dir, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Doctor


def doctor(option: Doctor, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Doctor``."""
    check_available(run_dir)
    splits = load_splits(config)
    run = build(config, run_dir, splits)
    create_run_dir(run_dir, config.tree, overrides, run.notes[0])
    plain = without_regularization(config)
    suspects, suspicions = find_suspects(config, splits, option.folds)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    parts = {name: images for name, images in parts.items() if images is not None}
    write_suspects(run_dir, suspects, parts, splits.classes, run_dir / "suspects.png")
    checks = [
        *check_data(splits),
        *suspicions,
        initial_loss(run),
        *signals(run),
        overfit_batches(option, plain, splits),
        learning_rates(option, without_regularization(config, SMALL_WEIGHT_DECAY), splits, run.optimizer_option.lr),
        speed(run),
        memory(run),
    ]
    healthy = not any(check.status == "fail" for check in checks)
    result = {"status": "finished", "stop_reason": "examined", "healthy": healthy}
    write_json(run_dir / "result.json", result | {"checks": [asdict(check) for check in checks]})
    show(checks, run_dir)
    return 0 if healthy else 1
