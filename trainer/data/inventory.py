"""What became of each file or row of a data set: used, or skipped for a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from trainer.literal import printable

NAMED = 3  # items that are named for each reason that calls for a look at them


class Skipped(NamedTuple):
    """A file or row that is not used. ``named`` tells whether the summary names it, or only counts it."""

    name: str
    reason: str
    named: bool = False


@dataclass(frozen=True)
class Inventory:
    """The files or rows that a data set was read from.

    Attributes:
        used: Number of images used, one per file or row.
        skipped: All others.
        unit: ``files`` or ``rows``.
    """

    used: int
    skipped: tuple[Skipped, ...] = ()
    unit: str = "files"

    @property
    def total(self) -> int:
        return self.used + len(self.skipped)

    def __str__(self) -> str:
        """Return one line that accounts for everything.

        >>> print(Inventory(4, (Skipped("a.txt", ".txt"), Skipped("a/p.jpg", "corrupt", named=True))))
        6 files: 4 images used, 2 skipped (1 corrupt: a/p.jpg, 1 .txt)
        >>> print(Inventory(4))
        4 files: 4 images used
        """
        text = f"{self.total:,} {self.unit}: {self.used:,} images used"
        if not self.skipped:
            return text
        counts = Counter(item.reason for item in self.skipped)
        names = {reason: [s.name for s in self.skipped if s.named and s.reason == reason] for reason in counts}
        order = sorted(counts, key=lambda reason: (not names[reason], -counts[reason], reason))
        parts = [f"{counts[reason]:,} {reason}{_listed(names[reason])}" for reason in order]
        return f"{text}, {len(self.skipped):,} skipped ({', '.join(parts)})"


def _listed(names: list[str]) -> str:
    """Return ": " and the first names; the empty string for none."""
    return f": {shortened(names, NAMED)}" if names else ""


def shortened(names: list[str] | tuple[str, ...], count: int) -> str:
    """Return the first ``count`` names, and how many there are besides.

    >>> shortened(["ant", "bee", "cat"], 2), shortened(["ant", "bee"], 2)
    ('ant, bee, ... (1 more)', 'ant, bee')
    """
    rest = len(names) - count
    return ", ".join(map(printable, names[:count])) + (f", ... ({rest:,} more)" if rest > 0 else "")
