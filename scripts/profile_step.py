"""Where the time of a step goes: a table by operation, the share of what is not the network, and a trace for a browser.

python scripts/profile_step.py [--steps 30] [--trace trace.json] [--rows 15] [overrides as for train ...]
The trace opens in chrome://tracing or https://ui.perfetto.dev.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from trainer.build import build
from trainer.config.compose import compose
from trainer.config.schema import resolve
from trainer.engine.run import Run
from trainer.engine.step import set_lr_and_momentum, train_step

PARTS = ("batch", "rates", "step", "averaging")


def steps(run: Run, count: int, seconds: dict[str, float]) -> None:
    """``count`` steps as the loop makes them, each part by its name in the trace and added up in ``seconds``."""
    run.model.train()
    epoch, batches = 0, run.train.batches(0)
    for _ in range(count):
        marks = [time.perf_counter()]
        with record_function("batch"):
            found = next(batches, None)
            if found is None:
                epoch += 1
                batches = run.train.batches(epoch)
                found = next(batches)
        marks.append(time.perf_counter())
        with record_function("rates"):
            set_lr_and_momentum(run)
        marks.append(time.perf_counter())
        with record_function("step"):
            train_step(run, *found)
        marks.append(time.perf_counter())
        with record_function("averaging"):
            if run.averaged is not None:
                run.averaging.update(run.averaged, run.model, run.time, end_of_epoch=False)
        marks.append(time.perf_counter())
        for name, begin, end in zip(PARTS, marks, marks[1:], strict=False):
            seconds[name] = seconds.get(name, 0.0) + end - begin
    batches.close()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows", type=int, default=15)
    parser.add_argument("--trace", type=Path, default=Path("trace.json"))
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args(arguments)
    run = build(resolve(compose(given.overrides)))
    steps(run, 5, {})  # the first steps allocate and choose algorithms
    plain: dict[str, float] = {}
    steps(run, given.steps, plain)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if run.precision.device.type == "cuda" else [])
    with profile(activities=kinds) as found:
        steps(run, given.steps, {})
    by = "self_cuda_time_total" if torch.cuda.is_available() and len(kinds) > 1 else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=by, row_limit=given.rows, max_name_column_width=40))
    total = sum(plain.values())
    for name, seconds in plain.items():
        print(f"{name:10}{1e3 * seconds / given.steps:9.3f} ms a step {100 * seconds / total:6.1f} %")
    found.export_chrome_trace(str(given.trace))
    print(f"trace: {given.trace}")


if __name__ == "__main__":
    main()
