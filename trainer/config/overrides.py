"""The overrides of a command, ``key=value``, parsed once by Hydra's grammar."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from hydra.core.override_parser import types as hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.errors import Problem
from trainer.run_dir import PATHS_OF_OPTIONS
from trainer.suggestions import unreadable
from trainer.tree import is_list, is_table

# Keys whose value is one path or the name of a column, taken literally: directories of runs may be called
# `optimizer=adam,seed=1`. Lists are written in brackets where the key takes one.
LITERAL = ("output", "resume", "run", "checkpoint", "data.split", *PATHS_OF_OPTIONS)
LITERAL_OR_LISTS = ("job.images", "data.images", "data.labels")
SWEEP_FUNCTIONS = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|int|float|str|bool|json_str)\(.*\)$")


@dataclass(frozen=True)
class Override:
    """One override.

    Attributes:
        key: Dotted key or group.
        value: Plain value; of a sweep, the list of its values where these are enumerated.
        text: The override in Hydra's grammar, prefix included.
        kind: ``""`` sets a key, ``"+"`` adds one, ``"++"`` does either, ``"~"`` removes it.
        sweep: Whether it stands for several values.
        source: Where it comes from; empty for the command line.
    """

    key: str
    value: object
    text: str
    kind: str = ""
    sweep: bool = False
    source: str = ""

    @property
    def group(self) -> str:
        """The first part of the key."""
        return self.key.partition(".")[0]

    @property
    def experiment(self) -> str:
        """The experiment it comes from, ``experiment=<name>``; empty if it comes from elsewhere."""
        return self.source if self.source.startswith("experiment=") else ""

    @property
    def shown(self) -> object:
        """The value as error messages show it: a sweep as typed."""
        return self.text.partition("=")[2] if self.sweep else self.value


def override(key: str, value: object, kind: str = "", source: str = "") -> Override:
    """Return an override that sets ``key`` to a plain value.

    >>> override("optimizer.betas", [0.9, 0.99]).text, override("output", "it's").text
    ('optimizer.betas=[0.9,0.99]', "output='it\\\\'s'")
    """
    return Override(key, value, f"{kind}{key}={render(value)}", kind, source=source)


def split(item: Override) -> list[Override]:
    """Return an override that gives a group, or an option of a list group, a table as one override for each key.

    >>> [part.text for part in split(override("optimizer", {"lr": 0.1, "momentum": 0.5}))]
    ['optimizer.lr=0.1', 'optimizer.momentum=0.5']
    """
    depth = 1 if item.group in SINGLE else 2 if item.group in LISTS else 0
    if not is_table(item.value) or item.key.count(".") >= depth:
        return [item]
    parts = [override(f"{item.key}.{key}", value, item.kind, item.source) for key, value in item.value.items()]
    return [whole for part in parts for whole in split(part)]


def render(value: object) -> str:
    """Return a plain value in Hydra's grammar.

    >>> render({"lr": 1e-05, "betas": [0.9, None], "name": "a b"})
    "{lr:1e-05,betas:[0.9,null],name:'a b'}"
    """
    if is_table(value):
        return "{" + ",".join(f"{key}:{render(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(render(item) for item in cast(Iterable[object], value)) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value) if isinstance(value, int | float) else _quote(str(value))


def _quote(text: str) -> str:
    """A string in quotes: of backslashes Hydra's grammar reads only those before a quote as escapes."""
    text = re.sub(r"(\\*)'", lambda m: m[1] * 2 + r"\'", text)
    return "'" + re.sub(r"(\\+)$", lambda m: m[1] * 2, text) + "'"


def parse(
    arguments: Sequence[str], multirun: bool = False, tables: Sequence[str] = ()
) -> tuple[list[Override], list[Problem]]:
    """Return the overrides, and a problem for each argument that is not one.

    Args:
        arguments: As typed, without flags.
        multirun: Whether commas separate the values of a sweep even in keys that hold a path.
        tables: Keys of free tables (``OptionFiles.free_tables``).
    """
    parser = OverridesParser.create()
    overrides: list[Override] = []
    problems: list[Problem] = []
    for argument in arguments:
        if entry := _table_entry(argument, tables):
            overrides.append(entry)
            continue
        if argument.startswith("="):
            problems.append(Problem("", None, f"{argument!r} has no key: write key=value, without spaces"))
            continue
        text = _prepared(argument, multirun)
        try:
            overrides.append(_plain(parser.parse_overrides([text])[0]))
        except (HydraException, ValueError) as error:  # ValueError: an integer of more than 4300 digits
            problems.append(unreadable(argument, str(error.__cause__ or error)))
    return overrides, problems


def _table_entry(argument: str, tables: Sequence[str]) -> Override | None:
    """An override of an entry of a free table: the rest of its key, dots included, names the entry; its value is literal."""
    key, sign, value = argument.partition("=")
    table = next((table for table in tables if key.startswith(f"{table}.")), None)
    if table is None or not sign:
        return None
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return override(table, {key.removeprefix(f"{table}."): value})


def _prepared(argument: str, multirun: bool) -> str:
    """An argument with its value in quotes where that is a path, or has characters that Hydra's grammar lacks."""
    key, sign, value = argument.partition("=")
    bare = key.lstrip("+")
    if not sign or value.strip() == "" or value[0] in "'\"":
        return argument
    literal = (
        bare in LITERAL
        or (bare in LITERAL_OR_LISTS and value[0] not in "[{")
        or (bare == "experiment" and "/" in value)
    )
    if literal and value not in ("null", "???") and "${" not in value:
        if multirun and SWEEP_FUNCTIONS.match(value):
            return argument
        return f"{key}={','.join(map(_quote, value.split(',') if multirun else [value]))}"
    within_grammar = re.fullmatch(r"(?!~)[\w\-.:/%+?|@*$~,\\]*", value, re.ASCII)
    if within_grammar or re.search(r"[\[\]{}()\"'\\]", value) or value != value.strip():
        return argument
    return f"{key}={_quote(value)}"


def _plain(parsed: hydra.Override) -> Override:
    """Hydra's parsed override with plain values."""
    kind = "~" if parsed.is_delete() else "++" if parsed.is_force_add() else "+" if parsed.is_add() else ""
    key = f"{parsed.key_or_group}@{parsed.package}" if parsed.package else parsed.key_or_group
    return Override(key, _value(parsed.value()), parsed.input_line or "", kind, parsed.is_sweep_override())


def _value(value: object) -> object:
    """Hydra's value as plain Python; the enumerated values of a sweep as a list, others (a range, a glob) as they are."""
    if is_table(value):
        return {str(_value(key)): _value(item) for key, item in value.items()}
    items = value.list if isinstance(value, hydra.ChoiceSweep) else value  # choice(a,b), or a,b
    if is_list(items):
        return [_value(item) for item in items]
    return value.text if isinstance(value, hydra.QuotedString) else value


def values(item: Override, files: OptionFiles) -> list[Override]:
    """Return an override once for each value it stands for; none where these are not enumerated, as in ``range(1,9)``."""
    if not item.sweep:
        return [item]
    several = item.value
    if isinstance(several, hydra.Glob):
        several = several.filter(list(files.groups.get(item.key, ())))
    return [override(item.key, value, item.kind) for value in several] if is_list(several) else []
