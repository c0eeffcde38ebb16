"""Comparison of runs: what differs in their configs, scores over seeds, and which differences are significant."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from typing_extensions import TypedDict

from trainer.analysis.intervals import Interval, difference, interval
from trainer.formats import Json, JsonObject, Row

# Keys that say where and how a run is made, not what it is.
NOT_SETTINGS = ("output", "resume", "checkpoint", "run", "runs", "experiment", "device", "observer", "engine", "job")

Setting: TypeAlias = "Json | tuple[Json, ...]"
Settings: TypeAlias = dict[str, Setting]  # by dotted key


@dataclass(frozen=True)
class Outcome:
    """One run: its name, settings by dotted key, score (None if it has none), history rows, and all scores by dotted name."""

    name: str
    settings: Settings
    score: float | None
    rows: Sequence[Row] = ()
    scores: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass
class Group:
    """Runs that differ only in the seed."""

    settings: Settings
    runs: list[Outcome] = field(default_factory=list[Outcome])

    @property
    def scores(self) -> list[float]:
        return [run.score for run in self.runs if run.score is not None]

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores)

    def interval(self, confidence: float = 0.95) -> Interval | None:
        return interval(self.scores, confidence) if self.scores else None


OptionName = Callable[[str, JsonObject], str]  # of the option that a group's node in a config describes


def class_name(group: str, node: JsonObject) -> str:
    """Return the name of an option's class."""
    return str(node["_target_"]).rpartition(".")[2]


def flatten(tree: JsonObject, prefix: str = "", option_name: OptionName = class_name) -> Settings:
    """Return a config by dotted keys. The option of a group stands under the group's name, an option in a list is ``on``.

    >>> flatten({"seed": 0, "optimizer": {"_target_": "trainer.optimizers.Adam", "lr": 0.1}})
    {'seed': 0, 'optimizer': 'Adam', 'optimizer.lr': 0.1}
    >>> flatten({"regularizer": {"mixup": {"_target_": "trainer.regularizers.Mixup", "alpha": 0.2}}})
    {'regularizer.mixup': 'on', 'regularizer.mixup.alpha': 0.2}
    """
    flat: Settings = {}
    for key, value in tree.items():
        name = prefix + str(key)
        if isinstance(value, dict):
            if "_target_" in value:
                flat[name] = "on" if prefix else option_name(name, value)
            flat |= flatten({k: v for k, v in value.items() if k != "_target_"}, name + ".")
        else:
            flat[name] = tuple(value) if isinstance(value, list) else value
    return flat


def flat_settings(tree: JsonObject, option_name: OptionName = class_name) -> Settings:
    """Return the settings that decide a run's result, by dotted key; ``option_name`` names the option of a group.

    >>> flat_settings({"seed": 0, "output": "x", "observer": {"console": {"every": 1}}})
    {'seed': 0}
    """
    return flatten({k: v for k, v in tree.items() if k not in NOT_SETTINGS}, option_name=option_name)


def varied_keys(runs: Sequence[Outcome]) -> list[str]:
    """Return the keys, other than the seed, whose values differ between runs.

    A key below an option that differs counts only if it differs between runs with the same option.

    >>> a, b = ({"optimizer": o, "optimizer.lr": lr, "seed": 0} for o, lr in (("SGD", 0.1), ("Adam", 0.001)))
    >>> varied_keys([Outcome("a", a, 0.5), Outcome("b", b, 0.6)])
    ['optimizer']
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    differing = [k for k in keys if k != "seed" and len({format_value(run.settings.get(k)) for run in runs}) > 1]
    varied: list[str] = []
    for key in differing:
        parents = [k for k in differing if key.startswith(k + ".")]
        values_by_parents: dict[tuple[str, ...], set[str]] = {}
        for run in runs:
            values = values_by_parents.setdefault(tuple(format_value(run.settings.get(k)) for k in parents), set())
            values.add(format_value(run.settings.get(key)))
        # Between [l2] and [dropout] every key of both differs; that an option is missing shows in its own key.
        if not parents or any(len(values - {"-"}) > 1 for values in values_by_parents.values()):
            varied.append(key)
    return varied


def group_runs(runs: Sequence[Outcome]) -> list[Group]:
    """Group the runs by their varied settings, in the given order."""
    keys = varied_keys(runs)
    groups: dict[tuple[str, ...], Group] = {}
    for run in runs:
        settings = {key: run.settings.get(key) for key in keys}
        groups.setdefault(tuple(map(format_value, settings.values())), Group(settings)).runs.append(run)
    return list(groups.values())


# Of changing ``key`` from one value to another: the change of the score in ``pairs`` pairs of groups, and the half-width
# of its confidence interval.
Effect = TypedDict(
    "Effect",
    {
        "key": str,
        "from": str,
        "to": str,
        "pairs": int,
        "effect": float,
        "half": float,
        "significant": bool | None,
    },
)


def effects(groups: Sequence[Group], confidence: float = 0.95) -> list[Effect]:
    """Return how changing one key changes the score while all other varied keys are equal.

    The effect is the mean over all such pairs of groups; its interval is over these pairs, or over the seeds if there is
    only one pair.
    """
    rows: list[Effect] = []
    for key in groups[0].settings if groups else ():
        first, *others = dict.fromkeys(format_value(g.settings[key]) for g in groups)
        for value in others:
            pairs = [(a, b) for a in groups for b in groups if _differ_only_in(a, b, key, first, value)]
            if not pairs:
                continue
            if len(pairs) == 1:
                effect = difference(pairs[0][0].scores, pairs[0][1].scores, confidence)
            else:
                effect = interval([b.mean - a.mean for a, b in pairs], confidence)
            rows.append(
                Effect(
                    {
                        "key": key,
                        "from": first,
                        "to": value,
                        "pairs": len(pairs),
                        "effect": effect.mean,
                        "half": effect.half,
                        "significant": significant(effect),
                    }
                )
            )
    return rows


def _differ_only_in(a: Group, b: Group, key: str, before: str, after: str) -> bool:
    """Whether two groups with scores differ only in a key and the keys below it."""
    others = [k for k in a.settings if k != key and not k.startswith(key + ".")]
    return (
        bool(a.scores and b.scores)
        and (format_value(a.settings[key]), format_value(b.settings[key])) == (before, after)
        and all(format_value(a.settings[k]) == format_value(b.settings[k]) for k in others)
    )


def differences_to_best(
    groups: Sequence[Group], higher_is_better: bool = True, confidence: float = 0.95
) -> list[Interval | None]:
    """Return each group's difference to the best mean, with Welch's interval; None for a group without a score."""
    scored = [g for g in groups if g.scores]
    if not scored:
        return [None] * len(groups)
    best = (max if higher_is_better else min)(scored, key=lambda g: g.mean)
    return [difference(best.scores, g.scores, confidence) if g.scores else None for g in groups]


def at_edge(groups: Sequence[Group], higher_is_better: bool = True) -> list[tuple[str, float, str]]:
    """Return the numeric keys whose best value is the smallest or the largest one tried: (key, value, which of them).

    The optimum may lie beyond it.

    >>> groups = [Group({"lr": lr}, [Outcome("", {}, score)]) for lr, score in ((0.1, 0.8), (0.2, 0.9), (0.4, 0.95))]
    >>> at_edge(groups), at_edge([*groups, Group({"lr": 0.8}, [Outcome("", {}, 0.7)])])
    ([('lr', 0.4, 'largest')], [])
    """
    scored = [g for g in groups if g.scores]
    if not scored:
        return []
    best = (max if higher_is_better else min)(scored, key=lambda g: g.mean)
    edges: list[tuple[str, float, str]] = []
    for key, value in best.settings.items():
        given = [g.settings[key] for g in scored if g.settings[key] is not None]
        tried = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(tried) < len(given) or len(set(tried)) < 2:
            continue
        if isinstance(value, int | float) and value in (min(tried), max(tried)):
            edges.append((key, value, "largest" if value == max(tried) else "smallest"))
    return edges


def significant(effect: Interval) -> bool | None:
    """Return whether an interval excludes 0; None if a single run gives no interval."""
    return abs(effect.mean) > effect.half if math.isfinite(effect.half) else None


def format_value(value: object) -> str:
    """Return a setting as tables show it.

    >>> format_value(None), format_value(0.10), format_value("SGD")
    ('-', '0.1', 'SGD')
    """
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
