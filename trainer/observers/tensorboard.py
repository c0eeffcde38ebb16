"""TensorBoard: train and validation curves on one chart, what varies by the step, the config, and the HPARAMS tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.analysis.comparison import flat_settings
from trainer.errors import check
from trainer.observers import Observer
from trainer.observers.event_writer import writer

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.engine.run import Run

SPLITS = {"train": "train_", "validation": "validation_", "averaged": "averaged_"}


@dataclass
class TensorBoard(Observer):
    """Writes events into ``<run>/train``, ``<run>/validation`` and, with averaging, ``<run>/averaged``: sub-runs whose tags
    are the same, so that their curves share a chart. Batch loss and rates are noted at every ``every``-th step and
    written at the end of the epoch, so that no step waits for the device. The HPARAMS tab has a line for the run from its first
    step on. ``graph``: also the network's graph.
    """

    every: int = 10
    graph: bool = False

    def __post_init__(self) -> None:
        check(self, every=(self.every >= 1, "must be >= 1 step"))

    def on_fit_start(self, run: Run) -> None:
        self.losses: list[Tensor] = []
        self.steps: list[tuple[int, float, float | None]] = []
        if run.folder is None:
            return
        from omegaconf import OmegaConf

        writer(run, "train").add_text("config", "    " + OmegaConf.to_yaml(run.info.config).replace("\n", "\n    "))
        board = writer(run, "train")
        board.add_text("notes", "\n\n".join(run.notes))
        board.add_custom_scalars(LAYOUT)
        hparams_begin(board, plain(flat_settings(run.info.config)))
        if self.graph:
            draw_graph(run, board)

    def on_step_end(self, run: Run) -> None:
        if run.clock.step % self.every or run.loss is None:
            return
        group = run.optimizer.param_groups[0]
        momentum = group.get("momentum", group.get("betas", (None,))[0])
        self.losses.append(run.loss)
        self.steps.append((run.clock.step, run.lr, momentum))

    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None:
        if run.folder is None:
            return
        self._flush_steps(run)
        for split, prefix in SPLITS.items():
            for name in ("loss", "accuracy"):
                if row.get(prefix + name) is not None:
                    writer(run, split).add_scalar(name, row[prefix + name], row["step"])
        writer(run, "train").add_scalar("speed/images_per_second", row["images_per_second"], row["step"])
        self._score(run, row)
        for board in run.writers.values():
            board.flush()

    def _flush_steps(self, run: Run) -> None:
        import torch

        if not self.steps:
            return
        board = writer(run, "train")
        for (step, rate, momentum), loss in zip(self.steps, torch.stack(self.losses).tolist(), strict=True):
            board.add_scalar("batch/loss", loss, step)
            board.add_scalar("batch/lr", rate, step)
            if momentum is not None:
                board.add_scalar("batch/momentum", momentum, step)
        self.losses, self.steps = [], []

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        if run.folder is None:
            return
        self._flush_steps(run)
        board = writer(run, "train")
        for part in ("validation", "test"):
            for name, value in (result.get(part) or {}).items():
                if value is not None:
                    board.add_scalar(f"{part}/{name}", value, run.clock.step)
        hparams_end(board, finished=result.get("status") == "finished")

    def _score(self, run: Run, row: dict[str, Any]) -> None:
        """The best and the present scores for the HPARAMS tab, at every epoch, so that a killed run has its line too."""
        if run.best is None:
            return
        best, board = run.history[run.best["row"]], writer(run, "train")
        part = "validation" if run.validation is not None else "train"
        for name in ("accuracy", "loss"):
            for tag, found in ((f"{part}/{name}", best), (f"last/{part}_{name}", row)):
                if found.get(f"{part}_{name}") is not None:
                    board.add_scalar(tag, found[f"{part}_{name}"], row["step"])


METRICS = (
    "validation/accuracy",
    "validation/loss",
    "test/accuracy",
    "test/loss",
    "last/validation_accuracy",
    "last/validation_loss",
)
LAYOUT = {
    "learning": {"loss": ["Multiline", ["^loss$"]], "accuracy": ["Multiline", ["^accuracy$"]]},
    "steps": {
        "rate": ["Multiline", ["batch/lr"]],
        "norm of the gradient": ["Multiline", ["layers/gradient_norm"]],
        "update-to-weight ratio by layer": ["Multiline", ["update_to_weight/.*"]],
    },
    "units": {"dead": ["Multiline", ["dead/.*"]], "saturated": ["Multiline", ["saturated/.*"]]},
}


def hparams_begin(board: Any, settings: dict[str, Any]) -> None:
    """The run's line in the HPARAMS tab, in the run itself: ``add_hparams`` would make another run for it, with metrics of -1.

    It is written before training, and its scores as the run goes, so that a run which is killed has a line as well.
    """
    from torch.utils.tensorboard.summary import hparams

    experiment, start, _ = hparams(settings, dict.fromkeys(METRICS, 0.0))
    board.file_writer.add_summary(experiment)
    board.file_writer.add_summary(start)


def hparams_end(board: Any, finished: bool) -> None:
    """How the run ended, for the HPARAMS tab; torch knows success only."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore
    from torch.utils.tensorboard.summary import hparams

    *_, end = hparams({}, {})
    if not finished:
        plugin = end.value[0].metadata.plugin_data
        content: Any = HParamsPluginData.FromString(plugin.content)
        content.session_end_info.status = 2  # STATUS_FAILURE of its api.proto
        plugin.content = content.SerializeToString()
    board.file_writer.add_summary(end)


def draw_graph(run: Run, board: Any) -> None:
    """The network's graph, traced with one blank picture; a network that cannot be traced is told of in the notes."""
    import warnings

    import torch

    from trainer.observers.no_side_effects import eval_mode

    x = torch.zeros((1, *run.info.shape), device=run.precision.device)
    with warnings.catch_warnings(), eval_mode(run.model), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # tracing warns of every size that becomes a constant
        try:
            board.add_graph(run.model, x)
        except Exception as error:  # whatever tracing a network of the user's may raise
            run.notes.append(f"no graph for TensorBoard: {str(error).splitlines()[0]}")


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with values that TensorBoard takes.

    >>> plain({"seed": 0, "widths": (1, 2), "resume": None})
    {'seed': 0, 'widths': '[1, 2]'}
    """
    known = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items() if v is not None}
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in known.items()}
