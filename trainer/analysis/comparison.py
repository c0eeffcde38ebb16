"""Runs side by side: what differs in their configs, their scores with the spread over seeds, which differences exceed it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.analysis.intervals import Interval, difference, interval

# Where and how a run is made is no part of what it is.
ASIDE = ("output", "resume", "checkpoint", "run", "runs", "experiment", "device")


@dataclass(frozen=True)
class Outcome:
    """One run: its name, its settings by dotted key, its score (None where it has none), its history's rows."""

    name: str
    settings: dict[str, Any]
    score: float | None
    rows: Sequence[dict[str, Any]] = ()


@dataclass
class Group:
    """Runs that differ in nothing but the seed."""

    settings: dict[str, Any]
    runs: list[Outcome] = field(default_factory=list)

    @property
    def scores(self) -> list[float]:
        return [run.score for run in self.runs if run.score is not None]

    def interval(self, confidence: float = 0.95) -> Interval | None:
        return interval(self.scores, confidence) if self.scores else None


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as dotted keys; a ``_target_`` is the option's class.

    >>> flat({"seed": 0, "optimizer": {"_target_": "trainer.optimizers.Adam", "lr": 0.1}})
    {'seed': 0, 'optimizer': 'Adam', 'optimizer.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + str(key)
        if isinstance(value, dict):
            if "_target_" in value:
                found[name] = str(value["_target_"]).rpartition(".")[2]
            found |= flat({k: v for k, v in value.items() if k != "_target_"}, name + ".")
        else:
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def flat_settings(tree: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide a run's result, by dotted key: not where it is written, how it is watched, how fast it goes.

    >>> settings_of({"seed": 0, "output": "x", "observer": {"console": {"every": 1}}})
    {'seed': 0}
    """
    return flat({key: value for key, value in tree.items() if key not in (*ASIDE, "observer", "engine", "job")})


def varied(runs: Sequence[Outcome]) -> list[str]:
    """The keys, without the seed, whose values differ among runs; below an option that differs, only those which runs with
    the same option differ in.

    >>> a, b = ({"optimizer": o, "optimizer.lr": r, "seed": 0} for o, r in (("SGD", 0.1), ("Adam", 0.001)))
    >>> varied([Outcome("a", a, 0.5), Outcome("b", b, 0.6)])
    ['optimizer']
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    differing = [k for k in keys if k != "seed" and len({_shown(run.settings.get(k)) for run in runs}) > 1]
    found = []
    for key in differing:
        above = [k for k in differing if key.startswith(k + ".")]
        alike: dict[tuple[str, ...], set[str]] = {}
        for run in runs:
            alike.setdefault(tuple(_shown(run.settings.get(k)) for k in above), set()).add(
                _shown(run.settings.get(key))
            )
        # Of [l2] and [dropout], every key of both differs: that it is there at all is said by its option's own key.
        if not above or any(len(values - {"-"}) > 1 for values in alike.values()):
            found.append(key)
    return found


def grouped(runs: Sequence[Outcome]) -> list[Group]:
    """The runs by what was varied, in the order they came."""
    keys, groups = varied(runs), {}
    for run in runs:
        settings = {key: run.settings.get(key) for key in keys}
        groups.setdefault(tuple(map(_shown, settings.values())), Group(settings)).runs.append(run)
    return list(groups.values())


def effects(groups: Sequence[Group], confidence: float = 0.95) -> list[dict[str, Any]]:
    """What going from one value of a key to another does to the score where all other varied keys stay: the mean over such
    pairs of groups, and its interval over those pairs, or over the seeds where there is one pair only.
    """
    rows = []
    for key in groups[0].settings if groups else ():
        values = list(dict.fromkeys(_shown(g.settings[key]) for g in groups))
        for value in values[1:]:
            pairs = [(a, b) for a in groups for b in groups if _matched(a, b, key, values[0], value)]
            if len(pairs) == 1:
                found = difference(pairs[0][0].scores, pairs[0][1].scores, confidence)
            elif pairs:
                found = interval(
                    [sum(b.scores) / len(b.scores) - sum(a.scores) / len(a.scores) for a, b in pairs], confidence
                )
            else:
                continue
            row = {"key": key, "from": values[0], "to": value, "pairs": len(pairs)}
            rows.append(row | {"effect": found.mean, "half": found.half, "exceeds": exceeds(found)})
    return rows


def _matched(a: Group, b: Group, key: str, before: str, after: str) -> bool:
    """Whether two groups differ in a key, and what is below it, alone."""
    others = [k for k in a.settings if k != key and not k.startswith(key + ".")]
    return (
        bool(a.scores and b.scores)
        and (_shown(a.settings[key]), _shown(b.settings[key])) == (before, after)
        and all(_shown(a.settings[k]) == _shown(b.settings[k]) for k in others)
    )


def against_best(groups: Sequence[Group], geometric: bool = True, confidence: float = 0.95) -> list[Interval | None]:
    """Each group's difference to the best one's mean, with Welch's interval; None where a group has no score."""
    scored = [g for g in groups if g.scores]
    if not scored:
        return [None] * len(groups)
    best = (max if geometric else min)(scored, key=lambda g: sum(g.scores) / len(g.scores))
    return [None if not g.scores else difference(best.scores, g.scores, confidence) for g in groups]


def exceeds(found: Interval) -> bool | None:
    """Whether a difference is beyond what the spread explains; None where one run alone tells no spread."""
    return None if not math.isfinite(found.half) else abs(found.mean) > found.half


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
