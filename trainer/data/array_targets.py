"""The targets of an ``.npz`` file: what an array of labels is follows from its dtype and shape."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainer.data.targets import MISSING_CLASS, NOUNS, Kind, Target
from trainer.errors import ConfigError, Problem

MAX_CLASSES = 1_000_000  # each has a name; a label beyond is no class
EXPECTED = (
    "must be integers (N,) for classes, zeros and ones of integers or bool (N, K) for labels, or floating-point numbers (N,)"
    " or (N, T) for regression"
)


def array_target(name: str, arrays: Mapping[str, np.ndarray], names: np.ndarray | None = None) -> Target:
    """Return the target that the arrays of a file hold.

    Integers (N,) are classes, integers or bool (N, K) of zeros and ones are labels, floating-point numbers (N,) or (N, T) are
    numbers.

    Args:
        name: Name of the target.
        arrays: Its values in each split, by the name of the array.
        names: Names of the classes, labels or numbers; by default they are numbered from 0 on.

    Raises:
        ConfigError: An array is none of these, the arrays differ, or there are too few or too many names.
    """
    kinds: dict[str, Kind] = {key: _kind(key, values) for key, values in arrays.items()}
    (key, kind), *others = kinds.items()
    for other, other_kind in others:
        if other_kind != kind or arrays[other].shape[1:] != arrays[key].shape[1:]:
            text = f"must be of the same kind as {key}: {_given(arrays[other])} after {_given(arrays[key])}"
            raise ConfigError(Problem("data.path", other, text))
    if kind == "classification":
        count = max(int(values.max(initial=0)) for values in arrays.values()) + 1
        if count > MAX_CLASSES:
            text = f"labels go up to {count - 1}; they must be classes, numbered from 0 on without gaps"
            hint = "numbers to predict are saved as floating-point numbers"
            raise ConfigError(Problem("data.path", key, text, hint))
    else:
        count = arrays[key][:1].size if arrays[key].ndim == 2 else 1
    if names is None:
        return Target(name, kind, tuple(map(str, range(count))))
    texts = tuple(map(str, names.tolist()))
    if names.ndim != 1 or len(texts) != count or len(set(texts)) < count:
        text = f"must be {count} different names, as {key} has {count} {NOUNS[kind]}; it is {_given(names)}"
        raise ConfigError(Problem("data.path", key.rsplit("_", 1)[0] + "_names", text))
    return Target(name, kind, texts)


def array_values(target: Target, values: np.ndarray) -> np.ndarray:
    """Return the values of an array in the form that ``Target`` describes."""
    if target.kind == "classification":
        return values.astype(np.int64)
    if target.kind == "regression":
        return values.astype(np.float64).reshape(len(values), -1)
    labels = values.astype(np.float32)
    labels[values == MISSING_CLASS] = np.nan
    return labels


def _kind(key: str, values: np.ndarray) -> Kind:
    """The kind of one array; ConfigError if it is none."""
    if values.dtype == bool and values.ndim == 1:
        hint = f"{key}.astype(int) for two classes, {key}[:, None] for one label that an image has or not"
        raise _error(key, values, hint)
    if np.issubdtype(values.dtype, np.floating) and values.ndim in (1, 2) and 0 not in values.shape[1:]:
        if np.isinf(values).any():
            raise ConfigError(Problem("data.path", key, "contains infinite numbers", "NaN stands for a missing number"))
        return "regression"
    integers = np.issubdtype(values.dtype, np.integer) or values.dtype == bool
    if integers and values.ndim == 1:
        if values.min(initial=0) < MISSING_CLASS:
            raise ConfigError(Problem("data.path", key, f"must be classes from 0 on; {MISSING_CLASS} = missing"))
        return "classification"
    if not integers or values.ndim != 2 or not values.shape[1]:
        raise _error(key, values)
    allowed = {0, 1} if values.dtype == bool else {0, 1, MISSING_CLASS}
    present = set(np.unique(values).tolist())
    if present - allowed or (MISSING_CLASS in present and 0 not in present):
        shown = ", ".join(map(str, sorted(present)[:5]))
        hint = "0 = the image does not have the label; numbers to predict are saved as floating-point numbers"
        if values.shape[1] == 1:
            hint = "classes are integers (N,): y.ravel(); numbers to predict are saved as floating-point numbers"
        text = f"integers (N, K) are labels: must be 0 or 1, {MISSING_CLASS} = missing; it contains {shown}"
        raise ConfigError(Problem("data.path", key, text, hint))
    return "multilabel"


def _given(values: np.ndarray) -> str:
    return f"{values.dtype} {values.shape}"


def _error(key: str, values: np.ndarray, hint: str = "") -> ConfigError:
    return ConfigError(Problem("data.path", f"{key} {_given(values)}", EXPECTED, hint))
