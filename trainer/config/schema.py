"""From the composed config to typed options: every problem is found, and all are told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config.instantiate import instantiate
from trainer.config.options import LISTS
from trainer.errors import ConfigError, Problem, check

SINGLE = ("job", "architecture", "activation", "initialization", "optimizer", "averaging", "data", "engine", "recipe")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The scalars of ``conf/train.yaml``; their comments there say what each means."""

    epochs: float = 15.0
    batch_size: int | Literal["full"] = 64
    micro_batch: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "bf16", "float32"] = "auto"
    metric: str = "validation_accuracy"
    output: str | None = None
    resume: str | None = None
    checkpoint: str | None = None
    run: str | None = None
    runs: tuple[str, ...] | str | None = None

    def __post_init__(self) -> None:
        kind, _, index = self.device.partition(":")
        known = self.device in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdigit())
        check(
            self,
            epochs=(0 < self.epochs < float("inf"), "must be > 0 (epochs; fractions are allowed)"),
            batch_size=(self.batch_size == "full" or self.batch_size >= 1, "must be >= 1, or full"),
            micro_batch=(
                self.micro_batch is None or self.micro_batch >= 1,
                "must be >= 1, or null for the whole batch",
            ),
            seed=(0 <= self.seed < 2**32, "must be from 0 to 4294967295"),
            device=(known, "must be auto, cpu, cuda or cuda:N"),
        )


@dataclass(frozen=True)
class Config:
    """What ``resolve`` returns: the settings, one option per single group, named options in order per list group."""

    settings: Settings
    single: dict[str, Any]
    lists: dict[str, dict[str, Any]]
    tree: dict[str, Any]  # the resolved config as plain values, as written to the run folder
    open: tuple[str, ...] = ()  # keys left to a range test
    chosen: dict[str, float] = field(default_factory=dict)  # what one chose for them
    notes: tuple[str, ...] = ()  # what composing decided for the user

    def name_of(self, group: str) -> str:
        """What to call the option of a single group, whose file a saved config does not tell: its ``name``, else its class."""
        node = self.tree[group]
        return str(node.get("name") or node["_target_"].rpartition(".")[2])

    def __getattr__(self, name: str) -> Any:
        for place in ("single", "lists"):
            if name in self.__dict__[place]:
                return self.__dict__[place][name]
        return getattr(self.__dict__["settings"], name)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, interpolations resolved; ``???`` stays, for ``resolve`` to complain of."""
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(
            Problem(str(error.full_key or ""), str(error.msg).split("\n")[0], "cannot be resolved")
        ) from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


# Keys that may be ``auto``, with the numbers they have until a range test has been made.
AUTO = {("optimizer", "lr"): 1e-3, ("schedule", "clr", "floor"): 0.1}


def opened(tree: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The config with numbers for what is left to a range test, and the keys that are.

    >>> opened({"optimizer": {"lr": "auto"}, "seed": 0})
    ({'optimizer': {'lr': 0.001}, 'seed': 0}, ('optimizer.lr',))
    """
    found = []
    for path, number in AUTO.items():
        node: Any = tree
        for part in path[:-1]:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get(path[-1]) == "auto":
            found.append(".".join(path))
            tree = placed(tree, path, number)
    return tree, tuple(found)


def placed(tree: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of the config with another value at a place.

    >>> placed({"optimizer": {"lr": 1.0}, "seed": 0}, ["optimizer", "lr"], 2.0)
    {'optimizer': {'lr': 2.0}, 'seed': 0}
    """
    key, *rest = path
    return {**tree, key: placed(tree[key], rest, value) if rest else value}


def resolve(
    cfg: DictConfig | dict[str, Any], choices: dict[str, str] | None = None, notes: Sequence[str] = ()
) -> Config:
    """The config with every option constructed; ConfigError with all problems where there are any.

    ``choices`` says which option each group took (Hydra knows), to name the file that defines a key; ``notes`` are kept.
    """
    tree = plain(cfg) if isinstance(cfg, DictConfig) else dict(cfg)
    choices = choices or {}
    whole, (tree, left) = tree, opened(tree)
    problems: list[Problem] = []
    single: dict[str, Any] = {}
    lists: dict[str, dict[str, Any]] = {group: {} for group in LISTS}
    for group in SINGLE:
        node = tree.get(group)
        if not isinstance(node, dict):
            problems.append(Problem(group, node, f"must name one option of conf/{group}", f"see: train {group}=?"))
            continue
        single[group], wrong = instantiate(node, group, f"conf/{group}/{choices.get(group, '*')}.yaml")
        problems += wrong
    for group in LISTS:
        for name, node in (tree.get(group) or {}).items():
            where = f"conf/{group}/{name}.yaml"
            if not isinstance(node, dict):
                hint = f"options in use: {', '.join(tree[group]) or 'none'}"
                if name == "_target_":
                    hint = f"an option file of {group} holds its keys under its own name, as in conf/{group}"
                problems.append(Problem(f"{group}.{name}", node, "is no option with a _target_", hint))
                continue
            lists[group][name], wrong = instantiate(node, f"{group}.{name}", where)
            problems += wrong
    scalars = {k: v for k, v in tree.items() if k not in SINGLE + LISTS + ("experiment",)}
    settings, wrong = instantiate({"_target_": f"{__name__}.Settings", **scalars}, "", "conf/train.yaml")
    problems += wrong
    if problems:
        raise ConfigError(*problems)
    return Config(settings, single, lists, whole, left, notes=tuple(notes))
