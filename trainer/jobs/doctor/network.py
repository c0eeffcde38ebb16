"""Checks of a network's first steps: initial loss, activations, gradients, speed, memory. The run is as before."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from trainer.analysis.diagnosis.layers import gradient_ratio
from trainer.architectures.layers import count_parameters
from trainer.engine.lr_range_test import restored
from trainer.engine.run import Run
from trainer.engine.step import train_step
from trainer.hardware import synchronize
from trainer.jobs.doctor.table import Check
from trainer.jobs.plan import saved_bytes
from trainer.observers.histograms import dead_fraction
from trainer.progress import activity
from trainer.tasks.losses import cross_entropy

MAX_DEAD = 0.5  # fraction of a layer's units
MIN_STD, MAX_STD = 1e-3, 1e3  # standard deviation of a layer's outputs
HINT = "initialization=lsuv or architecture.norm=batch"


def initial_loss(run: Run) -> Check:
    """Compare the loss before training, in training mode, with that of predicting without the image."""
    guessing, guess = guessing_loss(run)
    batches = []
    with restored(run), torch.no_grad(), run.precision.autocast():
        run.train_mode()
        for x, y in islice(run.train.batches(0), 10):
            batches.append((float(run.task.loss(run.model(x), y).reported), float(x.mean()), float(x.std())))
    loss, mean, std = (sum(values) / len(batches) for values in zip(*batches, strict=True))
    text = f"{loss:.3g}; {guess}"
    if not math.isfinite(loss):
        return Check("initial loss", "fail", text, "initialization=auto")
    if abs(mean) > 1 or not 0.2 < std < 5:
        text += f"; images have mean {mean:.2g}, standard deviation {std:.2g}"
        return Check("initial loss", "warning", text, "data.normalize=dataset")
    if loss > 1.5 * max(guessing, 0.1):
        return Check("initial loss", "warning", f"{text}: the last layer is overconfident", "initialization=auto")
    return Check("initial loss", "ok", text)


def guessing_loss(run: Run) -> tuple[float, str]:
    """Return the best loss without looking at the image, and what gives it: of classes their entropy, at most ln k."""
    part = run.task.parts[0]
    if len(run.task.parts) > 1 or part.function is not cross_entropy or part.spec.masked:
        guessing = sum(p.spec.weight * p.guessing_loss() for p in run.task.parts)
        return guessing, f"predicting without the image gives {guessing:.3g}"
    labels = run.train.dataset.target(part.spec.target)
    prior = np.bincount(labels, minlength=part.size) / len(labels)
    entropy, uniform = -sum(p * math.log(p) for p in prior if p), math.log(len(prior))
    text = f"predicting the class frequencies gives {entropy:.3g}, uniform guessing ln {len(prior)} = {uniform:.3g}"
    return entropy, text


@activity("examining activations and gradients")
def signals(run: Run) -> list[Check]:
    """Check activations and gradients of each layer on the first batch."""
    outputs: dict[str, tuple[float, float]] = {}  # standard deviation, fraction of dead units
    layers = [(name, m) for name, m in run.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with restored(run):
        run.train_mode()
        with ExitStack() as hooks:
            for name, module in layers:

                def record(module: nn.Module, inputs: object, output: Tensor, name: str = name) -> None:
                    values = output.detach().float()
                    outputs[name] = float(values.std()), float(dead_fraction(values))

                hooks.callback(module.register_forward_hook(record).remove)
            train_step(run, *next(iter(run.train.batches(0))))
        gradients = [(m.weight.grad, name) for name, m in layers if name in outputs]
        sizes = [float(g.float().square().mean().sqrt()) for g, _ in gradients if isinstance(g, Tensor)]
    return [*check_activations(list(outputs.values())), *check_gradients(sizes)]


def check_activations(outputs: list[tuple[float, float]]) -> list[Check]:
    """Check the standard deviation and the fraction of dead units of each layer's outputs, from first to last layer."""
    stds = [std for std, _ in outputs]
    text = "standard deviation of the layers' outputs " + ", ".join(f"{v:.2g}" for v in evenly_spaced(stds))
    extreme = any(not math.isfinite(std) or not MIN_STD <= std <= MAX_STD for std in stds)
    checks = [Check("activations", "fail", text, HINT) if extreme else Check("activations", "ok", text)]
    dead = max((fraction for _, fraction in outputs[:-1]), default=0.0)
    if dead > MAX_DEAD:
        text = f"up to {100 * dead:.0f} % of the units of a layer are dead (never above zero)"
        checks.append(Check("dead units", "warning", text, HINT))
    return checks


def check_gradients(sizes: list[float]) -> list[Check]:
    """Check by the rule of the diagnosis whether gradients vanish or explode, given their RMS from first to last layer."""
    if len(sizes) < 2:
        return []
    text = "root mean square of the weights' gradients, first to last layer " + ", ".join(
        f"{v:.2g}" for v in evenly_spaced(sizes)
    )
    if not all(map(math.isfinite, sizes)) or not any(sizes):
        return [Check("gradients", "fail", text, f"{HINT}, activation=relu")]
    finding = gradient_ratio(sizes, step=1)
    if finding is None:
        return [Check("gradients", "ok", text)]
    return [Check("gradients", "fail", f"{finding.name}: {text}", f"{HINT}, activation=relu")]


def evenly_spaced(values: list[float], count: int = 8) -> list[float]:
    """Return at most ``count`` of the values, evenly spaced, with the first and the last.

    >>> evenly_spaced([1.0, 2.0, 3.0, 4.0, 5.0], 3)
    [1.0, 3.0, 5.0]
    """
    if len(values) <= count:
        return values
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


@activity("measuring speed")
def speed(run: Run, count: int = 12) -> Check:
    """Compare the time to load a batch with the time to train on it."""

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        synchronize(run.precision.device)
        return time.perf_counter() - start

    batches = run.train.batches(0)
    x, y = next(batches)
    rest = min(count, len(run.train) - 1)
    loading = seconds(lambda: list(islice(batches, rest))) / rest if rest else math.nan
    batches.close()
    with restored(run):
        run.train_mode()
        train_step(run, x, y)
        step = seconds(lambda: [train_step(run, x, y) for _ in range(count)]) / count
    text = f"loading a batch takes {1000 * loading:.1f} ms, a step {1000 * step:.1f} ms ({len(x) / step:,.0f} images/s)"
    if loading > step:
        hint = "data.cache=memory, data.num_workers=..., a smaller data.size, or augmentation with a batched form"
        return Check("speed", "warning", text, hint)
    return Check("speed", "ok", text)


def memory(run: Run) -> Check:
    """Estimate the memory of a step, and the largest batch that fits, from what autograd saves per image."""
    size = min(run.micro_batch or run.train.batch_size, run.train.batch_size)
    needed = saved_bytes(run, size) + 4 * 4 * count_parameters(run.model)
    if run.precision.device.type == "cuda":
        free = torch.cuda.mem_get_info(run.precision.device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    largest = int(free * 0.8 / max(saved_bytes(run, 2) / 2, 1))
    largest = 2 ** int(math.log2(largest)) if largest >= 1 else 0
    text = f"a step of {size} images needs about {needed / 2**20:,.0f} MiB of {free / 2**20:,.0f} MiB free"
    text += f"; up to {largest:,} images fit"
    if largest < size:
        return Check("memory", "fail", text, f"micro_batch={max(largest, 1)}")
    return Check("memory", "ok", text)
