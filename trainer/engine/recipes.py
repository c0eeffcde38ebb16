"""The options of the group ``recipe``: the phases of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.errors import ConfigError, Problem, check

if TYPE_CHECKING:
    from trainer.engine.run import Phase
    from trainer.schedules import Product


@dataclass(frozen=True)
class Scratch:
    """One phase: everything is trained from the beginning to the end."""

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        from trainer.engine.run import Phase

        return [Phase("train", epochs, schedule.over(epochs))]


@dataclass(frozen=True)
class Transfer:
    """One phase in which the head alone is trained; frozen batch norms keep the statistics they came with."""

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        from trainer.engine.run import Phase

        return [Phase("head", epochs, schedule.over(epochs), "head")]


@dataclass(frozen=True)
class Finetune:
    """The head alone for ``head_epochs`` at the optimizer's rate, then all layers for the rest of ``epochs``.

    In the second phase the head's peak rate is ``lr`` (``auto``: a range test's as the phase begins, or a tenth of the
    optimizer's where that sees nothing but noise) and the stem's is
    lr/span, the layers between rising by equal factors (fastai's slice(3e-5, 3e-4) is lr 3e-4, span 10). Each phase goes
    through the whole schedule. Frozen batch norms keep their statistics.
    """

    head_epochs: float = 3.0
    lr: float | Literal["auto"] = "auto"
    span: float = 10.0

    def __post_init__(self) -> None:
        check(
            self,
            head_epochs=(self.head_epochs > 0, "must be > 0 epochs; recipe=scratch trains all layers at once"),
            lr=(self.lr == "auto" or self.lr > 0, "must be > 0, or auto"),
            span=(self.span >= 1, "must be >= 1; 1 = all layers at one rate"),
        )

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        from trainer.engine.run import Phase

        rest = left(epochs, self.head_epochs, "recipe.head_epochs")
        return [
            Phase("head", self.head_epochs, schedule.over(self.head_epochs), "head"),
            Phase("all", rest, schedule.over(rest), lr=self.lr, span=self.span),
        ]


@dataclass(frozen=True)
class Gradual:
    """The head alone, then ever more layers from the head to the stem, then all (Howard & Ruder 2018, arXiv:1801.06146).

    ``stages`` phases of ``stage_epochs`` each train the head, then 1/stages, 2/stages ... of the layers; all layers train for
    the rest of ``epochs``. From the second phase on the head's peak rate is ``lr``, the stem's lr/span.
    """

    stages: int = 3
    stage_epochs: float = 1.0
    lr: float | Literal["auto"] = "auto"
    span: float = 10.0

    def __post_init__(self) -> None:
        check(
            self,
            stages=(self.stages >= 1, "must be >= 1"),
            stage_epochs=(self.stage_epochs > 0, "must be > 0 epochs"),
            lr=(self.lr == "auto" or self.lr > 0, "must be > 0, or auto"),
            span=(self.span >= 1, "must be >= 1; 1 = all layers at one rate"),
        )

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        from trainer.engine.run import Phase

        rest = left(epochs, self.stages * self.stage_epochs, "recipe.stages x recipe.stage_epochs")
        short = schedule.over(self.stage_epochs)
        head = Phase("head", self.stage_epochs, short, "head")
        between = [
            Phase(f"last {i} of {self.stages}", self.stage_epochs, short, i / self.stages, self.lr, self.span)
            for i in range(1, self.stages)
        ]
        return [head, *between, Phase("all", rest, schedule.over(rest), lr=self.lr, span=self.span)]


def left(epochs: float, taken: float, by: str) -> float:
    """The epochs that the phases before the last leave to it; ConfigError where none are left."""
    if epochs <= taken:
        text = f"must be more than the {taken:g} of {by}: the rest trains all layers"
        raise ConfigError(Problem("epochs", epochs, text, f"epochs={2 * taken:g}"))
    return epochs - taken
