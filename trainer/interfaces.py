"""What the class or function behind the ``_target_`` of each group must be, and where published packages have such."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

from trainer.trust import OWN, NotTrusted, is_named


@dataclass(frozen=True)
class Interface:
    """What the options of a group are.

    Attributes:
        bases: Base classes, one of which an option has; by name, so that none is imported.
        modules: Modules of published packages that hold such classes.
        functions: Modules whose functions return such objects; those of the user's own modules may as well, if there are any.
        method: A method that makes any class an option.
        adapter: The function ``module:name`` that turns a plain class or function of the user into an option; empty if the group
            takes none.
        plain: What it takes, in words.
    """

    bases: tuple[str, ...]
    modules: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    method: str = ""
    adapter: str = ""
    plain: str = ""

    @property
    def text(self) -> str:
        """The bases in words."""
        names = dict.fromkeys(_short(base) for base in self.bases)
        text = f"a subclass of {' or '.join(names)}"
        text += f", a class with {self.method}()" if self.method else ""
        text += f", {self.plain}" if self.plain else ""
        return f"{text}, or a function of {' or '.join(self.functions)}" if self.functions else text


def _short(base: str) -> str:
    """The name of a class as users import it.

    >>> _short("torch.optim.optimizer.Optimizer"), _short("trainer.optimizers.options.Optimizer")
    ('torch.optim.Optimizer', 'trainer.optimizers.Optimizer')
    """
    package, name = ".".join(base.split(".")[:2]), base.rpartition(".")[2]
    exceptions = {MODULE: "torch.nn.Module", "trainer.config.schema.Job": "trainer.jobs.Job"}
    return exceptions.get(base, base if package == "trainer.engine" else f"{package}.{name}")


MODULE = "torch.nn.modules.module.Module"
V2 = "torchvision.transforms.v2._transform.Transform"
PAGE = "docs/own_components.md has an example for each group"
INTERFACES = {
    "job": Interface(("trainer.config.schema.Job",)),
    "task": Interface(("trainer.tasks.options.SingleTask", "trainer.tasks.multitask_options.Multitask")),
    "architecture": Interface(
        ("trainer.architectures.options.Architecture", MODULE),
        ("torch.nn.modules", "torchvision.models", "timm"),
        ("torchvision.models", "timm.models"),
    ),
    "activation": Interface(
        ("trainer.activations.options.Activation", MODULE),
        ("torch.nn.modules.activation",),
        adapter="trainer.activations.plain:adapted",
    ),
    "initialization": Interface(
        ("trainer.initialization.options.Initialization", "trainer.initialization.options.Pretrained")
    ),
    "optimizer": Interface(
        ("trainer.optimizers.options.Optimizer", "torch.optim.optimizer.Optimizer"),
        ("torch.optim", "timm.optim"),
    ),
    "averaging": Interface(("trainer.averaging.options.Averaging",)),
    "data": Interface(
        ("trainer.data.options.Dataset",),
        adapter="trainer.data.plain_options:adapted",
        plain="a class with __len__ and __getitem__",
    ),
    "engine": Interface(("trainer.engine.options.Engine",)),
    "recipe": Interface(("trainer.engine.recipes.Recipe",)),
    "schedule": Interface(
        ("trainer.schedules.base.Schedule",), adapter="trainer.schedules.plain:adapted", plain="a function t -> multiplier"
    ),
    "regularizer": Interface(
        ("trainer.regularizers.base.Regularizer",),
        adapter="trainer.regularizers.plain:adapted",
        plain="a function (x, y) -> (x, y)",
    ),
    "augmentation": Interface(
        (
            "trainer.augmentation.transforms.Transform",
            "albumentations.core.transforms_interface.BasicTransform",
            "albumentations.core.composition.BaseCompose",
            V2,
        ),
        ("albumentations", "torchvision.transforms.v2"),
        adapter="trainer.augmentation.plain:adapted",
        plain="a function image -> image",
    ),
    "observer": Interface(
        ("trainer.engine.observer.Observer",),
        method="build",
        adapter="trainer.observers.plain:adapted",
        plain="a class with methods such as on_epoch_end",
    ),
    "": Interface(("trainer.settings.Settings",)),  # of the top level
    "sweep": Interface(("trainer.sweep.options.SweepSettings",)),
    "metric": Interface(
        ("torchmetrics.metric.Metric",),
        adapter="trainer.tasks.own_metrics:adapted",
        plain="a function (outputs, targets) -> number, a class with update, compute and reset",
    ),
    "loss": Interface(
        (MODULE,),
        ("torch.nn.modules", "torchvision.ops", "timm.loss"),
        ("torch.nn.functional", "torchvision.ops", "trainer.tasks.losses"),
    ),
}  # fmt: skip
OBSERVERS = "trainer.observers"  # our classes with the method of an observer's option


def check_place(target: str, group: str) -> None:
    """Raise NotTrusted unless the path into a published package leads to a module that holds what the group takes."""
    interface, module = INTERFACES[group], target.rpartition(".")[0]
    places = (*interface.modules, *interface.functions)
    if not any(_within(module, (place,)) or place.startswith(f"{module}.") for place in places):
        raise NotTrusted(f"is not {interface.text}, which {group} takes")


def check_interface(value: Any, group: str, package: str) -> None:
    """Raise NotTrusted unless a value is what the group takes, and comes from where that may be defined.

    Args:
        value: What a ``_target_`` leads to.
        group: The group.
        package: The package that the ``_target_`` begins with.
    """
    interface, named = INTERFACES[group], is_named(package)
    external = bool(interface.modules)  # the group takes what is not an option of ours
    while named and external and isinstance(value, partial):
        value = value.func
    module = str(getattr(value, "__module__", ""))
    if isinstance(value, type):
        has_method = bool(interface.method) and hasattr(value, interface.method)
        plain = bool(interface.adapter) and is_named(module.partition(".")[0])
        fits = (
            not _bases(value).isdisjoint(interface.bases)
            or (has_method and (named or _within(module, (OBSERVERS,))))
            or (named and plain)
        )
        in_place = named or _within(module, (OWN, *interface.modules))
    else:
        fits = callable(value) and isinstance(getattr(value, "__qualname__", None), str)
        own = named and (external or bool(interface.adapter)) and is_named(module.partition(".")[0])
        published = inspect.isfunction(value) and _within(module, interface.functions)
        in_place = own or (published and (group == "loss" or _returns(value, interface)))
    if not (fits and in_place):
        raise NotTrusted(f"is not {interface.text}, which {group or 'the top level'} takes", PAGE if named else "")


def has_base(cls: type, group: str) -> bool:
    """Return whether a class is what the group takes without an adapter."""
    interface = INTERFACES[group]
    return not _bases(cls).isdisjoint(interface.bases) or bool(interface.method and hasattr(cls, interface.method))


def _returns(function: Any, interface: Interface) -> bool:
    """Whether a function is declared to return what the interface describes."""
    result = get_type_hints(function).get("return")
    return isinstance(result, type) and not _bases(result).isdisjoint(interface.bases)


def _bases(cls: type) -> set[str]:
    return {f"{c.__module__}.{c.__qualname__}" for c in cls.__mro__}


def _within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)
