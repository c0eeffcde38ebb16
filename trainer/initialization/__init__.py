"""Initialization of the weights."""

from trainer.initialization.options import Initialization, Pretrained

__all__ = ["Initialization", "Pretrained"]
