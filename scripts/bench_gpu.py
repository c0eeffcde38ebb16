"""What the engine's choices are worth on a GPU: a step of ours in each manner, beside the plain and the best hand-written loop.

Cases: resnet20 (batch 128), cnn2, linear: small networks, where launching kernels rules; fast: the network of
experiment=cifar10_fast in batches of 1024, with the seconds that its 9.9 epochs would take. Each manner is a process of its own,
``--rounds`` times in turns; figures are the median over the rounds of the 10th percentile of synchronised step times, the
range, and the peak of the device's memory. Without a GPU the table says "not measured"; --device cpu tries the script.

python scripts/bench_gpu.py [--rounds 3] [--steps 60] [--case resnet20 fast] [--device cuda]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bench_engine
import numpy as np

FAST = ["architecture=airbench", "activation=gelu", "data.size=32", "data.channels=3", "augmentation=[crop,flip]"]
CASES = ["resnet20", "cnn2", "linear", "fast"]
MANNERS: dict[str, list[str]] = {
    "as shipped": [],
    "float32": ["precision=float32"],
    "no graph": ["engine.graph=off"],
    "no graph, contiguous": ["engine.graph=off", "engine.channels_last=false"],
    "compiled": ["engine.compile=default", "engine.graph=off"],
    "compiled, graph": ["engine.compile=default"],
    "compiled by reduce-overhead": ["engine.compile=reduce-overhead"],
    "pictures streamed": ["data.way=workers"],
    "plain loop": [],
    "best loop": [],
}


def measure(case: str, manner: str, device: str, steps: int) -> dict[str, Any]:
    """In a process of its own: seconds of each step after the first twenty, and the device memory's peak in MiB."""
    import torch

    from trainer.engine.loop import fit

    if case == "fast":
        bench_engine.CASES["fast"], bench_engine.BATCH = FAST, 1024
    bench_engine.EXTRA = MANNERS[manner]
    times: list[float] = []

    class Watch(bench_engine.Turns):
        def on_step_end(self, run: Any) -> None:
            bench_engine.wait(run)
            times.append(time.perf_counter())
            if len(times) == steps:
                raise bench_engine.Enough

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run, observers = bench_engine.run_of(case, device, folder)
        if manner.endswith("loop"):
            step = bench_engine.hand_written(run, case, best=manner == "best loop")
            for _ in range(steps):
                next(step)
                bench_engine.wait(run)
                times.append(time.perf_counter())
        else:
            with contextlib.suppress(bench_engine.Enough):
                fit(run, [*observers, Watch({}, 0, lambda: None)])
    peak = torch.cuda.max_memory_allocated() / 2**20 if run.precision.device.type == "cuda" else None
    return {"seconds": np.diff(times[min(20, steps // 2) :]).tolist(), "memory": peak, "notes": run.notes}


def own_process(case: str, manner: str, device: str, steps: int) -> dict[str, Any] | str:
    command = [sys.executable, __file__, "--worker", case, manner, "--device", device, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no words"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def table(case: str, options: argparse.Namespace) -> None:
    found: dict[str, list[Any]] = {manner: [] for manner in options.manner}
    for _ in range(options.rounds):
        for manner, results in found.items():
            results.append(own_process(case, manner, options.device, options.steps))
    low = {
        m: [1e3 * float(np.percentile(r["seconds"], 10)) for r in results if isinstance(r, dict)]
        for m, results in found.items()
    }
    best = float(np.median(low.get("best loop") or [float("nan")]))
    batch = 1024 if case == "fast" else bench_engine.BATCH
    print(f"\n{case}, batch {batch}, {options.device}, {options.rounds} rounds\n")
    print("| manner | ms a step | range | of the best loop | MiB | |\n|---|---|---|---|---|---|")
    for manner, results in found.items():
        if not low[manner]:
            print(f"| {manner} | failed | | | | {results[0]} |")
            continue
        middle = float(np.median(low[manner]))
        last = next(r for r in reversed(results) if isinstance(r, dict))
        memory = "" if last["memory"] is None else f"{last['memory']:,.0f}"
        note = f"{middle * 48 * 9.9 / 1e3:.2f} s for 9.9 epochs of 48 steps" if case == "fast" else ""
        span = f"{min(low[manner]):.3f} to {max(low[manner]):.3f}"
        print(f"| {manner} | {middle:.3f} | {span} | {best / middle:.2f} | {memory} | {note} |", flush=True)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--case", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--manner", nargs="+", default=list(MANNERS), choices=list(MANNERS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print("\n" + json.dumps(measure(*options.worker, options.device, options.steps)))
        return
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("| case | manner | ms a step |\n|---|---|---|")
        print("\n".join(f"| {c} | {m} | not measured: no GPU here |" for c in options.case for m in options.manner))
        return
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu"
    print(f"{device}, torch {torch.__version__}, python {sys.version.split()[0]}, {Path(__file__).name}")
    for case in options.case:
        table(case, options)


if __name__ == "__main__":
    main()
