"""MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.engine.view import RunView
from trainer.observers.context import Context
from trainer.observers.tracker import Numbers, TrackerObserver, plain

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from trainer.observers.options import Mlflow

STATUS = {"finished": "FINISHED", "interrupted": "KILLED"}
MAX_VALUE = 6000  # characters of a parameter


class MlflowObserver(TrackerObserver):
    """A run on an MLflow server, or in a database file."""

    name = "mlflow"
    client: MlflowClient  # from `start` on

    def __init__(self, option: Mlflow, context: Context) -> None:
        super().__init__(context, option.files)
        self.option = option
        self.run_id = ""

    def start(self, view: RunView, settings: Mapping[str, object], tracked: str | None) -> str:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        assert view.folder is not None
        address = self.option.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        self.client = MlflowClient(tracking_uri=address)
        if tracked is not None:
            self.run_id = tracked
            self.client.update_run(tracked, status="RUNNING")
            return tracked
        experiment = self.client.get_experiment_by_name(self.option.experiment)
        number = (
            self.client.create_experiment(self.option.experiment) if experiment is None else experiment.experiment_id
        )
        self.run_id = self.client.create_run(number, run_name=view.folder.name).info.run_id
        parameters = [Param(key, str(value)[:MAX_VALUE]) for key, value in plain(settings).items()]
        for begin in range(0, len(parameters), 100):  # at most so many at once
            self.client.log_batch(self.run_id, params=parameters[begin : begin + 100])
        return self.run_id

    def log(self, step: int, values: Numbers) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def finish(self, status: str, scores: Numbers, files: list[tuple[Path, str]]) -> None:
        self.log(0, scores)
        for path, name in files:
            self.client.log_artifact(self.run_id, str(path), str(Path(name).parent) if "/" in name else None)
        self.client.set_terminated(self.run_id, STATUS.get(status, "FAILED"))
