"""Simulate `job=search` on recorded trials: what would it end with, in many repetitions, at several budgets?

Recorded are trials at quasi-random learning rates and weight decays of SGD with momentum, each with two seeds, at the lengths of
the stages. In the simulation a trial at any point has the learning curve of one of the three nearest recorded points, drawn
with weights by distance, and takes its time on a clock of its own. Everything else is the search's code. What a search ends with
is judged by the mean test accuracy of those trials.

python scripts/simulate_search.py record trials.jsonl [--points 128] [--split 0] [--data "data=mnist5k data.limit=500"]
python scripts/simulate_search.py run trials.jsonl [--budgets 30 60 300] [--repetitions 40] [--lr 0.1] [OVERRIDE ...]

--lr is the learning rate of the config as typed, with next to no weight decay: 0.1 is a good one, 0.008 a bad one. Overrides are
those of the search, such as job.pruner=none. `record` takes 8 s per point on one core, and continues what it was at.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from search_table import COMMON, default_space

from trainer.config.load import load_config
from trainer.interrupt import Interrupt
from trainer.search.budget import Clock
from trainer.search.choice import candidates, choose
from trainer.search.points import points
from trainer.search.progress import Progress
from trainer.search.run import Part, make_session, take_part
from trainer.search.trial import Configs, Outcome, Trials

KEYS = ("optimizer.lr", "optimizer.weight_decay")
LENGTHS, SEEDS = (5.0, 20.0), (0, 1)
STEEP = np.array([2.0, 1.0])  # the learning rate counts twice in distances
NEAREST = 3


def record(arguments: argparse.Namespace) -> None:
    """Train the trials that are missing in the file."""
    file: Path = arguments.file
    there = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(row["index"], row["seed"], row["epochs"]) for row in there}
    words = [*arguments.data.split(), *COMMON, f"data.split_seed={arguments.split}", "seed=0"]
    trials = Trials(Configs(load_config(words), words), Interrupt(), lambda run, observers: {})
    with file.open("a") as rows:
        for index, point in enumerate(points("sobol", default_space(), arguments.points, seed=7)):
            for key in ((index, seed, epochs) for seed in SEEDS for epochs in LENGTHS):
                if key in done:
                    continue
                _, seed, epochs = key
                tree = trials.configs.tree(point, epochs, 1000 * arguments.split + seed)
                outcome = trials.run(tree, lambda step, value: False, test=epochs == LENGTHS[-1]).record()
                row = {**outcome, "index": index, "seed": seed, "epochs": epochs, "point": point}
                rows.write(json.dumps(row) + "\n")
                rows.flush()


class Recorded:
    """The recorded trials: a learning curve and an accuracy for every point."""

    def __init__(self, file: Path, typed: dict[str, float]) -> None:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found: dict[int, dict[tuple[float, int], dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["index"], {})[row["epochs"], row["seed"]] = row
        complete = [trials for trials in found.values() if len(trials) == len(LENGTHS) * len(SEEDS)]
        if not complete:
            raise SystemExit(f"{file} holds no point with all its trials: record them first")
        self.trials, self.typed = complete, typed
        self.places = np.array([self.place(next(iter(trials.values()))["point"]) for trials in complete])
        longest = [t for trials in complete for t in trials.values() if t["epochs"] == LENGTHS[-1] and len(t["curve"])]
        self.seconds_per_epoch = float(np.median([t["seconds"] / len(t["curve"]) for t in longest]))

    def place(self, point: dict[str, Any]) -> np.ndarray:
        """The scaled coordinates of a point; those that are not in it are those of the config as typed."""
        values = {**self.typed, **point}
        return STEEP * [default_space()[key].distribution.unit(values[key]) for key in KEYS]

    def near(self, point: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The nearest recorded points, and the probability of each."""
        distances = ((self.places - self.place(point)) ** 2).sum(axis=1)
        nearest = np.argsort(distances, kind="stable")[:NEAREST]
        weights = 1 / (distances[nearest] + 0.002)
        return nearest, weights / weights.sum()

    def draw(self, point: dict[str, Any], epochs: float, rng: np.random.Generator) -> dict[str, Any]:
        """A trial at a point."""
        nearest, weights = self.near(point)
        return self.trials[rng.choice(nearest, p=weights)][epochs, SEEDS[rng.integers(len(SEEDS))]]

    def test_accuracy(self, point: dict[str, Any]) -> float:
        """The expected test accuracy of a point."""
        nearest, weights = self.near(point)
        tests = [[self.trials[i][LENGTHS[-1], s].get("test", {}).get("accuracy", 0.1) for s in SEEDS] for i in nearest]
        return float(weights @ np.mean(tests, axis=1))


class SimulatedClock(Clock):
    """A clock that trials advance."""

    now = 0.0

    @property
    def elapsed(self) -> float:
        return self.now


def simulate(recorded: Recorded, budget: float, seed: int, overrides: list[str], directory: Path) -> tuple[float, str]:
    """Run a search; return the expected test accuracy of the winner, and the reason of the choice."""
    space = [f"job.space.{d.key}={d.distribution}" for d in default_space()]
    lengths = f"job.epochs=[{','.join(map(str, LENGTHS))}]"
    words = ["data=fake", "optimizer=momentum", "observer=[]", "job=search", lengths, *space, f"seed={1000 * seed}"]
    config = load_config([*words, f"job.budget={budget}", *overrides])
    session = make_session(Part(config.tree, (), tuple(words[:3]), directory), lambda run, observers: {})
    clock = SimulatedClock(budget, session.clock.ends, 0.0, 0.0)
    session.clock, session.progress = clock, Progress(quiet=True)

    def run(
        tree: dict[str, Any], report: Callable[[int, float], bool], test: bool = False, run_dir: Path | None = None
    ) -> Outcome:
        optimizer = tree["optimizer"]
        values = {"optimizer.lr": optimizer["lr"], "optimizer.weight_decay": max(optimizer["weight_decay"], 1e-6)}
        point = {} if optimizer == config.tree["optimizer"] else values
        trial = recorded.draw(
            point, tree["epochs"], np.random.default_rng([seed, tree["seed"], *_bits(values.values())])
        )
        state, curve = trial["state"], []
        for value in trial["curve"]:
            curve.append(value)
            if report(len(curve), value):
                state = "pruned"
                break
        seconds = recorded.seconds_per_epoch * max(len(curve), 1)
        clock.now += seconds
        tests = trial.get("test") if test and state == "done" else None
        return Outcome(
            state, max(curve, default=None), tuple(curve), tuple(range(1, len(curve) + 1)),
            seconds, trial.get("loss"), tests,
        )  # fmt: skip

    session.trials.run = run  # pyright: ignore[reportAttributeAccessIssue]
    session.trials.metric = "validation_accuracy"
    take_part(session, directory)
    chosen = choose(candidates(session.full_length.results, session.repetitions, session.points, session.trials.metric))
    return recorded.test_accuracy(chosen.winner.point), chosen.reason


def _bits(values: Any) -> list[int]:
    return np.array(list(values)).view(np.uint32).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["record", "run"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--data", default="data=mnist5k data.limit=500")
    parser.add_argument("--budgets", type=float, nargs="+", default=[30, 60, 300])
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    if arguments.command == "record":
        record(arguments)
        return
    recorded = Recorded(arguments.file, {"optimizer.lr": arguments.lr, "optimizer.weight_decay": 1e-6})
    print(f"{len(recorded.trials)} points, {recorded.seconds_per_epoch:.3f} s per epoch, the config as typed "
          f"{100 * recorded.test_accuracy({}):.2f} %, the best recorded point "
          f"{100 * max(recorded.test_accuracy(next(iter(t.values()))['point']) for t in recorded.trials):.2f} %")  # fmt: skip
    for budget in arguments.budgets:
        with tempfile.TemporaryDirectory() as directory:
            found = [
                simulate(recorded, budget, seed, arguments.overrides, Path(directory) / str(seed))
                for seed in range(arguments.repetitions)
            ]
        accuracies = 100 * np.array([accuracy for accuracy, _ in found])
        reasons = ", ".join(f"{n} times {reason}" for reason, n in Counter(reason for _, reason in found).most_common())
        print(f"{budget:g} s: mean {accuracies.mean():.2f} %, standard deviation {accuracies.std(ddof=1):.2f}, lowest "
              f"{accuracies.min():.2f}; {reasons}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
