"""State dicts as others save them: where in a file they are, under which prefix, with which head; fitted to a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

EMA = ("ema", "averaged", "swa")  # in the name of an entry: averaged weights, which are preferred as in timm
NAMED = 4  # names that a message lists

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fitted:
    """Weights of a file under the names of a model.

    Attributes:
        weights: Those that fit.
        missing: Names of the model, without its head, that the file lacks or has in another shape, with the reason.
        notes: What was loaded, and what was skipped and why.
    """

    weights: dict[str, Tensor]
    missing: dict[str, str]
    notes: tuple[str, ...]


def fit(content: object, shapes: Shapes, head: tuple[str, ...] = ()) -> Fitted:
    """Return the weights of a file's content that fit a model.

    The content may be a state dict, or hold one or several under any names; of several that fit equally, averaged weights
    are taken. The names may have any prefix, such as ``module.`` or ``backbone.``.

    Args:
        content: What the file holds.
        shapes: The shape of each weight and buffer of the model.
        head: The names that belong to the head, which is replaced afterwards.

    >>> import torch
    >>> file = {"epoch": 3, "state_dict": {"module.w": torch.ones(2), "module.head.bias": torch.ones(9)}}
    >>> fitted = fit(file, {"w": (2,), "head.bias": (5,)}, head=("head.bias",))
    >>> list(fitted.weights), fitted.missing
    (['w'], {})
    >>> for note in fitted.notes: print(note)
    weights: 1 of 1 loaded, from state_dict, without the prefix module.
    weights: skipped head.bias (9) of another head, which is replaced
    """
    candidates = [(place, names_without_prefix(state, shapes)) for place, state in state_dicts(content)]
    if not candidates:
        return Fitted({}, {name: "missing" for name in shapes if name not in head}, ())

    def quality(candidate: tuple[str, Prefixed]) -> tuple[int, bool]:
        place, prefixed = candidate
        fitting = sum(_fits(prefixed.state, name, shape) for name, shape in shapes.items())
        return fitting, any(word in place.lower() for word in EMA)

    place, prefixed = max(candidates, key=quality)
    others = [name or "the file itself" for name, _ in candidates if name != place]
    return _fitted(place, prefixed, shapes, head, others)


def state_dicts(content: object, place: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield all dictionaries of tensors in a file, each with its place, such as ``state.model``."""
    if not isinstance(content, Mapping):
        return
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if tensors:
        yield place, tensors
    for key, value in content.items():
        yield from state_dicts(value, f"{place}.{key}".strip("."))


@dataclass(frozen=True)
class Prefixed:
    """A state dict under names without ``prefix``, which they had in the file; ``rest`` are names without it."""

    prefix: str
    state: dict[str, Tensor]
    rest: tuple[str, ...]


def names_without_prefix(state: Mapping[str, Tensor], shapes: Shapes) -> Prefixed:
    """Return a state dict without the prefix under which most of its names are those of the model.

    Names that are the model's without removing anything stay.
    """
    by_last: dict[str, list[str]] = {}
    for name in shapes:
        by_last.setdefault(name.rpartition(".")[2], []).append(name)
    votes: Counter[str] = Counter()
    for name, tensor in state.items():
        for own in by_last.get(name.rpartition(".")[2], ()):
            if (name == own or name.endswith(f".{own}")) and tuple(tensor.shape) == tuple(shapes[own]):
                votes[name[: len(name) - len(own)]] += 1
    prefix = max(votes, key=lambda p: (votes[p], -len(p)), default="")
    renamed = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    rest = tuple(name for name in state if not name.startswith(prefix))
    return Prefixed(
        prefix, renamed | {name: state[name] for name in rest if name in shapes and name not in renamed}, rest
    )


def _fits(state: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> bool:
    return name in state and tuple(state[name].shape) == tuple(shape)


def _fitted(place: str, prefixed: Prefixed, shapes: Shapes, head: tuple[str, ...], others: list[str]) -> Fitted:
    state = prefixed.state
    weights = {name: state[name] for name, shape in shapes.items() if _fits(state, name, shape)}
    body = [name for name in shapes if name not in head]
    missing = {
        name: f"{_shape(state[name].shape)} instead of {_shape(shapes[name])}" if name in state else "missing"
        for name in body
        if name not in weights and not name.endswith("num_batches_tracked")  # which old files lack, and no result needs
    }
    counters = [name for name in body if name not in weights and name not in missing]
    source = [f"from {place}"] if place else []
    source += [f"without the prefix {prefixed.prefix}"] if prefixed.prefix else []
    source += [f"not from {', '.join(others[:NAMED])}"] if others else []
    loaded = sum(name in weights for name in body)
    notes = [", ".join([f"weights: {loaded} of {len(body) - len(counters)} loaded", *source])]
    other_head = [f"{name} ({_shape(state[name].shape)})" for name in head if name in state and name not in weights]
    if other_head:
        notes.append(f"weights: skipped {', '.join(other_head)} of another head, which is replaced")
    unused = [name for name in (*state, *prefixed.rest) if name not in shapes]
    unused = list(dict.fromkeys(unused))
    if unused:
        more = f" and {len(unused) - NAMED} more" if len(unused) > NAMED else ""
        notes.append(f"weights: skipped {', '.join(unused[:NAMED])}{more}, which the network does not have")
    return Fitted(weights, missing, tuple(notes))


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def why_other_network(fitted: Fitted, shapes: Shapes, head: tuple[str, ...]) -> str | None:
    """Return why a file does not hold this network: the weights it lacks; None if it holds all of them."""
    if not fitted.missing:
        return None
    body = len([name for name in shapes if name not in head])
    examples = [f"{name} is {reason}" for name, reason in list(fitted.missing.items())[:NAMED]]
    more = f", and {len(fitted.missing) - NAMED} more" if len(fitted.missing) > NAMED else ""
    return f"{len(fitted.missing)} of {body} weights do not fit: {'; '.join(examples)}{more}"


__all__ = ["Fitted", "fit", "names_without_prefix", "state_dicts", "why_other_network"]
