"""What values a searched key may have: ``log(a,b)``, ``uniform(a,b)``, ``int(a,b)``, ``1-log(a,b)`` or ``choice(a,b,...)``.

Every kind maps its values to a scale on which the search is uniform: x = log10(value), value, or log10(1 − value).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeGuard, cast

from trainer.config.overrides import parse
from trainer.formats import Json
from trainer.search.records import Kind

FORMS = "log(a,b), uniform(a,b), int(a,b), log_int(a,b), 1-log(a,b) or choice(a,b,...)"
DECADE, THREEFOLD = 1.0, math.log10(3)


@dataclass(frozen=True)
class Limits:
    """Values that the declaration of a key allows; a limit is excluded where it is open."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def contains(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)


@dataclass(frozen=True)
class Distribution:
    """A kind of scale with its bounds, or a list of choices.

    Attributes:
        kind: The scale. ``1-log`` is uniform in log10(1 − value), for momentum and the like; ``low`` and ``high`` are
            bounds of the value itself.
        choices: Of ``choice``: plain values.
        limits: What the declaration of the key allows.
    """

    kind: Kind
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Json, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @property
    def numeric(self) -> bool:
        return self.kind != "choice"

    def __str__(self) -> str:
        if not self.numeric:
            return f"choice({','.join(map(show, self.choices))})"
        if self.kind == "1-log":
            return f"1-log({1 - self.high:.3g},{1 - self.low:.3g})"
        return f"{self.kind}({self.low:.3g},{self.high:.3g})"

    def scale(self, value: float) -> float:
        """Return the place of a value on the scale.

        >>> Distribution("log", 1e-4, 1.0).scale(1e-2), Distribution("1-log", 0.9, 0.99).scale(0.9)
        (-2.0, 1.0)
        """
        if self.kind in ("log", "log_int"):
            return math.log10(value)
        return -math.log10(1 - value) if self.kind == "1-log" else float(value)

    def value(self, x: float) -> float:
        """Return the value at a place on the scale, an integer for ``int`` and ``log_int``."""
        if self.kind in ("log", "log_int"):
            x = 10.0**x
        elif self.kind == "1-log":
            x = 1 - 10.0**-x
        return round(x) if self.kind in ("int", "log_int") else x

    @property
    def bounds(self) -> tuple[float, float]:
        """The bounds on the scale; those of integers reach half a step further, so that all are equally likely."""
        if self.kind == "int":
            return self.low - 0.5, self.high + 0.5
        return self.scale(self.low), self.scale(self.high)

    def unit(self, value: Json) -> float:
        """Return the place of a value between the bounds, from 0 to 1; of a choice the middle of its part.

        >>> Distribution("log", 1e-4, 1.0).unit(1e-2), Distribution("uniform", 0, 2).unit(0.5)
        (0.5, 0.25)
        >>> Distribution("choice", choices=("sgd", "adam")).unit("adam")
        0.75
        """
        if not self.numeric:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        low, high = self.bounds
        return (self.scale(number(value)) - low) / (high - low) if high > low else 0.5

    def at(self, unit: float) -> Json:
        """Return the value at a place from 0 to 1, rounded to four significant digits where nothing forbids it.

        >>> Distribution("log", 1e-4, 1.0).at(0.5), Distribution("int", 2, 6).at(0.999)
        (0.01, 6)
        >>> Distribution("choice", choices=("sgd", "adam")).at(0.4)
        'sgd'
        """
        if not self.numeric:
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        low, high = self.bounds
        value = self.value(low + unit * (high - low))
        if self.kind not in ("int", "log_int"):
            rounded = 1 - float(f"{1 - value:.4g}") if self.kind == "1-log" else float(f"{value:.4g}")
            value = float(f"{rounded:.10g}")
        return min(max(value, self.low), self.high)

    def contains(self, value: Json) -> bool:
        """Whether a value lies within the bounds, or among the choices."""
        if not self.numeric:
            return value in self.choices
        return is_number(value) and self.low <= value <= self.high

    def with_bounds(self, low: float, high: float) -> Distribution:
        """Return the distribution between two places on the scale, within what is allowed."""
        if self.kind == "int":
            low, high = low + 0.5, high - 0.5
        first, last = self.value(low), self.value(max(low, high))
        return replace(self, low=self._allowed(first, self.limits.low), high=self._allowed(last, self.limits.high))

    def _allowed(self, value: float, limit: float) -> float:
        """The value, or the nearest allowed one: a tenth of the way from an open limit to the bound of before."""
        if self.limits.contains(value):
            return value
        if self.limits.contains(limit):
            return limit
        bound = self.low if limit == self.limits.low else self.high
        return limit + 0.1 * (bound - limit)

    def extended(self, side: Literal["low", "high"]) -> Distribution | None:
        """Return the distribution with one side extended; None if nothing is allowed beyond it.

        ``log`` is extended by a decade, ``1-log`` by a factor of 3 of 1 − value, others by half their range.

        >>> str(Distribution("log", 1e-4, 1e-2).extended("high")), str(Distribution("1-log", 0.9, 0.99).extended("high"))
        ('log(0.0001,0.1)', '1-log(0.00333,0.1)')
        >>> Distribution("uniform", 0.0, 0.5, limits=Limits(low=0.0)).extended("low") is None
        True
        """
        low, high = self.bounds
        step = {"log": DECADE, "log_int": DECADE, "1-log": THREEFOLD}.get(self.kind, max((high - low) / 2, 1e-12))
        if self.kind == "int":
            step = max(1.0, float(round(step)))
        wider = self.with_bounds(low - step, high) if side == "low" else self.with_bounds(low, high + step)
        wider = replace(wider, **({"high": self.high} if side == "low" else {"low": self.low}))
        return None if (wider.low, wider.high) == (self.low, self.high) else wider

    def narrowed(self, values: Sequence[Json]) -> Distribution:
        """Return the distribution around good values: their range and 15 % of the present one on both sides.

        It is not narrowed below a factor of 3 of ``log`` or 15 % of the present range, and never widened.

        >>> str(Distribution("log", 1e-4, 1.0).narrowed([0.01, 0.02]))
        'log(0.00251,0.0796)'
        """
        if not self.numeric:
            return replace(self, choices=tuple(c for c in self.choices if c in values) or self.choices)
        inside = [self.scale(number(v)) for v in values if self.contains(v)]
        if not inside:
            return self
        low, high = self.bounds
        pad = 0.15 * (high - low)
        least = THREEFOLD if self.kind in ("log", "log_int") else 2 * pad
        first, last = min(inside) - pad, max(inside) + pad
        if last - first < least:
            middle = (first + last) / 2
            first, last = middle - least / 2, middle + least / 2
        first, last = max(low, first), min(high, last)
        if self.kind == "int":
            first, last = math.floor(first + 0.5) - 0.5, math.ceil(last - 0.5) + 0.5
        narrower = self.with_bounds(first, last)
        return replace(narrower, low=max(narrower.low, self.low), high=min(narrower.high, self.high))


def is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value: Json) -> float:
    """Return the value of a numeric dimension; TypeError if it is none."""
    if not is_number(value):
        raise TypeError(f"{value!r} is not a number")
    return value


def show(value: Json) -> str:
    """Return a choice as it is typed.

    >>> show(["warmup", "cosine"]), show(None), show(0.1)
    ('[warmup,cosine]', 'null', '0.1')
    """
    if isinstance(value, list):
        return f"[{','.join(map(show, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def distribution(text: object, limits: Limits | None = None) -> Distribution:
    """Return the distribution that a text describes.

    Raises:
        ValueError: It describes none; the message says why.

    >>> str(distribution("log(1e-4,1e-1)")), distribution("choice(sgd,[a,b])").choices
    ('log(0.0001,0.1)', ('sgd', ['a', 'b']))
    """
    match = re.fullmatch(r"\s*(log|uniform|int|log_int|1-log|choice)\s*\((.*)\)\s*", str(text), re.S)
    if not match:
        raise ValueError(f"must be {FORMS}")
    kind, items = match[1], split(match[2])
    limits = limits or Limits()
    if kind == "choice":
        return Distribution("choice", choices=_choices(items), limits=limits)
    low, high = _bounds(kind, items)
    if kind == "1-log":
        low, high = 1 - high, 1 - low
    for value in (low, high):
        if not limits.contains(value):
            raise ValueError(f"must stay within what the key allows: {_interval(limits)}")
    return Distribution(kind, low, high, limits=limits)  # pyright: ignore[reportArgumentType]


def _choices(items: list[str]) -> tuple[Json, ...]:
    if not items or not all(items):
        raise ValueError("must name at least one choice: choice(a,b,...)")
    overrides, problems = parse([f"x={item}" for item in items])
    if problems or any(o.sweep for o in overrides):
        raise ValueError("must be plain values, options or lists of options: choice(a,b,[c,d])")
    values = tuple(cast(Json, o.value) for o in overrides)  # plain, as checked
    if any(value in values[:i] for i, value in enumerate(values)):
        raise ValueError("must not name the same choice twice")
    return values


def _bounds(kind: str, items: list[str]) -> tuple[float, float]:
    if len(items) != 2:
        raise ValueError(f"must have two bounds: {kind}(a,b)")
    try:
        low, high = (int(item) if kind in ("int", "log_int") else float(item) for item in items)
        finite = math.isfinite(low) and math.isfinite(high)
    except OverflowError:  # an integer beyond floating-point numbers
        raise ValueError("must have finite bounds") from None
    except ValueError:
        raise ValueError(f"must have {'integers' if 'int' in kind else 'numbers'} as bounds: {kind}(a,b)") from None
    if not finite:
        raise ValueError("must have finite bounds")
    if low >= high:
        raise ValueError(f"must have a lower bound below the upper one; {items[0]} is not below {items[1]}")
    if "log" in kind and low <= 0:
        what = "1 - value, which" if kind == "1-log" else "a logarithmic scale, which"
        raise ValueError(f"must have bounds > 0 on {what} has no place for {items[0]}")
    if kind == "1-log" and high > 1:
        raise ValueError("must have bounds of 1 - value in (0, 1]")
    return low, high


def _interval(limits: Limits) -> str:
    left = "" if limits.low == -math.inf else f"{'>' if limits.low_open else '>='} {limits.low:g}"
    right = "" if limits.high == math.inf else f"{'<' if limits.high_open else '<='} {limits.high:g}"
    return " and ".join(filter(None, (left, right)))


def split(text: str) -> list[str]:
    """Return the parts of a text between commas that are in no brackets or quotes.

    >>> split("sgd, [a,b], 'x,y'")
    ['sgd', '[a,b]', "'x,y'"]
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote or character in "'\"":
            quote = "" if character == quote else quote or character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts] if text.strip() else []
