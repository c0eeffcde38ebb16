"""The phases of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from trainer.schedules import Schedule


@dataclass(frozen=True)
class Phase:
    """One part of a run: its length, its schedule, which layers are trainable, and their learning rates.

    ``trainable`` is ``all``, ``head``, or the fraction of the layers that are trained, counted from the last one. ``lr``
    is the peak learning rate of the last layer: None takes the optimizer's, ``auto`` leaves it to an LR range test at the
    beginning of the phase. ``lr_ratio`` is the last layer's learning rate divided by the first layer's; between them
    it grows by equal factors.
    """

    name: str
    epochs: float
    schedule: Schedule
    trainable: Literal["all", "head"] | float = "all"
    lr: float | Literal["auto"] | None = None
    lr_ratio: float = 1.0
