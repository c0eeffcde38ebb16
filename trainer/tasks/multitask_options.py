"""Several tasks at once as an option of the config: which, how they share a network, and how their losses are weighted."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.construct import construct
from trainer.errors import ConfigError, Problem, check, nearest
from trainer.history import WITH_CLASS
from trainer.parameters import NonNegativeFloat, PositiveFloat, implemented_by, option
from trainer.tasks.options import KINDS, SingleTask

if TYPE_CHECKING:
    from trainer.data.targets import Kind, Target


NO_KEYS: dict[str, object] = {}  # of a task that is as its target


@option
class Multitask:
    """Several named tasks on the same images, each of the kind of its target.

    ``sharing=hard``: one network with one head per task. ``sharing=soft``: one network per task, and
    strength·Σ ‖θ − mean θ‖² over the weights of the first layers is added to the loss (Duong et al. 2015), or their trace
    norm (Yang & Hospedales 2017, arXiv:1606.04038). Weights of the losses L:

    - ``fixed``: Σ weight·L
    - ``uncertainty``: Σ weight·c·L/σ² + log σ with c = ½ for numbers and 1 for classes; the log variances are learned at
      their own learning rate, without decay (Kendall et al. 2018, arXiv:1705.07115)
    - ``dwa``: by the ratio of the last two epochs' losses, softmax with a temperature (Liu et al. 2019, arXiv:1803.10704)
    - ``gradnorm``: equal training rates by the norms of the gradients of the last shared layer (Chen et al. 2018,
      arXiv:1711.02257)

    Columns of the history are prefixed by the name of the task. ``loss`` is Σ weight·L with the weights of the config, so that
    it can be compared between epochs and between weightings. A missing label leaves its image out of that task's loss.
    """

    tasks: Annotated[
        dict[str, dict[str, object]] | None,
        Field(
            description="by name, the keys of task=classification, multilabel or regression and optionally kind;"
            " null = one for each target of the data"
        ),
    ] = None
    main: Annotated[
        str | None,
        Field(
            description="task that selects the best epoch, and the only one that is tested, predicts and is exported; null = all"
        ),
    ] = None
    sharing: Annotated[
        Literal["hard", "soft"], Field(description="one network with a head per task, or one network per task")
    ] = "hard"
    strength: Annotated[
        NonNegativeFloat | None, Field(description="of soft sharing: factor of the distance; null = 0.01; 0 = none")
    ] = None
    distance: Annotated[
        Literal["l2", "trace_norm"] | None, Field(description="of soft sharing: what is penalized; null = l2")
    ] = None
    layers: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Field(
            description="of soft sharing: fraction of the layers, from the first on; null = 1; heads are never shared"
        ),
    ] = None
    weighting: Annotated[
        Literal["fixed", "uncertainty", "dwa", "gradnorm"], Field(description="how the weights of the losses are found")
    ] = "fixed"
    weighting_lr: Annotated[
        PositiveFloat | None,
        Field(description="learning rate of the weights (uncertainty, gradnorm); null = 0.025"),
    ] = None
    temperature: Annotated[PositiveFloat | None, Field(description="of dwa: large = equal weights; null = 2")] = None
    alpha: Annotated[
        NonNegativeFloat | None,
        Field(description="of gradnorm: how strongly slower tasks are favored; null = 1.5; 0 = equal gradients"),
    ] = None

    def __post_init__(self) -> None:
        if problems := [problem for name in self.tasks or () if (problem := name_problem(name))]:
            raise ConfigError(*problems)
        for name, table in (self.tasks or {}).items():
            if "kind" in table:
                part_option(name, table, None)
        soft, own = self.sharing == "soft", "has an effect with task.{} only"
        check(
            self,
            **{
                name: (getattr(self, name) is None or soft, own.format("sharing=soft"))
                for name in ("strength", "distance", "layers")
            },
            tasks=(self.tasks is None or len(self.tasks) >= 2, "must name at least two tasks"),
            main=(self.tasks is None or self.main is None or self.main in self.tasks, "must be one of task.tasks"),
            temperature=(self.temperature is None or self.weighting == "dwa", own.format("weighting=dwa")),
            alpha=(self.alpha is None or self.weighting == "gradnorm", own.format("weighting=gradnorm")),
            weighting_lr=(
                self.weighting_lr is None or self.weighting in ("uncertainty", "gradnorm"),
                own.format("weighting=uncertainty or gradnorm"),
            ),
            weighting=(self.weighting != "gradnorm" or not soft, "needs a shared layer: task.sharing=hard"),
        )  # fmt: skip

    def sampling_problems(self, sampling: str) -> list[Problem]:
        """Return why the classes cannot be drawn in these proportions: nothing, for the loss of each task has its weight."""
        return []

    def parts(self, targets: tuple[Target, ...]) -> dict[str, tuple[SingleTask, float]]:
        """Return the tasks by name, each with the weight of its loss; ConfigError where one does not fit the data."""
        tables = self.tasks if self.tasks is not None else dict.fromkeys((target.name for target in targets), NO_KEYS)
        if problems := [problem for name in tables if (problem := name_problem(name))]:
            raise ConfigError(*problems)
        kinds: dict[str, Kind] = {target.name: target.kind for target in targets}
        return {name: part_option(name, table, kinds) for name, table in tables.items()}

    def columns(self, averaged: bool, wanted: Collection[str] = ()) -> tuple[str, ...] | None:
        """Return None: the names of the metrics depend on the targets of the data."""
        return None

    def possible_columns(self) -> tuple[str, ...]:
        """Return nothing, as ``columns``."""
        return ()

    build = implemented_by("trainer.tasks.build:build_multitask")
    restore = implemented_by("trainer.tasks.build:restore_multitask")


def name_problem(name: str) -> Problem | None:
    """Return why a task cannot have a name, which is the prefix of its columns.

    >>> name_problem("digit"), name_problem("bone_age"), name_problem("f1_car").text
    (None, None, "'f1' is the name of a metric, whose direction would decide for all columns of the task")
    """
    hint = f"another name, such as task.tasks={{car: {{target: {name!r}}}, ...}}"
    if not name.isidentifier():
        return Problem(
            "tasks", name, "the name of a task consists of letters, digits and _, and does not begin with a digit", hint
        )
    if words := [word for word in name.split("_") if word in WITH_CLASS]:
        text = f"{words[0]!r} is the name of a metric, whose direction would decide for all columns of the task"
        return Problem("tasks", name, text, hint)
    return None


def part_option(name: str, table: Mapping[str, object], kinds: dict[str, Kind] | None) -> tuple[SingleTask, float]:
    """Return one of the tasks and the weight of its loss from its table, of the kind of its target where that names none."""
    key, target = f"tasks.{name}", table.get("target") or name
    if not isinstance(target, str):
        raise ConfigError(Problem(f"{key}.target", target, "must be the name of a target of the data"))
    kind = table.get("kind")
    if kind is None and kinds is not None:
        if target not in kinds:
            text = f"the data has no target of this name; it has {', '.join(kinds)}"
            raise ConfigError(Problem(key, dict(table), text, nearest(target, kinds)))
        kind = kinds[target]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(Problem(f"{key}.kind", kind, f"must be {', '.join(KINDS)}"))
    values, weight = {k: v for k, v in table.items() if k not in ("kind", "weight")}, table.get("weight", 1.0)
    part, problems = construct(KINDS[kind], values, others=("kind", "weight"))
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        problems.append(Problem("weight", weight, "must be a number >= 0", "weight of the task's loss"))
        weight = 1.0
    if problems:
        raise ConfigError(*(replace(problem, key=f"{key}.{problem.key}") for problem in problems))
    return replace(part, target=target), float(weight)
