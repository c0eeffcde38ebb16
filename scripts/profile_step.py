"""Profile a training step: time by operation, time of each part of the loop, and a trace for a browser.

python scripts/profile_step.py [--steps 30] [--trace trace.json] [--rows 15] [overrides as for train ...]
The trace opens in chrome://tracing or https://ui.perfetto.dev.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.run import Run
from trainer.engine.step import set_lr_and_momentum, train_step

PARTS = ("batch", "lr", "step", "averaging")


def steps(run: Run, count: int, seconds: dict[str, float]) -> None:
    """Run ``count`` steps as the loop does. Each part is named in the trace, and its time is added to ``seconds``."""
    run.model.train()
    epoch, batches = 0, run.train.batches(0)
    for _ in range(count):
        marks = [time.perf_counter()]
        with record_function("batch"):
            batch = next(batches, None)
            if batch is None:
                epoch += 1
                batches = run.train.batches(epoch)
                batch = next(batches)
        marks.append(time.perf_counter())
        with record_function("lr"):
            set_lr_and_momentum(run)
        marks.append(time.perf_counter())
        with record_function("step"):
            train_step(run, *batch)
        marks.append(time.perf_counter())
        with record_function("averaging"):
            if run.averaged is not None:
                run.averaging.update(run.averaged, run.model, run.time, end_of_epoch=False)
        marks.append(time.perf_counter())
        for name, start, end in zip(PARTS, marks, marks[1:], strict=False):
            seconds[name] = seconds.get(name, 0.0) + end - start
    batches.close()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows", type=int, default=15)
    parser.add_argument("--trace", type=Path, default=Path("trace.json"))
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args(arguments)
    run = build(load_config(options.overrides))
    steps(run, 5, {})  # warm-up: the first steps allocate memory and choose algorithms
    seconds: dict[str, float] = {}
    steps(run, options.steps, seconds)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if run.precision.device.type == "cuda" else [])
    with profile(activities=kinds) as profiler:
        steps(run, options.steps, {})
    by = "self_cuda_time_total" if torch.cuda.is_available() and len(kinds) > 1 else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=by, row_limit=options.rows, max_name_column_width=40))
    total = sum(seconds.values())
    for name, part in seconds.items():
        print(f"{name:10}{1e3 * part / options.steps:9.3f} ms per step {100 * part / total:6.1f} %")
    profiler.export_chrome_trace(str(options.trace))
    print(f"trace: {options.trace}")


if __name__ == "__main__":
    main()
