"""Which of the overrides that a finding suggests apply to the config of the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from trainer.analysis.diagnosis.record import Finding
from trainer.errors import quoted
from trainer.formats import FindingContent
from trainer.literal import code_span, markdown_literal
from trainer.tree import value_at

MIXING = ("mixup", "cutmix", "mixup_or_cutmix")  # the images of a batch with each other, which needs at least two
OVERRIDE = re.compile(r"-m |[\w.]+=")  # or a command line, as -m seed=0,1
OWN_PACKAGE = __name__.partition(".")[0]
ADDED = ("augmentation", "regularizer")  # to the options that are enabled, which a list of its own would replace


def applicable(attempts: tuple[str, ...], config: Mapping[str, object]) -> tuple[str, ...]:
    """Return the overrides that change something, without those of keys that the config lacks.

    Options of ``augmentation`` and ``regularizer`` are added to those enabled, or replace them where ``==`` precedes the list.
    Without a config, all are returned.

    >>> config = {"activation": {"name": "relu"}, "regularizer": {"l2": {}}, "optimizer": {"clip_norm": 1.0}}
    >>> applicable(("activation=relu", "regularizer=[mixup]", "optimizer.clip_norm=1", "architecture.norm=batch"), config)
    ('regularizer=[l2,mixup]',)
    >>> applicable(("regularizer==[l2]",), {"regularizer": {"l2": {}, "dropout": {}}})
    ('regularizer=[l2]',)
    """
    if not config:
        return tuple(attempt.replace("==", "=", 1) for attempt in attempts)
    return tuple(text for attempt in attempts if (text := _applicable(attempt, config)))


def left_behind(attempt: str, typed: Sequence[str]) -> list[str]:
    """Return the overrides of a command that set keys of options which an added override would replace.

    >>> left_behind("schedule=[cosine]", ["schedule=exponential", "schedule.exponential.k=4", "epochs=3"])
    ['schedule.exponential.k=4']
    >>> left_behind("regularizer=[]", ["regularizer.dropout.p=0.5"]), left_behind("batch_size=32", ["batch_size=1"])
    (['regularizer.dropout.p=0.5'], [])
    """
    key, sign, value = attempt.partition("=")
    if not sign or "." in key or key.startswith("-"):
        return []
    kept = tuple(f"{key}.{name}." for name in value.strip("[]").split(",")) if value.startswith("[") else ()
    return [text for text in typed if text.startswith(f"{key}.") and not text.startswith(kept or "=")]


def _applicable(attempt: str, config: Mapping[str, object]) -> str:
    key, sign, value = attempt.partition("=")
    if not sign or key.startswith("-"):
        return attempt
    path = key.split(".")
    if key in ADDED:
        enabled = list(_table(config, key))
        if value == "[]":
            return attempt if enabled else ""
        if value.startswith("="):
            return "" if value == f"=[{','.join(enabled)}]" else f"{key}{value}"
        impossible = MIXING if config.get("batch_size") == 1 else ()
        new = [name for name in value.strip("[]").split(",") if name not in (*enabled, *impossible)]
        return f"{key}=[{','.join([*enabled, *new])}]" if new else ""
    if len(path) > 1 and path[-1] not in _table(config, *path[:-1]):
        return ""
    if option := _table(config, *path):
        return "" if value in _names(option) or value == f"[{','.join(option)}]" else attempt
    return "" if _equal(value_at(config, *path), value) else attempt


def _table(config: Mapping[str, object], *path: str) -> Mapping[str, object]:
    node = value_at(config, *path)
    return cast(Mapping[str, object], node) if isinstance(node, Mapping) else {}


def _names(node: Mapping[str, object]) -> set[str]:
    """What the option of a group is called: by its name or rule, unless its class is one of the user, or by its class, with the
    depth of a network.
    """
    module, _, kind = str(node.get("_target_", "")).rpartition(".")
    own = not module or module.split(".")[0] == OWN_PACKAGE
    names = {str(node.get("name")), str(node.get("rule"))} if own else set[str]()
    return {*names, kind.lower(), f"{kind.lower()}{node.get('depth', '')}"}


def _equal(value: object, text: str) -> bool:
    try:
        return float(str(value)) == float(text)
    except ValueError:
        return str(value) == text


def advised(finding: Finding, typed: Sequence[str]) -> Finding:
    """The finding, with what the command must leave out if the first override that it suggests is added to it."""
    left = left_behind(finding.attempt[0], typed) if finding.attempt else []
    return (
        replace(
            finding, meaning=f"{finding.meaning} To try {finding.attempt[0]}, remove {listed(left)} from the command."
        )
        if left
        else finding
    )


def suggested(
    attempt: Sequence[str],
    between: str = " or ",
    shown: Callable[[str], str] = quoted,
    told: Callable[[str], str] = str,
) -> str:
    """Return what a finding suggests as sentences without the last period: overrides to try, and what is to be done by hand.

    Args:
        attempt: Overrides, and texts that say what is to be done by hand.
        between: What stands between two overrides.
        shown: How an override is written.
        told: How a text is written.

    >>> suggested(("compare images and labels", "job=doctor", "schedule=[cosine]"))
    "Compare images and labels. Try job=doctor or 'schedule=[cosine]'"
    """
    overrides = [text for text in attempt if OVERRIDE.match(text)]
    others = [told(text[0].upper() + text[1:]) for text in attempt if text not in overrides]
    tried = [f"Try {between.join(map(shown, overrides))}"] if overrides else []
    return ". ".join([*tried, *others] if attempt[:1] == tuple(overrides[:1]) else [*others, *tried])


def suggested_in_markdown(attempt: Sequence[str]) -> str:
    """Return the same as Markdown, in which overrides are code.

    >>> suggested_in_markdown(("compare *images* and labels", "job=doctor"))
    'Compare &#42;images&#42; and labels. Try `job=doctor`'
    """
    return suggested(
        attempt,
        ", ",
        lambda override: code_span(quoted(override)),
        lambda text: markdown_literal(text, within_line=True),
    )


def finding_in_markdown(finding: FindingContent, between: str = " ") -> str:
    """Return a finding as Markdown that shows its texts as they are: evidence and meaning, then what it suggests."""
    texts = (finding["name"], finding["kind"], finding["evidence"], finding["meaning"])
    name, kind, evidence, meaning = (markdown_literal(text, within_line=True) for text in texts)
    attempt = f"{between}{suggested_in_markdown(finding['attempt'])}." if finding["attempt"] else ""
    return f"**{name}** ({kind}): {evidence}. {meaning}{attempt}"


def listed(names: Sequence[str]) -> str:
    """Return names as an enumeration.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
