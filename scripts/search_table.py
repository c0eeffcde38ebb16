"""Compare `job=search` with random search, a 5x5 grid, and Optuna's TPE with median pruning, at the same wall-clock budget.

The search, random search and TPE search the same space, that of a user who wants a good classifier: DATA below. A grid
cannot: with five values of each number and all choices it has 18,000 trials, so it tries 5 learning rates x 5 weight decays
in their default spaces and keeps the defaults of the other keys, as grids usually do (Bergstra & Bengio 2012, JMLR 13).
What the table says of the grid is thus about this, not about how points of the same space are chosen; random search and TPE
are.

All have the same number of processes of one thread each; the others train every trial for the full length. The config that
each method ends with is then trained with ten seeds that none has used, outside of the budget, and its mean test accuracy is
the method's. Repetitions differ in the images (`data.split_seed`) and in all random numbers. Intervals are those of paired
differences over the repetitions (t, 95 %).

python scripts/search_table.py [--data mnist5k] [--methods search grid] [--repetitions 5] [--parts 4]
Each data set takes 4 methods x 5 repetitions x 10 minutes on two cores, and half as long again for the fresh seeds. Every part
is a file in scripts/search_table/<data>: the same command runs what is missing, --parts 4 ends after four parts, and a part
that was interrupted is run again from its beginning. On one core, --budget 1200 is as much computation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
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
    from trainer.search.trial import Trials

METHODS = ("search", "random", "grid", "tpe")
EPOCHS = 20
FRESH = tuple(range(900_001, 900_011))
COMMON = ["optimizer=momentum", "observer=[]", "engine.threads=1"]
# A user knows that mirrored digits are other digits, and mirrored shirts are shirts.
DATA = {
    "mnist5k": ("data=mnist5k data.limit=500", "choice(none,translation,mnist)"),
    "fashion_mnist": ("data=fashion_mnist data.limit=2000", "choice(none,flip,[flip,random_erasing])"),
}
SPACE = {
    "optimizer.lr": "default",
    "optimizer.weight_decay": "default",
    "optimizer.momentum": "default",
    "batch_size": "choice(16,32,64,128)",
    "schedule": "choice(constant,cosine,one_cycle)",
    "regularizer": "choice([],[dropout],[label_smoothing],[mixup])",
}
# Arguments of the processes that this script starts.
STARTED = ("--worker", "--end", "--number", "--point", "--repetition")


@cache
def default_space() -> Space:
    """Where `job=search` looks for learning rate and weight decay if nothing else is typed."""
    from trainer.config.load import load_config
    from trainer.search.read_space import read_space

    return read_space({}, load_config(["job=search", *COMMON]))[0]


def bounds() -> dict[str, tuple[float, float]]:
    """The lowest and the highest value of each key of the grid; both are searched on a log scale."""
    return {d.key: (d.distribution.low, d.distribution.high) for d in default_space()}


def space_overrides(data: str) -> list[str]:
    """The space of the search, random search, and TPE, as typed."""
    return [f"job.space.{key}={text}" for key, text in {**SPACE, "augmentation": DATA[data][1]}.items()]


def base(arguments: argparse.Namespace, repetition: int) -> list[str]:
    """The config that all methods start from."""
    return [*DATA[arguments.data][0].split(), *COMMON, f"data.split_seed={repetition}", f"seed={1000 * repetition}"]


def read(arguments: argparse.Namespace, repetition: int) -> tuple[Space, Trials]:
    """The space, and what runs its trials."""
    from trainer.config.load import load_config
    from trainer.interrupt import Interrupt
    from trainer.search.read_space import read_space
    from trainer.search.trial import Trials, base_configs

    words = base(arguments, repetition)
    config = load_config(["job=search", *words, *space_overrides(arguments.data)])
    space = read_space(config.job.space, config)[0]  # pyright: ignore[reportAttributeAccessIssue]
    return space, Trials(base_configs(load_config(words), words, space), Interrupt(), lambda run, observers: {})


def run_search(arguments: argparse.Namespace, repetition: int, directory: Path) -> dict[str, Any]:
    """Run `job=search` and return the winner's values."""
    limits = [f"job.budget={arguments.budget}s", f"job.workers={arguments.workers}", f"output={directory}"]
    words = ["job=search", *base(arguments, repetition), *space_overrides(arguments.data), *limits]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "trainer", *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    result = json.loads((directory / "result.json").read_text())
    trials = sum(sum(counts.values()) for counts in result["trials"].values())
    return {"point": result["winner"], "trials": trials, "stages": result["trials"]}


def start_workers(arguments: argparse.Namespace, repetition: int, directory: Path, *more: str) -> None:
    """Run this script in ``workers`` processes of one thread, and wait for them."""
    command = [sys.executable, __file__, "--output", str(directory), "--repetition", str(repetition)]
    command += ["--data", arguments.data, "--workers", str(arguments.workers), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([*command, "--number", str(i)], env=environment) for i in range(arguments.workers)]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"{' '.join(more)} failed")


def run_baseline(arguments: argparse.Namespace, repetition: int, directory: Path, method: str) -> dict[str, Any]:
    """Run another method in ``workers`` processes and return the values of its best trial."""
    directory.mkdir(parents=True, exist_ok=True)
    end = time.time() + arguments.budget
    start_workers(arguments, repetition, directory, "--worker", method, "--end", str(end))
    study = open_study(method, directory, repetition, 0)
    done = [t for t in study.trials if t.value is not None and t.state.name == "COMPLETE"]
    best = max(done, key=lambda t: t.value or 0.0)
    return {"point": best.user_attrs["point"], "trials": len(study.trials)}


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

    from trainer.search.sample import suggested

    space, trials = read(arguments, arguments.repetition)
    if arguments.worker == "grid":
        space = default_space()
    study = open_study(arguments.worker, arguments.output, arguments.repetition, arguments.number)
    finished = optuna.trial.TrialState

    def objective(trial: Any) -> float:
        point = suggested(trial, space)
        trial.set_user_attr("point", point)

        def report(step: int, value: float) -> bool:
            trial.report(value, step)
            return step < EPOCHS and trial.should_prune()

        tree = trials.configs.tree(space.settings(point), EPOCHS, 1000 * arguments.repetition)
        outcome = trials.run(tree, report)
        if outcome.state == "pruned":
            raise optuna.TrialPruned
        return outcome.value if outcome.state == "done" and outcome.value is not None else 0.0

    while time.time() < arguments.end:
        if arguments.worker == "grid" and len(study.get_trials(deepcopy=False, states=[finished.COMPLETE])) >= 25:
            break
        study.optimize(objective, n_trials=1)


def test(arguments: argparse.Namespace) -> None:
    """One process of the fresh seeds: every ``workers``-th of them."""
    space, trials = read(arguments, arguments.repetition)
    point = json.loads(arguments.point)
    for seed in FRESH[arguments.number :: arguments.workers]:
        tree = trials.configs.tree(space.settings(point), EPOCHS, seed)
        outcome = trials.run(tree, lambda step, value: False, test=True)
        accuracy = outcome.test["accuracy"] if outcome.test else 0.1  # diverged: as good as guessing
        (arguments.output / f"test-{seed}.json").write_text(json.dumps(accuracy))


def measure(arguments: argparse.Namespace, method: str, repetition: int) -> dict[str, Any]:
    """Run one method in one repetition, and write its result to --output."""
    directory = arguments.scratch / f"{arguments.data}-{method}-{repetition}"
    shutil.rmtree(directory, ignore_errors=True)  # of a part that was interrupted: its time cannot be continued
    load, started, cpu = os.getloadavg()[0], time.time(), cpu_seconds()
    run = run_search if method == "search" else partial(run_baseline, method=method)
    found = run(arguments, repetition=repetition, directory=directory)
    spent = {
        "budget": arguments.budget,
        "seconds": round(time.time() - started, 1),
        "cpu_seconds": round(cpu_seconds() - cpu, 1),
    }
    loads = {"load_before": load, "load_after": os.getloadavg()[0]}
    start_workers(arguments, repetition, directory, "--worker", "test", "--point", json.dumps(found["point"]))
    tests = [json.loads((directory / f"test-{seed}.json").read_text()) for seed in FRESH]
    result = {**found, "test": sum(tests) / len(tests), "tests": tests, **spent, **loads, **machine()}
    part_file(arguments, method, repetition).write_text(json.dumps(result, indent=1) + "\n")
    text = f"{100 * result['test']:.2f} %, {result['trials']} trials, {result['point']}"
    print(f"repetition {repetition}, {method}: {text}", flush=True)
    return result


def cpu_seconds() -> float:
    """CPU time of the processes that this one has waited for: what a busy machine has left a method of its budget."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine() -> dict[str, Any]:
    """Where and with what a part was measured."""
    from trainer.run_dir import git_commit

    commit = git_commit()
    cores = len(os.sched_getaffinity(0))
    return {"commit": commit and commit["commit"], "machine": platform.machine(), "cores": cores,
            "date": time.strftime("%Y-%m-%d")}  # fmt: skip


def part_file(arguments: argparse.Namespace, method: str, repetition: int) -> Path:
    """The file of a part that is over."""
    return arguments.output / f"{method}-{repetition}.json"


def check_settings(arguments: argparse.Namespace) -> None:
    """Exit if --output holds parts of another table."""
    own = {"data": DATA[arguments.data][0], "space": {k: str(v) for k, v in read(arguments, 0)[0].describe().items()}}
    # Two workers on one core have half of what they have on two.
    cores = min(arguments.workers, len(os.sched_getaffinity(0)))
    own |= {"grid": default_space().describe(), "core_seconds": arguments.budget * cores, "workers": arguments.workers}
    own |= {"epochs": EPOCHS, "seeds": len(FRESH)}
    file = arguments.output / "settings.json"
    if file.exists() and (there := json.loads(file.read_text())) != own:
        sys.exit(f"{arguments.output} holds parts of another table: {there}; this one: {own}")
    file.write_text(json.dumps(own, indent=1) + "\n")


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
    parser.add_argument("--data", choices=DATA, default="mnist5k")
    parser.add_argument("--output", type=Path, default=None, help="directory of the parts")
    parser.add_argument("--scratch", type=Path, default=None, help="directory for the trials of a part while it runs")
    parser.add_argument("--parts", type=int, default=None, help="parts to run at most, of those that are missing")
    kinds = {"--end": float, "--number": int, "--repetition": int}
    for name in STARTED:
        parser.add_argument(name, type=kinds.get(name, str), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        (test if arguments.worker == "test" else work)(arguments)
        return
    arguments.output = arguments.output or Path(__file__).with_suffix("") / arguments.data
    arguments.scratch = arguments.scratch or Path(tempfile.mkdtemp())
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
        print(f"{len(results)} of {len(parts)} parts are in {arguments.output}; the same command continues")
    if rows:
        print_table(arguments, rows)


if __name__ == "__main__":
    main()
