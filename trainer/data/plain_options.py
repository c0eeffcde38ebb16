"""A data set of the user, with the interface of ``torch.utils.data.Dataset``, as an option."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.options import WithoutTestSplit
from trainer.errors import ConfigError, Problem
from trainer.parameters import implemented_by
from trainer.plain import Plain


@dataclass(frozen=True, kw_only=True)
class PlainDataset(WithoutTestSplit):
    """A class with ``__len__`` and ``__getitem__``, which returns an image and its class.

    One with a parameter ``train`` is made twice, for training and for testing; of another one, ``test`` images are held out.
    """

    plain: Plain
    read = implemented_by("trainer.data.plain:read_plain")


def adapted(plain: Plain) -> PlainDataset:
    """Return a data set that reads all images of what the config describes; ConfigError if it has no images by number."""
    target = plain.target
    if isinstance(target, type) and not (hasattr(target, "__getitem__") and hasattr(target, "__len__")):
        text = f"{plain.name} must have the methods __len__ and __getitem__, as torch.utils.data.Dataset"
        raise ConfigError(Problem("", None, text, "see docs/own_components.md"))
    return PlainDataset(plain=plain, **plain.settings)
