"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.engine.view import RunView
from trainer.observers.context import Context
from trainer.observers.tracker import Numbers, TrackerObserver, plain

if TYPE_CHECKING:
    import wandb

    from trainer.observers.options import Wandb


class WandbObserver(TrackerObserver):
    """A run in Weights & Biases; with ``mode=offline`` in the run directory, for ``wandb sync``."""

    name = "wandb"
    run: wandb.Run  # from `start` on

    def __init__(self, option: Wandb, context: Context) -> None:
        super().__init__(context, option.files)
        self.option = option

    def start(self, view: RunView, settings: Mapping[str, object], tracked: str | None) -> str:
        import wandb

        assert view.folder is not None
        self.run = wandb.init(
            project=self.option.project,
            entity=self.option.entity,
            name=view.folder.name,
            id=tracked or view.id or None,
            resume="allow",
            mode=self.option.mode,
            dir=str(view.folder.absolute()),  # the service that writes has a working directory of its own
            config=plain(settings),
            settings=wandb.Settings(silent=True, console="off", disable_code=True, disable_git=True),
        )
        self.run.define_metric("*", step_metric="step")
        return self.run.id

    def log(self, step: int, values: Numbers) -> None:
        self.run.log({**values, "step": step})

    def finish(self, status: str, scores: Numbers, files: list[tuple[Path, str]]) -> None:
        import wandb

        self.run.summary.update({**scores, "status": status})
        if files:
            artifact = wandb.Artifact(f"run-{self.run.id}", type="run")
            for path, name in files:
                artifact.add_file(str(path), name=name)
            self.run.log_artifact(artifact)
        self.run.finish(exit_code=0 if status in ("finished", "interrupted") else 1)
