"""Compare `job=search` with random search, a 5x5 grid, and Optuna's TPE with median pruning, at the same wall-clock budget.

All search the learning rate and the weight decay of SGD with momentum in their default spaces, with the same number of
processes of one thread each; the others train every trial for the full length. The config that each method ends with is
then trained with ten seeds that none has used, outside of the budget, and its mean test accuracy is the method's.
Repetitions differ in the images (`data.split_seed`) and in all random numbers. Intervals are those of paired differences
over the repetitions (t, 95 %).

python scripts/search_table.py [--budget 600] [--repetitions 5] [--workers 2] [--data "data=mnist5k data.limit=500"]
    [--methods search grid]
The full table is this, and the same with --data "data=fashion_mnist data.limit=2000": 4 methods x 5 repetitions x 10
minutes each, 6.7 hours in all. With --output DIRECTORY a table can be collected over several commands: parts that are there are
not run again, a part that was interrupted is run again from its beginning, and --parts 4 ends after four parts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.search.space import Space

METHODS = ("search", "random", "grid", "tpe")
EPOCHS = 20
FRESH = tuple(range(900_001, 900_011))
COMMON = ["optimizer=momentum", "observer=[]", "engine.threads=1"]


@cache
def default_space() -> Space:
    """Where `job=search` looks for learning rate and weight decay if nothing else is typed."""
    from trainer.config.load import load_config
    from trainer.search.read_space import read_space

    return read_space({}, load_config(["job=search", *COMMON]))[0]


def bounds() -> dict[str, tuple[float, float]]:
    """The lowest and the highest value of each searched key; all of them are searched on a log scale."""
    return {d.key: (d.distribution.low, d.distribution.high) for d in default_space()}


def base(arguments: argparse.Namespace, repetition: int) -> list[str]:
    """The config that all methods start from."""
    return [*arguments.data.split(), *COMMON, f"data.split_seed={repetition}", f"seed={1000 * repetition}"]


def run_train(overrides: list[str]) -> None:
    """Run `train` in one thread."""
    command = [sys.executable, "-m", "trainer", *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def run_search(arguments: argparse.Namespace, repetition: int, directory: Path) -> dict[str, Any]:
    """Run `job=search` and return the winner's values."""
    limits = [f"job.budget={arguments.budget}s", f"job.workers={arguments.workers}", f"output={directory}"]
    run_train(["job=search", *base(arguments, repetition), *limits])
    result = json.loads((directory / "result.json").read_text())
    trials = sum(sum(counts.values()) for counts in result["trials"].values())
    return {"point": result["winner"], "trials": trials}


def run_baseline(arguments: argparse.Namespace, repetition: int, directory: Path, method: str) -> dict[str, Any]:
    """Run another method in ``workers`` processes and return the values of its best trial."""
    directory.mkdir(parents=True, exist_ok=True)
    end = time.time() + arguments.budget
    command = [sys.executable, __file__, "--worker", method, "--end", str(end), "--output", str(directory)]
    command += ["--repetition", str(repetition), "--data", arguments.data]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([*command, "--number", str(i)], env=environment) for i in range(arguments.workers)]
    if any(process.wait() for process in processes):
        raise RuntimeError(f"{method} failed")
    study = open_study(method, directory, repetition, 0)
    done = [t for t in study.trials if t.value is not None and t.state.name == "COMPLETE"]
    best = max(done, key=lambda t: t.value or 0.0)
    return {"point": dict(best.params), "trials": len(study.trials)}


def open_study(method: str, directory: Path, repetition: int, number: int) -> Any:
    """The study of a baseline, in a journal that its processes share."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = 1000 * repetition + number
    levels = {k: [lo * (hi / lo) ** (i / 4) for i in range(5)] for k, (lo, hi) in bounds().items()}
    samplers = {
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "grid": lambda: optuna.samplers.GridSampler(levels, seed=repetition),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
    }
    pruner = optuna.pruners.MedianPruner() if method == "tpe" else optuna.pruners.NopPruner()
    storage = JournalStorage(JournalFileBackend(str(directory / "trials.journal")))
    return optuna.create_study(
        study_name=method,
        storage=storage,
        sampler=samplers[method](),
        pruner=pruner,
        direction="maximize",
        load_if_exists=True,
    )


def work(arguments: argparse.Namespace) -> None:
    """One process of a baseline: trials until the budget is used up."""
    import optuna

    from trainer.config.load import load_config
    from trainer.engine.interrupt import Interrupt
    from trainer.search.trial import Configs, Trials

    overrides = base(arguments, arguments.repetition)
    trials = Trials(Configs(load_config(overrides), overrides), Interrupt(), lambda run, observers: {})
    study = open_study(arguments.worker, arguments.output, arguments.repetition, arguments.number)
    finished = optuna.trial.TrialState

    def objective(trial: Any) -> float:
        point = {key: trial.suggest_float(key, *limits, log=True) for key, limits in bounds().items()}

        def report(step: int, value: float) -> bool:
            trial.report(value, step)
            return step < EPOCHS and trial.should_prune()

        outcome = trials.run(trials.configs.tree(point, EPOCHS, 1000 * arguments.repetition), report)
        if outcome.state == "pruned":
            raise optuna.TrialPruned
        return outcome.value if outcome.state == "done" and outcome.value is not None else 0.0

    while time.time() < arguments.end:
        if arguments.worker == "grid" and len(study.get_trials(deepcopy=False, states=[finished.COMPLETE])) >= 25:
            break
        study.optimize(objective, n_trials=1)


def test_accuracy(arguments: argparse.Namespace, repetition: int, point: dict[str, Any], directory: Path) -> float:
    """Mean test accuracy of a config over the fresh seeds, which a sweep trains."""
    keys = [f"{key}={value!r}" for key, value in point.items()]
    overrides = [*base(arguments, repetition)[:-1], *keys, f"epochs={EPOCHS}", f"seed={','.join(map(str, FRESH))}"]
    run_train(["-m", *overrides, f"output={directory}"])
    results = [json.loads(file.read_text()) for file in directory.glob("*/result.json")]
    return sum(result["test"]["accuracy"] for result in results) / len(FRESH)


def measure(arguments: argparse.Namespace, method: str, repetition: int) -> dict[str, Any]:
    """Run one method in one repetition, and write its result to --output."""
    directory = arguments.output / f"{method}-{repetition}"
    found_file = directory / "found.json"
    if not found_file.exists():
        shutil.rmtree(directory, ignore_errors=True)  # of a part that was interrupted: its time cannot be continued
        run = run_search if method == "search" else partial(run_baseline, method=method)
        found_file.write_text(json.dumps(run(arguments, repetition=repetition, directory=directory)))
    found = json.loads(found_file.read_text())
    result = found | {"test": test_accuracy(arguments, repetition, found["point"], directory / "test")}
    part_file(arguments, method, repetition).write_text(json.dumps(result))
    text = (
        f"repetition {repetition}, {method}: {100 * result['test']:.2f} %, {result['trials']} trials, {result['point']}"
    )
    print(text, flush=True)
    return result


def part_file(arguments: argparse.Namespace, method: str, repetition: int) -> Path:
    """The file of a part that is over."""
    return arguments.output / f"{method}-{repetition}.json"


def check_settings(arguments: argparse.Namespace) -> None:
    """Exit if --output holds parts of another table."""
    own = {"data": arguments.data, "budget": arguments.budget, "workers": arguments.workers, "epochs": EPOCHS}
    own["seeds"] = len(FRESH)
    file = arguments.output / "settings.json"
    if file.exists() and (there := json.loads(file.read_text())) != own:
        sys.exit(f"{arguments.output} holds parts of another table: {there}; this one: {own}")
    file.write_text(json.dumps(own))


def print_table(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Print the mean of each method over the repetitions, and what the search gains."""
    from trainer.analysis.intervals import interval

    settings = f"{arguments.data}, {arguments.budget:g} s, {arguments.workers} workers"
    print(f"\n{settings}, {len(rows)} repetitions; test accuracy")
    for method in arguments.methods:
        mean = interval([row[method]["test"] for row in rows])
        text = f"{method:8s} {100 * mean.mean:6.2f} % ± {100 * mean.half:.2f}"
        if method != "search" and "search" in arguments.methods:
            gain = interval([row["search"]["test"] - row[method]["test"] for row in rows])
            better = sum(row["search"]["test"] > row[method]["test"] for row in rows)
            text += f"   search is better by {100 * gain.mean:+.2f} ± {100 * gain.half:.2f} points, in {better} of {len(rows)}"
        print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--data", default="data=mnist5k data.limit=500")
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--parts", type=int, default=None, help="parts to run at most, of those that are missing")
    for name in ("--worker", "--end", "--repetition", "--number"):  # of the processes that this script starts
        parser.add_argument(
            name, type=str if name == "--worker" else float if name == "--end" else int, help=argparse.SUPPRESS
        )
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    arguments.output = arguments.output or Path(tempfile.mkdtemp())
    arguments.output.mkdir(parents=True, exist_ok=True)
    check_settings(arguments)
    parts = [(method, repetition) for repetition in range(arguments.repetitions) for method in arguments.methods]
    missing = [part for part in parts if not part_file(arguments, *part).exists()]
    for part in missing[: arguments.parts]:
        measure(arguments, *part)
    results = {part: json.loads(file.read_text()) for part in parts if (file := part_file(arguments, *part)).exists()}
    rows = [
        {m: results[m, r] for m in arguments.methods}
        for r in range(arguments.repetitions)
        if {(m, r) for m in arguments.methods} <= results.keys()
    ]
    if len(results) < len(parts):
        print(
            f"{len(results)} of {len(parts)} parts are in {arguments.output}; the same command with --output continues"
        )
    if rows:
        print_table(arguments, rows)


if __name__ == "__main__":
    main()
