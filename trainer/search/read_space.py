"""From ``job.space``, or the spaces that options declare, to a ``Space``; every error at once, and without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainer import suggestions
from trainer.config.options import LISTS, SINGLE, OptionFiles, names
from trainer.construct import declaration
from trainer.errors import Problem, most_similar, nearest
from trainer.formats import JsonObject
from trainer.instantiate import instantiate
from trainer.parameters import Parameter, limits, search_space
from trainer.search.distribution import Distribution, Limits, distribution, split
from trainer.search.space import Dimension, Space
from trainer.tree import table, value_at, with_value

if TYPE_CHECKING:
    from trainer.config.schema import Config

PREFIX = "job.space."
NOT_SEARCHED = {  # and why
    "job": "names the job",
    "experiment": "is expanded before the search",
    "observer": "changes no result",
    "engine": "changes how fast, not how good",
    "data": "changes what the trials are compared on",
    "task": "changes what the trials are compared by",
    "epochs": "is set by the stages: job.epochs=[1,5,20]",
    "seed": "is varied for the finalists: job.seeds=5",
    "data.validation": "changes what the trials are compared on",
    "data.split_seed": "changes what the trials are compared on",
    "metric": "is what the trials are compared by",
}
FILES = ("output", "resume", "checkpoint", "run", "runs")


def flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested tables, as a YAML file may have them, by dotted key.

    >>> flat({"optimizer": {"lr": "log(1e-3,1)"}, "batch_size": "choice(32,64)"})
    {'optimizer.lr': 'log(1e-3,1)', 'batch_size': 'choice(32,64)'}
    """
    result: dict[str, object] = {}
    for key, value in table.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


@dataclass
class Reader:
    """Reads one space.

    Attributes:
        tree: The config that the search starts from.
        files: The option files.
        problems: The errors so far.
    """

    tree: JsonObject
    files: OptionFiles
    problems: list[Problem] = field(default_factory=list)

    def read(self, table: Mapping[str, object]) -> Space:
        """Return the space of ``job.space``; where it is empty, that of all parameters that declare one.

        An option that the space chooses, without a key of its own in the table, gets the spaces that it declares.
        """
        texts = flat(table)
        groups = {key: text for key, text in texts.items() if key in self.files.groups and key not in NOT_SEARCHED}
        chosen = [d for key, text in groups.items() if (d := self.group(key, text))]
        options = {d.key: [name for c in d.distribution.choices for name in names(c)] for d in chosen}
        dimensions = list(chosen)
        for key, text in texts.items():
            if key not in groups:
                dimensions += self.key(key, text, options)
        if not texts:
            for group in (*SINGLE, *LISTS):
                for option in self.present(group):
                    dimensions += self.declared(group, option, False)
        for group in {d.key for d in chosen}:
            for option in dict.fromkeys(options[group]):
                if not any(d.group == group and d.option == option for d in dimensions):
                    dimensions += self.declared(group, option, True)
        if not dimensions and not self.problems:
            text = "is empty, and no option chosen declares what to search"
            self.problems.append(Problem("job.space", {}, text, "'job.space.optimizer.lr=log(1e-4,1e-1)'"))
        return Space(tuple(dimensions))

    def group(self, group: str, text: object) -> Dimension | None:
        """The dimension that chooses an option of a group."""
        parsed = self.parsed(group, text, None)
        if parsed is None:
            return None
        if parsed.numeric:
            self.add(group, text, "is a group: choice(a,b,...) of its options")
            return None
        for choice in parsed.choices:
            if group in SINGLE and not isinstance(choice, str):
                self.add(group, text, f"takes one option at a time, not {choice!r}")
            for name in names(choice):
                if name not in self.files.groups[group]:
                    options = ", ".join(self.files.groups[group])
                    near = suggestions.question(group, str(name), self.files.groups)
                    self.add(group, text, f"names {name!r}, which is none of {options}", near)
        return Dimension(group, group, parsed) if not self.problems else None

    def key(self, key: str, text: object, options: Mapping[str, list[str]]) -> list[Dimension]:
        """The dimensions of a key: one for each searched option that has it, one otherwise."""
        first, *rest = key.split(".")
        reason = NOT_SEARCHED.get(key if first in ("data", "task") else first) or NOT_SEARCHED.get(key)
        if reason or key in FILES:
            self.add(key, text, reason or "names files, which are not searched")
            return []
        if first in LISTS and rest:
            owners = [rest[0]]
            known = {*self.present(first), *options.get(first, [])}
            if rest[0] not in known:
                what = "is not enabled" if rest[0] in self.files.groups[first] else "does not exist"
                hint = f"'{first}=[...,{rest[0]}]'" if rest[0] in self.files.groups[first] else nearest(rest[0], known)
                self.add(key, text, f"{rest[0]} {what}", hint)
                return []
            return self.of_option(first, rest[0], rest[1:], key, text, first in options)
        if first in SINGLE and rest:
            owners = options.get(first) or self.present(first)
            if rest[0] in self.files.groups[first] and len(rest) > 1:  # optimizer.sgd.lr
                if rest[0] not in owners:
                    self.add(key, text, f"{first} is not searched over {rest[0]}", f"searched: {', '.join(owners)}")
                    return []
                owners, rest = [rest[0]], rest[1:]
            having = [option for option in owners if ".".join(rest) in self.keys(first, option)] or owners[:1]
            return [d for o in having for d in self.of_option(first, o, rest, key, text, first in options)]
        if key not in self.tree or first in self.files.groups:
            group = most_similar(first, [*self.files.groups])
            found = suggestions.find_key(key, self.tree) or (group and ".".join([group, *rest]))
            self.add(key, text, "unknown key or group", f"did you mean {found!r}?" if found else "")
            return []
        parsed = self.checked(key, text, declaration(self.tree, key), self.tree, key)
        return [Dimension(key, key, parsed)] if parsed else []

    def of_option(
        self, group: str, option: str, rest: list[str], typed: str, text: object, searched: bool
    ) -> list[Dimension]:
        """The dimension of a parameter of one option."""
        known = self.keys(group, option)
        if ".".join(rest) not in known:
            available = ", ".join(k for k in known if k != "_target_")
            self.add(
                typed,
                text,
                f"unknown key of {group}={option}",
                f"{nearest(rest[-1] if rest else '', known)} available: {available}".strip(),
            )
            return []
        place = [group, option] if group in LISTS else [group]
        name = ".".join([group, option, *rest] if searched or group in LISTS else [group, *rest])
        node = self.node(group, option)
        tree: JsonObject = {group: {option: node} if group in LISTS else node}
        key = ".".join([*place, *rest])
        parsed = self.checked(typed, text, declaration(tree, key), tree, key)
        return [Dimension(name, key, parsed, *((group, option) if searched else ()))] if parsed else []

    def declared(self, group: str, option: str, searched: bool) -> Iterator[Dimension]:
        """The dimensions that an option declares itself."""
        node = self.node(group, option)
        tree: JsonObject = {group: {option: node} if group in LISTS else node}
        place = f"{group}.{option}" if group in LISTS else group
        for name, value in node.items():
            found = declaration(tree, f"{place}.{name}") if name != "_target_" else None
            space = search_space(found.annotation) if found else None
            if found and space and space.by_default and value is not None:
                full = f"{group}.{option}.{name}" if searched or group in LISTS else f"{group}.{name}"
                own = distribution(space.text, allowed(found))
                yield Dimension(full, f"{place}.{name}", own, *((group, option) if searched else ()))

    def present(self, group: str) -> list[str]:
        """The options of a group that the config has."""
        node = self.tree.get(group)
        if group in LISTS:
            return [str(name) for name, option in table(node).items() if option is not None]
        return [self.files.option_name(group, node)] if isinstance(node, dict) and "_target_" in node else []

    def node(self, group: str, option: str) -> JsonObject:
        """The parameters of an option: as in the config, or as in its file."""
        if option in self.present(group):
            own = table(self.tree[group])
            return dict(table(own[option]) if group in LISTS else own)
        keys = self.files.keys(group, [option])
        return dict(table(keys.get(option)) if group in LISTS else keys)

    def keys(self, group: str, option: str) -> dict[str, object]:
        return flat(self.node(group, option))

    def checked(
        self, typed: str, text: object, found: Parameter | None, tree: JsonObject, key: str
    ) -> Distribution | None:
        """The distribution of a key, whose bounds or choices the key must accept."""
        if str(text).strip() == "default":
            space = search_space(found.annotation) if found else None
            if space is None:
                self.add(typed, text, "declares no default space")
                return None
            return distribution(space.text, allowed(found))
        parsed = self.parsed(typed, text, found)
        if parsed is None or found is None:
            return parsed
        for value in parsed.choices if not parsed.numeric else (parsed.low, parsed.high):
            changed = with_value(tree, key, value)
            place, _, name = key.rpartition(".")
            settings: JsonObject = {"_target_": "trainer.settings.Settings", name: value}
            errors = instantiate(value_at(changed, *place.split(".")) if place else settings, place)[1]
            wrong = [p for p in errors if p.key == key]
            if wrong:
                integers = parsed.kind in ("log", "uniform") and "must be an integer" in wrong[0].text
                name = "log_int" if parsed.kind == "log" else "int"
                hint = f"such as {name}{str(parsed).removeprefix(parsed.kind)}" if integers else wrong[0].hint
                self.add(typed, text, f"{key} = {value!r}: {wrong[0].text}", hint)
                return None
        return parsed

    def parsed(self, key: str, text: object, found: Parameter | None) -> Distribution | None:
        try:
            return distribution(text, allowed(found) if found else None)
        except ValueError as error:
            self.add(key, text, str(error), form_of(str(text)))
            return None

    def add(self, key: str, value: object, text: str, hint: str = "") -> None:
        self.problems.append(Problem(PREFIX + key, value, text, hint))


def form_of(text: str) -> str:
    """Return what to write for bounds or choices without the name of a distribution; empty for others.

    >>> form_of("1e-4,1e-1"), form_of("[sgd,adam]"), form_of("0.1")
    ('such as log(1e-4,1e-1) or choice(1e-4,1e-1)', 'such as choice(sgd,adam)', '')
    """
    items = split(text.strip().removeprefix("[").removesuffix("]"))
    if len(items) < 2:
        return ""
    try:
        low, high = map(float, items)
        interval = f"{'log' if 0 < low < high else 'uniform'}({','.join(items)}) or " if low < high else ""
    except ValueError:
        interval = ""
    return f"such as {interval}choice({','.join(items)})"


def allowed(found: Parameter | None) -> Limits:
    """The limits that a parameter declares."""
    values = limits(found.annotation) if found else {}
    low, high = values.get("gt", values.get("ge")), values.get("lt", values.get("le"))
    return Limits(
        -float("inf") if low is None else low, float("inf") if high is None else high, "gt" in values, "lt" in values
    )


def read_space(table: Mapping[str, object], config: Config) -> tuple[Space, list[Problem]]:
    """Return the space that ``job.space`` describes for a config, and all errors in it."""
    reader = Reader(config.tree, OptionFiles(config.config_dirs))
    space = reader.read(table)
    # The same error once; values that were given may be lists, which have no hash.
    return space, [p for i, p in enumerate(reader.problems) if p not in reader.problems[:i]]
