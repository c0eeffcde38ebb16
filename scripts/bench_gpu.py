"""What the engine's choices are worth on a GPU: a step of ours in each manner, beside the plain and the best hand-written loop.

Cases: resnet20 (batch 128), cnn2, linear: small networks, where launching kernels rules; resnet18 in batches of 512; fast: the
network of experiment=cifar10_fast in batches of 1024, with the seconds that its 16 epochs would take. The hand-written loops are
bench_engine.py's, and the best of them with its forward pass, backward pass and update recorded as one CUDA graph. Each
manner is a process of its own, ``--rounds`` times in turns; figures are the median over the rounds of the 10th percentile of
synchronised step times, the range, and the peak of the device's memory. Without a GPU the table says "not measured";
--device cpu tries the script.

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

COLOUR = ["data.size=32", "data.channels=3", "augmentation=[crop,flip]"]
LARGE = {  # networks beside those of bench_engine.py, and their batches
    "resnet18": (["architecture=resnet18_cifar", *COLOUR], 512),
    "fast": (["architecture=airbench", "activation=gelu", *COLOUR], 1024),
}
CASES = ["resnet20", "cnn2", "linear", *LARGE]
MANNERS: dict[str, list[str]] = {
    "as shipped": [],
    "float32": ["precision=float32"],
    "no graph": ["engine.graph=off"],
    "no graph, contiguous": ["engine.graph=off", "engine.channels_last=false"],
    "compiled": ["engine.compile=default", "engine.graph=off"],
    "compiled, graph": ["engine.compile=default"],
    "compiled by reduce-overhead": ["engine.compile=reduce-overhead"],
    "pictures streamed": ["data.loading=streaming"],
    "plain loop": [],
    "best loop": [],
    "best loop, graph": [],
}


def graph_loop(run: Any, case: str) -> bench_engine.Step:
    """The best hand-written loop, its whole step recorded once and replayed: only the batch is copied into its place."""
    import copy

    import torch
    from torch.nn import functional as F

    if run.precision.device.type != "cuda":
        raise SystemExit("a CUDA graph needs a GPU")
    model = copy.deepcopy(run.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    labels, total = torch.from_numpy(run.train.dataset.labels), torch.zeros((), device="cuda")
    batches = bench_engine.resident(
        run, run.train.dataset.images, labels, "augmentation=[crop,flip]" in bench_engine.CASES[case]
    )
    x, y = (part.clone() for part in next(batches))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with run.precision.autocast():
            loss = F.cross_entropy(model(x).float(), y)
        loss.backward()
        optimizer.step()
        total.add_(loss.detach())

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for new_x, new_y in batches:
        x.copy_(new_x)
        y.copy_(new_y)
        graph.replay()
        yield


def measure(case: str, manner: str, device: str, steps: int) -> dict[str, Any]:
    """In a process of its own: seconds of each step after the first twenty, and the device memory's peak in MiB."""
    import torch

    from trainer.engine.loop import fit

    if case in LARGE:
        bench_engine.CASES[case], bench_engine.BATCH = LARGE[case]
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
        if "loop" in manner:
            best = manner == "best loop"
            step = graph_loop(run, case) if "graph" in manner else bench_engine.hand_written(run, case, best=best)
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
    batch = LARGE[case][1] if case in LARGE else bench_engine.BATCH
    print(f"\n{case}, batch {batch}, {options.device}, {options.rounds} rounds\n")
    print("| manner | ms a step | range | of the best loop | MiB | |\n|---|---|---|---|---|---|")
    for manner, results in found.items():
        if not low[manner]:
            print(f"| {manner} | failed | | | | {results[0]} |")
            continue
        middle = float(np.median(low[manner]))
        last = next(r for r in reversed(results) if isinstance(r, dict))
        memory = "" if last["memory"] is None else f"{last['memory']:,.0f}"
        note = f"{middle * 48 * 16 / 1e3:.2f} s for 16 epochs of 48 steps" if case == "fast" else ""
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
