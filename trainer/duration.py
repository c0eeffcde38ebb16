"""Durations as they are typed: ``10min``, ``1h30min``, ``90s``."""

from __future__ import annotations

import re

OUT_OF_TIME = "the budget of "  # how the reason begins that a run ended because its time was over
SECONDS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0}


def seconds(text: str | float) -> float:
    """Return a duration in seconds; a number alone is seconds.

    Raises:
        ValueError: The text is no duration > 0.

    >>> seconds("10min"), seconds("1h30min"), seconds(90)
    (600.0, 5400.0, 90.0)
    """
    match = re.fullmatch(r"(?:[0-9.]+(?:d|h|min|m|s))+|[0-9.]+", str(text).replace(" ", ""))
    total = 0.0
    if match:
        for number, unit in re.findall(r"([0-9.]+)(d|h|min|m|s)?", match[0]):
            total += float(number) * SECONDS[unit or "s"]
    if total <= 0:
        raise ValueError("must be a duration > 0 such as 10min, 1h30min or 90s")
    return total


def why_no_duration(text: str | float) -> str:
    """Return what is wrong with a text that is no duration; empty if it is one.

    >>> why_no_duration("2h"), why_no_duration("2 weeks")
    ('', 'must be a duration > 0 such as 10min, 1h30min or 90s')
    """
    try:
        seconds(text)
    except ValueError as error:
        return str(error)
    return ""


def show_seconds(value: float) -> str:
    """Return a duration as it is read most easily.

    >>> show_seconds(0.25), show_seconds(4.2), show_seconds(75), show_seconds(3700)
    ('0.2s', '4s', '1min15s', '1h01min')
    """
    whole = round(value)
    if 0.05 <= value < 0.95:
        return f"{value:.1g}s"
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}min{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}min"
