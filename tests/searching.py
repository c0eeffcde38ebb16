"""A search whose trials are a function of the config instead of training: what tests of the search share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.config.load import load_config
from trainer.run_dir import create_run_dir
from trainer.search.run import Part, make_session, take_part
from trainer.search.session import Session
from trainer.search.trial import Outcome

Objective = Callable[[dict[str, Any]], float]
BASE = ("job=search", "data=fake", "optimizer=sgd", "observer=[]")
SPACE = ("job.space.optimizer.lr=log(1e-4,1)", "job.space.optimizer.weight_decay=log(1e-6,1e-2)")
OPENED: list[Session] = []  # whose storages a test has to close


def bowl(tree: dict[str, Any], lr: float = 0.02, weight_decay: float = 1e-4) -> float:
    """An accuracy with a single optimum, 0.9."""
    optimizer = tree["optimizer"]
    distance = abs(math.log10(optimizer["lr"] / lr))
    if optimizer["weight_decay"]:
        distance += abs(math.log10(optimizer["weight_decay"] / weight_decay)) / 4
    return 0.9 / (1 + distance)


def session_of(
    run_dir: Path, objective: Objective, *overrides: str, delay: Callable[[], None] = lambda: None
) -> Session:
    """A process's part of a search over ``objective``."""
    config = load_config([*BASE, *(SPACE if not any("job.space" in o for o in overrides) else ()), *overrides])
    if not (run_dir / "config.yaml").exists():
        create_run_dir(run_dir, config.tree, list(overrides), "test")
    part = Part(config.tree, (), tuple(o for o in overrides if "job" not in o), run_dir)
    session = make_session(part, lambda run, observers: {})

    def run(tree: dict[str, Any], report: Callable[[int, float], bool], test: bool = False, *_: Any) -> Outcome:
        value = objective(tree)
        curve: list[float] = []
        for epoch in range(1, round(tree["epochs"]) + 1):
            delay()
            curve.append(value * (1 - 0.5**epoch))
            if not math.isfinite(value):
                return Outcome("diverged", None)
            if report(epoch, curve[-1]):
                return Outcome("pruned", curve[-1], tuple(curve), tuple(range(1, epoch + 1)), 0.01)
        scores = {"accuracy": value, "loss": 1 - value} if test else None
        return Outcome("done", curve[-1], tuple(curve), tuple(range(1, len(curve) + 1)), 0.01, None, scores)

    OPENED.append(session)
    session.trials.run = run  # type: ignore[method-assign]
    return session


def searched(run_dir: Path, objective: Objective, *overrides: str, **options: Any) -> Session:
    """A search that has been run to its end."""
    session = session_of(run_dir, objective, *overrides, **options)
    session.progress.quiet = True
    take_part(session, run_dir)
    return session


def trials_of(session: Session) -> list[tuple[Any, ...]]:
    """Every trial of a finished search: stage, index, values, seed, state, score."""
    parts = [(stage.name, stage.results) for stage in session.stages] + [("final", session.repetitions)]
    return [(n, r.entry.index, r.point, r.entry.seed, r.state, r.score) for n, results in parts for r in results]
