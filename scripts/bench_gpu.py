"""Time a training step on a GPU in several configurations of the engine, against the plain and the best hand-written loop.

Cases: resnet20 (batch 128), cnn2, linear: small networks, limited by kernel launches; resnet18 with batches of 512; fast: the
network of experiment=cifar10_fast with batches of 1024, with the seconds that 16 epochs would take. The hand-written loops are
those of bench_engine.py, and the best of them with forward pass, backward pass and update captured as one CUDA graph. Each
configuration runs in a process of its own, ``--rounds`` times, interleaved; reported are the median over the rounds of the 10th
percentile of synchronized step times, the range, and the peak of the device memory. A configuration takes about 15 s per round,
compiled ones more. Without a GPU the table says "not measured"; --device cpu tries the script.

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

COLOR = ["data.size=32", "data.channels=3", "augmentation=[crop,flip]"]
LARGE = {  # networks in addition to those of bench_engine.py, with their batch sizes
    "resnet18": (["architecture=resnet18_cifar", *COLOR], 512),
    "fast": (["architecture=airbench", "activation=gelu", *COLOR], 1024),
}
CASES = ["resnet20", "cnn2", "linear", *LARGE]
CONFIGURATIONS: dict[str, list[str]] = {
    "as shipped": [],
    "not deterministic": ["engine.deterministic=false"],
    "float32": ["precision=float32"],
    "no graph": ["engine.graph=off"],
    "no graph, contiguous": ["engine.graph=off", "engine.channels_last=false"],
    "compiled": ["engine.compile=default", "engine.graph=off"],
    "compiled, graph": ["engine.compile=default"],
    "compiled by reduce-overhead": ["engine.compile=reduce-overhead"],
    "streaming": ["data.loading=streaming"],
    "plain loop": [],
    "best loop": [],
    "best loop, graph": [],
}


def graph_loop(run: Any, case: str) -> bench_engine.Step:
    """The best hand-written loop as a CUDA graph: the step is captured once and replayed; only the batch is copied in."""
    import copy

    import torch
    from torch.nn import functional as F

    if run.precision.device.type != "cuda":
        raise SystemExit("a CUDA graph needs a GPU")
    model = copy.deepcopy(run.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    labels, total = torch.from_numpy(run.train.dataset.labels), torch.zeros((), device="cuda")
    batches = bench_engine.in_memory(
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


def measure(case: str, configuration: str, device: str, steps: int) -> dict[str, Any]:
    """Measure in this process: seconds of each step after the first twenty, and the peak of the device memory in MiB."""
    import torch

    from trainer.engine.loop import fit

    if case in LARGE:
        bench_engine.CASES[case], bench_engine.BATCH = LARGE[case]
    bench_engine.EXTRA = CONFIGURATIONS[configuration]
    times: list[float] = []

    class Timer(bench_engine.Interleave):
        def on_step_end(self, run: Any) -> None:
            bench_engine.synchronize(run)
            times.append(time.perf_counter())
            if len(times) == steps:
                raise bench_engine.Finished

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run, observers = bench_engine.build_run(case, device, folder)
        if "loop" in configuration:
            best = configuration == "best loop"
            step = (
                graph_loop(run, case) if "graph" in configuration else bench_engine.hand_written(run, case, best=best)
            )
            for _ in range(steps):
                next(step)
                bench_engine.synchronize(run)
                times.append(time.perf_counter())
        else:
            with contextlib.suppress(bench_engine.Finished):
                fit(run, [*observers, Timer({}, 0, lambda: None)])
    peak = torch.cuda.max_memory_allocated() / 2**20 if run.precision.device.type == "cuda" else None
    return {"seconds": np.diff(times[min(20, steps // 2) :]).tolist(), "memory": peak, "notes": run.notes}


def measure_process(case: str, configuration: str, device: str, steps: int) -> dict[str, Any] | str:
    command = [sys.executable, __file__, "--worker", case, configuration, "--device", device, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed without a message"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def table(case: str, options: argparse.Namespace) -> None:
    results_by_configuration: dict[str, list[Any]] = {configuration: [] for configuration in options.configuration}
    for _ in range(options.rounds):
        for configuration, results in results_by_configuration.items():
            results.append(measure_process(case, configuration, options.device, options.steps))
    low = {
        m: [1e3 * float(np.percentile(r["seconds"], 10)) for r in results if isinstance(r, dict)]
        for m, results in results_by_configuration.items()
    }
    best = float(np.median(low.get("best loop") or [float("nan")]))
    batch = LARGE[case][1] if case in LARGE else bench_engine.BATCH
    print(f"\n{case}, batch {batch}, {options.device}, {options.rounds} rounds\n")
    print(
        "| configuration | ms per step | range | speed relative to the best loop | MiB | |\n|---|---|---|---|---|---|"
    )
    for configuration, results in results_by_configuration.items():
        if not low[configuration]:
            print(f"| {configuration} | failed | | | | {results[0]} |")
            continue
        median = float(np.median(low[configuration]))
        last = next(r for r in reversed(results) if isinstance(r, dict))
        memory = "" if last["memory"] is None else f"{last['memory']:,.0f}"
        note = f"{median * 48 * 16 / 1e3:.2f} s for 16 epochs of 48 steps" if case == "fast" else ""
        spread = f"{min(low[configuration]):.3f} to {max(low[configuration]):.3f}"
        print(f"| {configuration} | {median:.3f} | {spread} | {best / median:.2f} | {memory} | {note} |", flush=True)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--case", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--configuration", nargs="+", default=list(CONFIGURATIONS), choices=list(CONFIGURATIONS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print("\n" + json.dumps(measure(*options.worker, options.device, options.steps)))
        return
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("| case | configuration | ms per step |\n|---|---|---|")
        print("\n".join(f"| {c} | {m} | not measured: no GPU |" for c in options.case for m in options.configuration))
        return
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu"
    print(f"{device}, torch {torch.__version__}, python {sys.version.split()[0]}, {Path(__file__).name}")
    for case in options.case:
        table(case, options)


if __name__ == "__main__":
    main()
