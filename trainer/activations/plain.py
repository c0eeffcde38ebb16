"""A module of the user as the activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.activations.options import Activation
from trainer.plain import Plain

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class ModuleActivation(Activation):
    """A module without an option of its own, a new one for each place; initialization treats it like ReLU."""

    plain: Plain

    @property
    def commutes_with_max(self) -> bool:
        return False

    def build(self) -> nn.Module:
        """Return a new module."""
        return self.plain.object()


def adapted(plain: Plain) -> Activation:
    """Return an activation that makes modules as the config describes."""
    return ModuleActivation(plain=plain)
