"""The options of the group ``observer``."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

from trainer.errors import check
from trainer.existing import NeedsLibrary
from trainer.parameters import Field, NonNegativeInt, PositiveFloat, PositiveInt, implemented_by, option

Files = Annotated[bool, Field(description="also send the config, the history, the result, the report and best.pt")]


@option
class Checkpoint:
    """Checkpoints ``last.pt``, to resume from, ``best.pt``, to use, and the weights of further epochs.

    See ``trainer.observers.checkpoint``.
    """

    every_epochs: Annotated[PositiveInt, Field(description="number of epochs between two writes of last.pt")] = 1
    every_steps: Annotated[
        PositiveInt | None,
        Field(description="number of steps between additional writes of last.pt; null = only at the end of epochs"),
    ] = None
    keep_best: Annotated[
        NonNegativeInt,
        Field(description="number of the best epochs, by the metric of the run, whose weights are kept in epoch_*.pt"),
    ] = 0
    keep_every: Annotated[
        PositiveInt | None,
        Field(description="number of epochs between two whose weights are kept in epoch_*.pt; null = none"),
    ] = None
    build = implemented_by("trainer.observers.checkpoint:CheckpointObserver")


@option
class Console:
    """Progress in the terminal; see ``trainer.observers.console``."""

    every: Annotated[PositiveFloat, Field(description="seconds between refreshes of the progress bars")] = 0.2
    plain_every: Annotated[
        PositiveFloat, Field(description="seconds between lines within an epoch if the output is not a terminal")
    ] = 30.0
    build = implemented_by("trainer.observers.console:ConsoleObserver")


@option
class Csv:
    """The history as ``history.csv``; see ``trainer.observers.csv_file``."""

    delimiter: Annotated[
        Literal["comma", "semicolon", "tab"],
        Field(description="between the values; semicolon as spreadsheets with a decimal comma need it"),
    ] = "comma"
    build = implemented_by("trainer.observers.csv_file:CsvObserver")


@option
class Diagnosis:
    """Findings about training curves, layers and data; see ``trainer.observers.diagnosis``."""

    every: Annotated[PositiveInt, Field(description="number of steps between two checks for a NaN or Inf loss")] = 50
    probe_steps: Annotated[
        int,
        Field(
            ge=0,
            description="maximum number of steps of the short trainings that tell causes apart without a good fit; 0 = none",
        ),
    ] = 100
    probe_fraction: Annotated[
        float,
        Field(
            gt=0,
            description="fraction of the steps of the run that all short trainings may take together; those of a small network "
            "may take 1e12 operations in any case",
        ),
    ] = 0.1
    build = implemented_by("trainer.observers.diagnosis:DiagnosisObserver")


@option
class Filters:
    """Images of the first layer's filters, a batch, and the schedule; see ``trainer.observers.images``."""

    every: Annotated[PositiveInt, Field(description="number of epochs between two images of the filters")] = 1
    images: Annotated[PositiveInt, Field(description="number of images of the first batch to draw")] = 8
    build = implemented_by("trainer.observers.images:FiltersObserver")


@option
class Histograms:
    """Statistics of activations, gradients and weights; see ``trainer.observers.histograms``."""

    every: Annotated[
        int,
        Field(ge=2, description="number of steps between two snapshots, a multiple of it in runs of over 50 snapshots"),
    ] = 200
    images: Annotated[
        PositiveInt, Field(description="number of images of the batch for which activations are computed")
    ] = 32
    build = implemented_by("trainer.observers.histograms:HistogramsObserver")


@option
class HistoryFile:
    """The history as ``history.jsonl``; see ``trainer.observers.history_file``."""

    build = implemented_by("trainer.observers.history_file:HistoryFileObserver")


@option
class Predictions:
    """Confusion matrices, labels, numbers and the largest errors at the end; see ``trainer.observers.predictions``."""

    worst: Annotated[
        PositiveInt, Field(description="number of the largest errors to draw, by loss or in standard deviations")
    ] = 24
    grad_cam: Annotated[
        NonNegativeInt,
        Field(
            description="number of the largest errors of a task with classes whose evidence Grad-CAM shows; 0 = none"
        ),
    ] = 8
    embedding: Annotated[
        Literal["none", "pca", "umap"],
        Field(
            description="two dimensions in which the penultimate layer is drawn: principal components, or UMAP (umap-learn)"
        ),
    ] = "pca"
    embedded: Annotated[
        int, Field(ge=3, description="number of images in the embedding, the first ones of the split")
    ] = 500
    build = implemented_by("trainer.observers.predictions:PredictionsObserver")

    def __post_init__(self) -> None:
        usable = self.embedding != "umap" or find_spec("umap") is not None
        check(self, embedding=(usable, "needs umap-learn, which is not installed: pip install umap-learn, or use pca"))


@option
class Profile:
    """A profile of some steps; see ``trainer.observers.profile``."""

    skip: Annotated[PositiveInt, Field(description="number of warmup steps before the profile")] = 10
    steps: Annotated[PositiveInt, Field(description="number of profiled steps, which are slower than others")] = 10
    build = implemented_by("trainer.observers.profile:ProfileObserver")


@option
class Report:
    """The report, as Markdown and HTML; see ``trainer.observers.report``."""

    build = implemented_by("trainer.observers.report:ReportObserver")


@option
class TensorBoard:
    """Events for TensorBoard; see ``trainer.observers.tensorboard``."""

    every: Annotated[
        PositiveInt, Field(description="number of steps between two values of batch loss and learning rate")
    ] = 10
    graph: Annotated[bool, Field(description="also write the graph of the model, which takes a few seconds")] = False
    build = implemented_by("trainer.observers.tensorboard:TensorBoardObserver")


@option
class Wandb(NeedsLibrary):
    """A run in Weights & Biases: the config, the history, the scores of the best weights, and its files.

    A run that is resumed continues the same run there. With ``mode=offline`` everything is written into the run directory, and
    ``wandb sync`` sends it. Needs ``pip install 'trainer[wandb]'``; ``wandb login`` asks for the key once.
    """

    library: ClassVar[str] = "wandb"
    project: Annotated[str, Field(min_length=1, description="project that the run belongs to")] = "trainer"
    entity: Annotated[str | None, Field(description="user or team; null = the default of the account")] = None
    mode: Annotated[
        Literal["online", "offline", "disabled"], Field(description="offline = in the run directory, for wandb sync")
    ] = "online"
    files: Files = True
    build = implemented_by("trainer.observers.wandb:WandbObserver")


@option
class Mlflow(NeedsLibrary):
    """A run in MLflow: the config, the history, the scores of the best weights, and its files.

    A run that is resumed continues the same run there. Needs ``pip install 'trainer[mlflow]'``.
    """

    library: ClassVar[str] = "mlflow"
    uri: Annotated[
        str | None,
        Field(description="server or database; null = MLFLOW_TRACKING_URI, else the file mlflow.db in this directory"),
    ] = None
    experiment: Annotated[str, Field(min_length=1, description="experiment that the run belongs to")] = "trainer"
    files: Files = True
    build = implemented_by("trainer.observers.mlflow:MlflowObserver")
