"""The options of the group ``recipe``: the phases of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trainer.engine.phases import Phase
from trainer.errors import ConfigError, Problem
from trainer.parameters import Field, PositiveFloat, PositiveInt, option

if TYPE_CHECKING:
    from trainer.schedules import Product

LrRatio = Annotated[
    float, Field(ge=1, description="ratio of the last layer's learning rate to the first layer's; 1 = equal")
]


Freeze = Annotated[
    tuple[str | int, ...] | str | int,
    Field(description="names of layers that are never trained, with *, ? and [...], such as layer[12] or [conv1,bn1]"),
]


@option
class Recipe:
    """Base class of the recipes."""

    freeze: Freeze = ()

    @property
    def frozen(self) -> tuple[str, ...]:
        """The patterns of ``freeze``."""
        return tuple(map(str, self.freeze if isinstance(self.freeze, tuple) else (self.freeze,)))

    @property
    def before_last(self) -> tuple[float, str]:
        """The epochs of all phases but the last one, which trains all layers, and the keys that set them."""
        return 0.0, ""

    def problems(self, epochs: float) -> list[Problem]:
        """Return the error that ``epochs`` leaves none to the last phase."""
        used, source = self.before_last
        if epochs > used:
            return []
        text = f"must be > {used:g} ({source}): the last phase, which trains all layers, takes the rest"
        return [Problem("epochs", epochs, text, f"epochs={2 * used:g}")]

    def remaining(self, epochs: float) -> float:
        """Return the epochs left for the last phase; ConfigError if there are none."""
        if problems := self.problems(epochs):
            raise ConfigError(*problems)
        return epochs - self.before_last[0]

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        """The phases of a run of ``epochs`` epochs, each with the schedule stretched over its own length.

        Raises:
            ConfigError: ``epochs`` leaves none to the last phase.
        """
        raise NotImplementedError


@option
class Scratch(Recipe):
    """One phase that trains all layers."""

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        return [Phase("train", epochs, schedule.over(epochs))]


@option
class Transfer(Recipe):
    """One phase that trains the head only; frozen batch norms keep their running statistics."""

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        return [Phase("head", epochs, schedule.over(epochs), "head")]


@option
class Finetune(Recipe):
    """Train the head for ``head_epochs`` epochs at the optimizer's learning rate, then all layers for the rest of ``epochs``.

    In the second phase the peak learning rate is ``lr`` in the head and lr/lr_ratio in the first layer (fastai's
    ``slice(3e-5, 3e-4)`` is lr 3e-4, lr_ratio 10). Each phase goes through the whole schedule. Frozen batch norms keep
    their running statistics.
    """

    head_epochs: Annotated[
        PositiveFloat, Field(description="length of the phase that trains only the head, in epochs; less than epochs")
    ] = 3.0
    lr: Annotated[
        PositiveFloat | Literal["auto"],
        Field(description="peak learning rate of the head in the second phase; auto = by an LR range test"),
    ] = "auto"
    lr_ratio: LrRatio = 10.0

    @property
    def before_last(self) -> tuple[float, str]:
        return self.head_epochs, "recipe.head_epochs"

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        rest = self.remaining(epochs)
        return [
            Phase("head", self.head_epochs, schedule.over(self.head_epochs), "head"),
            Phase("all", rest, schedule.over(rest), lr=self.lr, lr_ratio=self.lr_ratio),
        ]


@option
class Gradual(Recipe):
    """Gradual unfreezing: the head, then more and more of the last layers, then all (Howard & Ruder 2018, arXiv:1801.06146).

    ``stages`` phases of ``stage_epochs`` epochs each train the head, then 1/stages, 2/stages ... of the layers; all
    layers are trained for the rest of ``epochs``. From the second phase on the peak learning rate is ``lr`` in the head
    and lr/lr_ratio in the first layer.
    """

    stages: Annotated[
        PositiveInt,
        Field(
            description="number of phases before all layers are trained: the head, then 1/stages, 2/stages ... of the layers"
        ),
    ] = 3
    stage_epochs: Annotated[PositiveFloat, Field(description="length of each of these phases, in epochs")] = 1.0
    lr: Annotated[
        PositiveFloat | Literal["auto"],
        Field(description="peak learning rate of the head from the second phase on; auto = by an LR range test"),
    ] = "auto"
    lr_ratio: LrRatio = 10.0

    @property
    def before_last(self) -> tuple[float, str]:
        return self.stages * self.stage_epochs, "recipe.stages x recipe.stage_epochs"

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        rest = self.remaining(epochs)
        short = schedule.over(self.stage_epochs)
        head = Phase("head", self.stage_epochs, short, "head")
        between = [
            Phase(f"last {i} of {self.stages}", self.stage_epochs, short, i / self.stages, self.lr, self.lr_ratio)
            for i in range(1, self.stages)
        ]
        return [head, *between, Phase("all", rest, schedule.over(rest), lr=self.lr, lr_ratio=self.lr_ratio)]
