"""``job=compare``: runs side by side, as a table, as Markdown, as a picture and as CSV."""

from __future__ import annotations

import csv
import glob
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.analysis.comparison import Group, Outcome, against_best, effects, exceeds, flat, flat_settings, grouped
from trainer.errors import ConfigError, Problem, check
from trainer.run_dir import check_available, terminal, write

if TYPE_CHECKING:
    from trainer.config.schema import Config


@dataclass(frozen=True)
class Compare:
    """Read the run folders ``runs`` and write ``compare.md``, ``compare.png`` and ``compare.csv``: groups of runs that differ in
    nothing but the seed, their ``score`` with Student's interval of that ``confidence``, the effect of each varied key.
    """

    score: str = "auto"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check(self, confidence=(0 < self.confidence < 1, "must be in (0, 1)"))

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        paths = run_folders(config.runs)
        check_available(folder)
        metric, runs = self._read(paths)
        groups = grouped(runs)
        text = page(metric, groups, effects(groups, self.confidence), self.confidence, len(runs))
        from trainer.report.figures import comparison_figure

        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "compare.md", text)
        write_csv(folder / "compare.csv", metric, runs, list(groups[0].settings))
        curves = [(label(g), [list(run.rows) for run in g.runs], g.scores) for g in groups]
        comparison_figure(curves, metric).savefig(folder / "compare.png", dpi=110)
        show(metric, groups, effects(groups, self.confidence), self.confidence, folder)
        return 0

    def _read(self, paths: list[Path]) -> tuple[str, list[Outcome]]:
        """The metric that was meant, and the runs with it."""
        import yaml

        from trainer.report import json_of, lines_of

        results = {path: json_of(path / "result.json") or {} for path in paths}
        metric = self.score
        if metric == "auto":
            both = ("test.accuracy", "validation.accuracy", "train.accuracy")
            metric = next((m for m in both if any(main_score(r, m) is not None for r in results.values())), both[0])
        if all(main_score(result, metric) is None for result in results.values()):
            known = sorted(
                {k for result in results.values() for k in flat(result) if isinstance(flat(result)[k], float)}
            )
            raise ConfigError(
                Problem("job.score", metric, "no run has such a score", f"there are: {', '.join(known) or 'none'}")
            )
        runs = []
        for path, result in results.items():
            settings = flat_settings(yaml.safe_load((path / "config.yaml").read_text()))
            runs.append(Outcome(path.name, settings, main_score(result, metric), lines_of(path / "history.jsonl")))
        return metric, runs


def run_folders(runs: tuple[str, ...] | str | None) -> list[Path]:
    """The run folders that ``runs`` names, one by one or as folders that hold some; ConfigError below two."""
    if not runs:
        raise ConfigError(Problem("runs", None, "must be given: runs=[a,b,...] or runs=<folder of runs>"))
    found: list[Path] = []
    for value in [runs] if isinstance(runs, str) else runs:
        place = Path(value).expanduser()
        if not place.is_dir() and any(c in value for c in "*?["):
            named = [Path(p) for p in glob.glob(str(place)) if (Path(p) / "config.yaml").is_file()]
            if not named:
                raise ConfigError(Problem("runs", value, "no run folder is named so"))
            found += named
            continue
        if not place.is_dir():
            raise ConfigError(Problem("runs", value, "there is no such folder"))
        inside = [place] if (place / "config.yaml").is_file() else sorted(p.parent for p in place.rglob("config.yaml"))
        if not inside:
            raise ConfigError(Problem("runs", value, "holds no run", "a run folder holds config.yaml and result.json"))
        found += inside
    found = sorted(set(found), key=_order)
    if len(found) < 2:
        given = runs if isinstance(runs, str) else ",".join(runs)
        raise ConfigError(Problem("runs", given, "names one run only", "two or more are needed"))
    return found


def _order(path: Path) -> tuple[str, int, str]:
    """A sweep's jobs by their number."""
    number = path.name.partition("_")[0]
    return str(path.parent), int(number) if number.isdigit() else -1, path.name


def main_score(result: dict[str, Any], metric: str) -> float | None:
    """A score by its dotted name in ``result.json``."""
    found: Any = result
    for part in metric.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else None


def label(group: Group) -> str:
    """A group in words.

    >>> label(Group({"optimizer": "SGD", "optimizer.lr": 0.1}))
    'optimizer=SGD optimizer.lr=0.1'
    """
    return " ".join(f"{k}={_value(v)}" for k, v in group.settings.items()) or "the same config"


def _value(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def table(metric: str, groups: list[Group], confidence: float) -> list[list[str]]:
    """A row a group, the best first: settings, runs, mean and interval, difference to the best, whether it exceeds the spread."""
    geometric = not metric.endswith("loss")
    rows = []
    for group, gap in zip(groups, against_best(groups, geometric, confidence), strict=True):
        found = group.interval(confidence)
        settings = [_value(v) for v in group.settings.values()]
        failed = len(group.runs) - len(group.scores)
        count = f"{len(group.scores)}" + (f" (+{failed} without a score)" if failed else "")
        if found is None or gap is None:
            rows.append((math.inf, [*settings, count, "", "", ""]))
            continue
        verdict = (
            "the best" if gap.mean == 0 else {True: "yes", False: "no", None: "one run tells no spread"}[exceeds(gap)]
        )
        mean = f"{found.mean:.4f}" + (f" ± {found.half:.4f}" if math.isfinite(found.half) else "")
        apart = "" if gap.mean == 0 else f"{gap.mean:+.4f}" + (f" ± {gap.half:.4f}" if math.isfinite(gap.half) else "")
        rows.append((-found.mean if geometric else found.mean, [*settings, count, mean, apart, verdict]))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def heads(metric: str, groups: list[Group]) -> list[str]:
    return [*groups[0].settings, "runs", metric, "to the best", "more than the spread"]


def effect_rows(found: list[dict[str, Any]]) -> list[list[str]]:
    words = {True: "yes", False: "no", None: "one run tells no spread"}
    return [
        [row["key"], f"{row['from']} -> {row['to']}", str(row["pairs"]),
         f"{row['effect']:+.4f}" + (f" ± {row['half']:.4f}" if math.isfinite(row["half"]) else ""), words[row["exceeds"]]]
        for row in found
    ]  # fmt: skip


EFFECT_HEADS = ["key", "from -> to", "pairs", "effect", "more than the spread"]


def page(metric: str, groups: list[Group], found: list[dict[str, Any]], confidence: float, runs: int) -> str:
    """The comparison as Markdown."""

    def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
        return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]

    lines = [
        f"# {runs} runs compared by {metric}",
        "",
        *markdown(heads(metric, groups), table(metric, groups, confidence)),
    ]
    lines += [
        "",
        f"Mean and {100 * confidence:g} % interval (Student) over runs that differ in the seed alone; differences by Welch.",
    ]
    lines += ["", "![curves of all groups](compare.png)"]
    if found:
        lines += ["", "## What each key does, all others held", "", *markdown(EFFECT_HEADS, effect_rows(found))]
    return "\n".join([*lines, ""])


def show(metric: str, groups: list[Group], found: list[dict[str, Any]], confidence: float, folder: Path) -> None:
    """The comparison in the terminal."""
    import sys

    from rich.table import Table

    console = terminal(width=None if sys.stdout.isatty() else 160)
    for head, rows in ((heads(metric, groups), table(metric, groups, confidence)), (EFFECT_HEADS, effect_rows(found))):
        if rows:
            shown = Table(*head)
            for row in rows:
                shown.add_row(*row)
            console.print(shown)
    print(f"compare.md, compare.png and compare.csv are in {folder}")


def write_csv(path: Path, metric: str, runs: list[Outcome], keys: list[str]) -> None:
    """A row a run: its name, what was varied, the seed, the score."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run", *keys, "seed", metric])
        rows.writerows(
            [run.name, *(run.settings.get(k) for k in keys), run.settings.get("seed"), run.score] for run in runs
        )
