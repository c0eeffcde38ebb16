"""Activations."""

from trainer.activations.options import Activation

__all__ = ["Activation"]
