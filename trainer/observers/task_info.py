"""What the files of a run say about its tasks."""

from __future__ import annotations

import math

import numpy as np

from trainer.data.sampling import class_quotas
from trainer.data.targets import Target, is_missing
from trainer.engine.view import RunView
from trainer.measurements import TaskInfo
from trainer.tasks import Classification
from trainer.tasks.part import Part
from trainer.tree import value_at


def task_info(view: RunView, part: Part) -> TaskInfo:
    """What is known of a task and its target."""
    spec, option, weights = part.spec, part.option, part.class_weights()
    info = TaskInfo(
        name=part.name,
        target=spec.target,
        kind=spec.kind,
        main_metric=option.main_metric,
        classes=list(part.classes),
        class_counts=list(spec.counts),
        class_weights=weights,
    )
    if view.validation is not None and spec.masked:
        missing = is_missing(Target(spec.target, spec.kind, spec.classes), view.validation.dataset.target(spec.target))
        info["validation"] = int((~missing).reshape(len(missing), -1).any(1).sum())
    if spec.kind == "classification":
        fractions = [count / max(sum(spec.counts), 1) for count in spec.counts]
        entropy = info["prior_entropy"] = -sum(p * math.log(p) for p in fractions if p)
        info["guessing_loss"] = entropy if is_unweighted_cross_entropy(part) else part.guessing_loss()
        sampling = value_at(view.info.config, "data", "sampling")
        if sampling in ("balanced", "sqrt") and part is view.task.class_part:
            info["epoch_counts"] = class_quotas(np.array(spec.counts), sampling).tolist()
        info["remedies"] = imbalance_remedies(view, part, sampled="epoch_counts" in info)
    else:
        info["guessing_loss"] = part.guessing_loss()
    return info


def batch_classes(view: RunView) -> int | None:
    """How many classes the images of the batch have; None of several tasks, of one without classes, and if regularization makes
    more than two classes of an image the most probable ones.
    """
    part = view.task.parts[0]
    if len(view.task.parts) > 1 or not part.has_classes or view.batch is None:
        return None
    targets = view.batch[1][:, part.values]
    if bool(((targets > targets.amax(1, keepdim=True) - 1e-3).sum(1) > 2).any()):
        return None
    return len(targets.argmax(1).unique())


def is_unweighted_cross_entropy(part: Part) -> bool:
    """Whether the loss of guessing is the entropy of the frequencies."""
    return (
        isinstance(part.option, Classification) and part.option.loss == "cross_entropy" and part.class_weights() is None
    )


def imbalance_remedies(view: RunView, part: Part, sampled: bool) -> list[str]:
    """Overrides against class imbalance that the run does not have yet."""
    metric = f"validation_{part.column('balanced_accuracy')}"
    own_metric, own_weights = view.metric == metric, sampled or part.class_weights() is not None
    # What changes training first: the metric alone chooses another epoch, but not another network.
    remedies = (
        []
        if own_weights
        else ["task.class_weights=balanced" if view.task.option is None else override_of_task(view, part)]
    )
    if not own_weights and part is view.task.class_part:
        remedies.append("data.sampling=balanced")  # instead of weights
    return remedies + ([] if own_metric else [f"metric={metric}"])


def override_of_task(view: RunView, part: Part) -> str:
    """The override that balances one of several tasks; where the config names the tasks, what to add to it."""
    option = view.task.option
    assert option is not None
    if option.tasks is not None:
        return f"class_weights: balanced in task.tasks.{part.name}"
    tables = (f"{p.name}:{'{class_weights:balanced}' if p is part else '{}'}" for p in view.task.parts)
    return f"task.tasks={{{','.join(tables)}}}"
