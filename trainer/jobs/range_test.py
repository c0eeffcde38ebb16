"""``job=range_test``: the rate rises batch by batch, and the loss says which rates to train with."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.analysis.lr_range import NoDescent, Reading, geometric, read, rounded, smooth
from trainer.errors import ConfigError, Problem, check
from trainer.run_dir import check_available, create_run_dir, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.engine.run import Run

MOST = 5000  # batches: the curve is smoothed by a matrix with a row and a column for each


@dataclass(frozen=True)
class RangeTest:
    """Train ``steps`` batches while the rate rises from ``start`` to ``stop``, each parameter group at its own ratio to it.

    ``range_test.png``, ``range_test.json`` and TensorBoard hold the curve; the terminal, bounds for CLR, a peak for one-cycle
    and a fixed rate, as overrides. Exit code 1 where the loss falls nowhere. The same test chooses ``optimizer.lr=auto`` and
    ``schedule.clr.floor=auto``.
    """

    start: float = 1e-6
    stop: float = 10.0
    steps: int = 150
    scale: Literal["exponential", "linear"] = "exponential"
    smoothing: float = 0.03

    def __post_init__(self) -> None:
        check(
            self,
            start=(self.start > 0, "must be > 0"),
            stop=(self.stop > self.start, "must be more than job.start"),
            steps=(20 <= self.steps <= MOST, f"must be in [20, {MOST}] batches"),
            smoothing=(0 <= self.smoothing <= 0.2, "must be in [0, 0.2]"),
        )

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        check_available(folder)
        from trainer.build import build

        run = build(config, folder)
        create_run_dir(folder, config.tree, overrides, run.notes[0])
        rates, losses, found = self.test(run)
        reading = found if isinstance(found, Reading) else None
        self.keep(run, rates, losses, reading)
        result = {"status": "finished", "stop_reason": "tested" if reading else found, "steps": len(losses)}
        result |= {
            "range_test": dataclasses.asdict(reading) if reading else None,
            "refused": None if reading else found,
        }
        write_json(folder / "result.json", result)
        show(rates, losses, found, self.smoothing, folder)
        return 0 if reading else 1

    def test(self, run: Run) -> tuple[list[float], list[float], Reading | str]:
        """Rates, losses, and the reading or why there is none; the run is as before."""
        from trainer.engine.lr_range_test import lr_range_curve

        rates, losses = lr_range_curve(run, geometric(self.start, self.stop, self.steps, self.scale))
        if len(losses) < 10:
            return rates, losses, f"the loss was no number or exploded after {len(losses)} steps: a lower job.start"
        try:
            return rates, losses, read(rates, losses, self.smoothing)
        except NoDescent as error:
            return rates, losses, str(error)

    def keep(self, run: Run, rates: list[float], losses: list[float], reading: Reading | None) -> None:
        """The curve as numbers, as a picture, and on TensorBoard."""
        from trainer.observers.event_writers import EventWriters
        from trainer.report.lr_range import lr_range_figure

        assert run.folder is not None
        line = smooth(losses, self.smoothing * len(losses)).tolist()
        write_json(run.folder / "range_test.json", {"lr": rates, "loss": losses, "smoothed": line})
        if not losses:
            return
        figure = lr_range_figure(rates, losses, line, reading, self.scale)
        figure.savefig(run.folder / "range_test.png", dpi=110)
        board = EventWriters(run.folder)("train")
        for i, (rate, loss, value) in enumerate(zip(rates, losses, line, strict=True)):
            board.add_scalar("range_test/lr", rate, i)
            board.add_scalar("range_test/loss", loss, i)
            board.add_scalar("range_test/smoothed", value, i)
        board.add_figure("range_test", figure, 0)
        board.close()


def suggestions(reading: Reading) -> list[tuple[str, str, list[str]]]:
    """What for, how sure, and the overrides.

    >>> suggestions(Reading(0.01, 0.05, 0.1, 1.0))[0]
    ('a fixed rate', 'unsure', ['optimizer.lr=0.05'])
    """
    peak = rounded(reading.peak)
    floor = floor_of(reading, peak)
    return [
        ("a fixed rate", reading.sure("fixed"), [f"optimizer.lr={rounded(reading.fixed):g}"]),
        (
            "cycles between two rates",
            reading.sure("floor") if reading.sure("floor") != "sure" else reading.sure("peak"),
            ["schedule=clr", f"optimizer.lr={peak:g}", f"schedule.clr.floor={floor:g}"],
        ),
        ("one cycle", reading.sure("peak"), ["schedule=one_cycle", f"optimizer.lr={peak:g}"]),
    ]


def floor_of(reading: Reading, peak: float) -> float:
    """The lower bound as a multiplier of the upper one."""
    return rounded(min(max(reading.floor / peak, 1e-4), 0.9))


def show(rates: list[float], losses: list[float], found: Reading | str, smoothing: float, folder: Path) -> None:
    """The curve in lines of text, and the overrides."""
    if losses:
        print("\n".join(chart(rates, smooth(losses, smoothing * len(losses)).tolist())))
    if isinstance(found, str):
        print(f"no suggestion: {found}", file=sys.stderr)
    else:
        for what, sure, words in suggestions(found):
            print(f"{what:<26}{' '.join(words)}   ({sure})")
        low, high = found.ranges["fixed"]
        print(
            f"the fixed rate would be from {low:.2g} to {high:.2g} with other noise; the loss fell by {found.drop:.3g}"
        )
        for note in found.notes:
            print(note)
    print(f"range_test.png and range_test.json are in {folder}")


def chart(rates: list[float], line: list[float], rows: int = 14, width: int = 40) -> list[str]:
    """Rate, smoothed loss and a bar of its length, ``rows`` of them.

    >>> chart([0.1, 1.0], [2.0, 1.0], width=4)
    ['      rate     loss', '       0.1    2.000 ####', '         1    1.000 ##']
    """
    picks = sorted({round(i * (len(line) - 1) / max(rows - 1, 1)) for i in range(rows)})
    top = max(line[i] for i in picks[: max(2, len(picks) // 2)]) or 1.0
    texts = [f"{'rate':>10}{'loss':>9}"]
    for i in picks:
        length = round(width * min(line[i] / top, 1.25)) if math.isfinite(line[i]) else 0
        texts.append(f"{rates[i]:>10.2g}{line[i]:>9.3f} {'#' * max(length, 0)}")
    return texts


def resolve_auto_keys(config: Config) -> Config:
    """The config with numbers for what it leaves to a range test, which is made here.

    Where the schedule holds its peak for a part of the time only (warm-up, cycles, decay) the rate is the peak, else the
    fixed one.
    """
    from trainer.build import build
    from trainer.config.load import config_from_tree, with_value
    from trainer.schedules import Product

    key, test = config.auto_keys[0], RangeTest()
    run = build(config)
    _, _, found = test.test(run)
    if isinstance(found, str):
        raise ConfigError(Problem(key, "auto", f"a range test found no rate: {found}", "give a number"))
    tree, chosen = config.tree, {}
    schedule = Product(tuple(config.schedule.values())).over(config.epochs)
    brief = min(schedule(0.0), schedule(config.epochs)) < 0.5
    lr: float = run.optimizer_option.lr
    if "optimizer.lr" in config.auto_keys:
        lr = chosen["optimizer.lr"] = rounded(found.peak if brief else found.fixed)
    if "schedule.clr.floor" in config.auto_keys:
        if found.floor >= lr:
            text = f"learning begins at {found.floor:.3g}, which is not below optimizer.lr = {lr:g}"
            raise ConfigError(Problem("schedule.clr.floor", "auto", text, "optimizer.lr=auto"))
        chosen["schedule.clr.floor"] = floor_of(found, lr)
    for name, value in chosen.items():
        tree = with_value(tree, name, value)
    return dataclasses.replace(config_from_tree(tree), notes=config.notes, range_test=chosen)
