"""Tasks: what is learned from the labels. Losses, class weights, several labels, numbers, and several tasks at once."""

from trainer.tasks.multitask_options import Multitask
from trainer.tasks.options import Classification, Multilabel, Regression, SingleTask

__all__ = ["Classification", "Multilabel", "Multitask", "Regression", "SingleTask"]
