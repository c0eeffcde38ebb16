"""Whose code a config may name: ours, that of published packages, and that of modules the user named.

A config that comes in a checkpoint, a run directory or an experiment file is data from somebody else. The ``_target_`` of an
option is looked up only in trainer, and for its group in torch, torchvision, timm and albumentations; further modules must be
named by the user: in an override, by ``--allow``, or as an option of their ``--config-dir``, whose modules are trusted as well.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from trainer.errors import ConfigError, Problem
from trainer.formats import JsonObject

ALLOW = "TRAINER_ALLOW"  # the environment variable with the modules that the user trusts, which processes started here inherit
OWN = "trainer"
PUBLISHED = ("torch", "torchvision", "timm", "albumentations")
NAME = r"[^\W\d]\w*"
PATH = re.compile(rf"{NAME}(?:\.{NAME})+")
RESOLVER = re.compile(r"\$\{[^${}]*:")  # ${oc.env:HOME}, and not the reference ${optimizer.lr}
IF_TRUSTED = "if you trust "  # how the hints of refused modules begin
INSTANTIATE_KEYS = ("_partial_", "_args_", "_recursive_", "_convert_")  # of Hydra's instantiate, which is not used

directories: list[Path] = []  # those given by --config-dir
typed: list[str] = []  # the command line, for errors that say what to type


class NotTrusted(ImportError):
    """A ``_target_`` that is not looked up; ``hint`` says what to type if the user trusts its code."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def allow(*modules: str) -> None:
    """Trust the code of modules for the time of this process: a config may name their classes.

    Args:
        modules: Names of modules or packages, or dotted paths in them.

    Raises:
        NotTrusted: A module belongs to Python itself.
    """
    packages = {module.strip().partition(".")[0] for module in modules}
    for package in sorted(packages):
        if not package.isidentifier():
            raise NotTrusted(f"{package!r} is not the name of a module", "--allow my_module")
        if package in sys.stdlib_module_names and not in_directories(package):
            raise NotTrusted(f"{package} is part of Python's standard library, which holds no options", OF_YOUR_OWN)
    os.environ[ALLOW] = ",".join(sorted(allowed() | packages))


def allow_typed(values: Sequence[str]) -> None:
    """Trust the modules named after ``--allow``, several in one value with commas between them.

    Raises:
        ConfigError: A module belongs to Python itself.
    """
    try:
        allow(*(name for names in values for name in names.split(",")))
    except NotTrusted as error:
        raise ConfigError(Problem("--allow", ",".join(values), str(error), error.hint)) from None


OF_YOUR_OWN = "a function or class of your own that calls it, in a module that you name"


def allowed() -> set[str]:
    """Return the packages that the user named."""
    return {name.strip() for name in os.environ.get(ALLOW, "").split(",")} - {""}


def allow_named(*values: object) -> None:
    """Trust the modules of all ``_target_`` in values that the user wrote, but for Python's own, which are refused later."""
    for _, target in targets(list(values)):
        for path in PATH.findall(target):
            package = path.partition(".")[0]
            if package not in sys.stdlib_module_names:
                allow(package)


def targets(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each ``_target_`` in nested tables and lists with its dotted key.

    >>> list(targets({"a": {"_target_": "m.A", "b": [{"_target_": "m.B"}]}}))
    [('a._target_', 'm.A'), ('a.b.0._target_', 'm.B')]
    """
    if isinstance(value, dict):
        for name, item in value.items():
            place = f"{key}.{name}".strip(".")
            if str(name).rpartition(".")[2] == "_target_":
                yield from ((place, str(text)) for text in (item if isinstance(item, list) else [item]))
            else:
                yield from targets(item, place)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from targets(item, f"{key}.{index}".strip("."))


def resolvers(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text that calls a resolver, such as ``${oc.env:HOME}``, which would read what the sender does not know.

    >>> list(resolvers({"a": "${oc.env:HOME}", "b": "${a}"}))
    [('a', '${oc.env:HOME}')]
    """
    if isinstance(value, dict):
        for name, item in value.items():
            yield from resolvers(str(name), f"{key}.{name}".strip("."))
            yield from resolvers(item, f"{key}.{name}".strip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from resolvers(item, f"{key}.{index}".strip("."))
    elif isinstance(value, str) and RESOLVER.search(value):
        yield key, value


def check(target: object) -> str:
    """Return the package of a ``_target_`` that may be imported; NotTrusted says why another one may not.

    Nothing is imported.

    >>> check("torch.optim.Adam"), check("trainer.optimizers.Adam")
    ('torch', 'trainer')
    """
    if not isinstance(target, str) or len(target) > 300 or not PATH.fullmatch(target):
        raise NotTrusted("must be a dotted path such as package.module.Class")
    package = target.partition(".")[0]
    if package in allowed() or in_directories(package):
        return package
    if package in (OWN, *PUBLISHED):
        if any(part.startswith("_") for part in target.split(".")):
            raise NotTrusted(f"names a private part of {package}")
        return package
    if package in sys.stdlib_module_names:
        raise NotTrusted("is part of Python's standard library, which holds no options", OF_YOUR_OWN)
    known = ", ".join((OWN, *PUBLISHED))
    text = f"is refused: {package} is not one of {known}, nor a module that you named"
    raise NotTrusted(text, allowing([package]))


def allowing(packages: Sequence[str]) -> str:
    """Return what to type if the user trusts the code of these packages."""
    flags = [word for package in packages for word in ("--allow", package)]
    functions = f"{shlex.join(flags)}, or trainer.allow({', '.join(map(repr, packages))})"
    what = f"train {shlex.join([*typed, *flags])}" if typed else functions
    return f"{IF_TRUSTED}{', '.join(packages)}, whose code would run: {what}; or --config-dir with the directory of the modules"


def with_one_answer(problems: list[Problem]) -> list[Problem]:
    """Return the errors with one hint for all modules that are refused, at the last of them, instead of one for each.

    >>> refused = [Problem("a", "x.A", "", allowing(["x"])), Problem("b", "y.B", "", allowing(["y"]))]
    >>> [problem.hint.replace("with the directory of the modules", "...") for problem in with_one_answer(refused)]
    ['', "if you trust x, y, whose code would run: --allow x --allow y, or trainer.allow('x', 'y'); or --config-dir ..."]
    """
    refused = [problem for problem in problems if problem.hint.startswith(IF_TRUSTED)]
    packages = dict.fromkeys(str(problem.value).partition(".")[0] for problem in refused)
    hints = {id(problem): allowing([*packages]) if problem is refused[-1] else "" for problem in refused}
    return [replace(problem, hint=hints.get(id(problem), problem.hint)) for problem in problems]


def problems(tree: JsonObject) -> list[Problem]:
    """Return the errors in all ``_target_`` of a config that may not be imported, however deep they stand."""
    found: list[Problem] = []
    for key, target in targets(tree):
        try:
            check(target)
        except NotTrusted as error:
            found.append(Problem(key, target, str(error), error.hint))
    return found


def in_directories(package: str) -> bool:
    """Return whether a package lies in a directory given by ``--config-dir``."""
    return any((d / f"{package}.py").is_file() or (d / package).is_dir() for d in directories)


def is_named(package: str) -> bool:
    """Return whether the user trusts a package that is neither ours nor one of the published ones."""
    return package not in (OWN, *PUBLISHED) and (package in allowed() or in_directories(package))


def make_importable(package: str) -> None:
    """Let a module that the user named be found in the working directory, if it is nowhere else.

    The directory comes last: nothing in it takes the place of an installed package.
    """
    from importlib.util import find_spec

    here = Path.cwd()
    found = (here / f"{package}.py").is_file() or (here / package).is_dir()
    if found and package in allowed() and package not in sys.modules and find_spec(package) is None:
        sys.path.append(str(here))
