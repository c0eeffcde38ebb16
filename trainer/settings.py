"""The settings of a command that belong to no group: how long, with which seed, on which device, into which directory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.errors import check
from trainer.parameters import PositiveFloat, PositiveInt, option

BatchSize = Annotated[
    PositiveInt | Literal["full"],
    Field(description="images per optimizer step; full = batch gradient descent; auto = tried before the run"),
]


@option
class Settings:
    """The scalars of ``conf/train.yaml``."""

    epochs: Annotated[PositiveFloat, Field(description="passes over the training images; fractions are allowed")] = 15.0
    batch_size: BatchSize = 64
    micro_batch: Annotated[
        PositiveInt | None,
        Field(description="images per forward and backward pass, gradients are accumulated; null = the whole batch"),
    ] = None
    seed: Annotated[
        int, Field(ge=0, lt=2**32, description="random seed of initial weights, data order, augmentation, dropout")
    ] = 0
    device: Annotated[str, Field(description="auto (an NVIDIA GPU if available), cpu, cuda, cuda:N or mps")] = "auto"
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "float32"],
        Field(
            description="dtype of matrix products; auto = bf16 if the hardware computes in it, otherwise float32; fp16 = with "
            "loss scaling, for GPUs without bf16"
        ),
    ] = "auto"
    metric: Annotated[
        str,
        Field(
            description="column of the history that selects the best checkpoint, the first of equal ones, such as "
            "validation_loss; auto = of the task"
        ),
    ] = "auto"
    output: Annotated[str | None, Field(description="run directory; null = outputs/<date>/<time>_<overrides>")] = None
    resume: Annotated[str | None, Field(description="run directory to resume")] = None
    checkpoint: Annotated[
        str | None,
        Field(
            description="run directory or checkpoint file, for job=evaluate, predict and export; to train on: resume=..."
        ),
    ] = None
    run: Annotated[str | None, Field(description="run directory, for job=report")] = None
    runs: Annotated[
        tuple[str, ...] | str | None,
        Field(description="run directories [a,b] or a directory that contains them, for job=compare and job=ensemble"),
    ] = None

    def __post_init__(self) -> None:
        kind, _, index = self.device.partition(":")
        valid = self.device in ("auto", "cpu", "cuda", "mps") or (kind == "cuda" and index.isdigit())
        check(self, device=(valid, "must be auto, cpu, cuda, cuda:N or mps"))
