"""What the doctor looks at in a network at its first steps: loss, signals, speed, memory; the run is as before."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from trainer.jobs.doctor.table import Check, Status

if TYPE_CHECKING:
    from trainer.engine.run import Run


def first_loss(run: Run) -> Check:
    """The loss before training, as training sees it, against that of guessing: the entropy of the classes, at most ln k."""
    import numpy as np
    import torch

    from trainer.engine.lr_range_test import restored
    from trainer.engine.metrics import soft_cross_entropy

    labels = run.train.dataset.labels  # pyright: ignore[reportAttributeAccessIssue]
    prior = np.bincount(labels, minlength=len(run.info.classes)) / len(labels)
    entropy, chance = -sum(p * math.log(p) for p in prior if p), math.log(len(prior))
    seen = []
    with restored(run), torch.no_grad(), run.precision.autocast():
        run.train_mode()
        for x, y in islice(run.train.batches(0), 10):
            seen.append((float(soft_cross_entropy(run.model(x), y)), float(x.mean()), float(x.std())))
    loss, mean, std = (sum(values) / len(seen) for values in zip(*seen, strict=True))
    text = f"{loss:.3g}; guessing by the classes' shares costs {entropy:.3g}, guessing blindly ln {len(prior)} = {chance:.3g}"
    if not math.isfinite(loss):
        return Check("first loss", "fail", text, "initialization=auto")
    if abs(mean) > 1 or not 0.2 < std < 5:
        text += f"; pictures have mean {mean:.2g}, deviation {std:.2g}"
        return Check("first loss", "look", text, "data.normalize=dataset")
    if loss > 1.5 * max(entropy, 0.1):
        return Check("first loss", "look", f"{text}: the last layer is too sure of itself", "initialization=auto")
    return Check("first loss", "ok", text)


def signals(run: Run) -> list[Check]:
    """Activations and gradients of each layer on the first batch."""
    import torch
    from torch import nn

    from trainer.engine.lr_range_test import restored
    from trainer.engine.step import train_step

    seen: dict[str, tuple[float, float]] = {}
    hooks = []
    for name, module in run.model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):

            def keep(_: Any, __: Any, output: Any, name: str = name) -> None:
                values = output.detach().float()
                dead = (values.movedim(1, 0).flatten(1) <= 0).all(1).float().mean()
                seen[name] = float(values.std()), float(dead)

            hooks.append(module.register_forward_hook(keep))
    with restored(run):
        run.train_mode()
        x, y = next(iter(run.train.batches(0)))
        train_step(run, x, y)
        gradients = {
            name: float(module.weight.grad.float().square().mean().sqrt())
            for name, module in run.model.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and isinstance(module.weight.grad, torch.Tensor)
        }
        for hook in hooks:
            hook.remove()
    names = [name for name in seen if name in gradients]
    spread = [seen[name][0] for name in seen]
    text = "deviation of the layers' outputs " + ", ".join(f"{v:.2g}" for v in shortened(spread))
    wild = any(not math.isfinite(v) or v > 1e3 or v < 1e-3 for v in spread)
    hint = "initialization=lsuv or architecture.norm=batch"
    checks = [Check("activations", "fail" if wild else "ok", text, hint if wild else "")]
    dead = max((seen[name][1] for name in list(seen)[:-1]), default=0.0)
    if dead > 0.5:
        checks.append(
            Check("dead units", "look", f"up to {100 * dead:.0f} % of a layer's units are never above 0", hint)
        )
    sizes = [gradients[name] for name in names]
    if len(sizes) > 1:
        text = "root mean square of the weights' gradients, stem to head " + ", ".join(
            f"{v:.2g}" for v in shortened(sizes)
        )
        ratio = sizes[0] / sizes[-1] if sizes[-1] else math.inf
        status: Status = "ok" if 1e-4 < ratio < 1e4 else "fail"
        checks.append(Check("gradients", status, text, "" if status == "ok" else hint + ", activation=relu"))
    return checks


def shortened(values: list[float], most: int = 8) -> list[float]:
    """At most so many of the values, evenly picked.

    >>> shortened([1.0, 2.0, 3.0, 4.0, 5.0], 3)
    [1.0, 3.0, 5.0]
    """
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def speed(run: Run, count: int = 12) -> Check:
    """Seconds to bring a batch against seconds to train on it."""
    from trainer.engine.loop import synchronize
    from trainer.engine.lr_range_test import restored
    from trainer.engine.step import train_step

    def timed(work: Callable[[], Any]) -> float:
        began = time.perf_counter()
        work()
        synchronize(run.precision.device)
        return time.perf_counter() - began

    batches = run.train.batches(0)
    x, y = next(batches)
    further = min(count, len(run.train) - 1)
    loading = timed(lambda: list(islice(batches, further))) / further if further else math.nan
    batches.close()
    with restored(run):
        run.train_mode()
        train_step(run, x, y)
        step = timed(lambda: [train_step(run, x, y) for _ in range(count)]) / count
    text = (
        f"a batch comes in {1000 * loading:.1f} ms, a step takes {1000 * step:.1f} ms ({len(x) / step:,.0f} images/s)"
    )
    slow = loading > step
    hint = "data.cache=memory, data.num_workers=..., a smaller data.size, or resident augmentation"
    return Check("speed", "look" if slow else "ok", text, hint if slow else "")


def memory(run: Run) -> Check:
    """What a step needs and which batch would fit, reckoned from what the backward pass keeps of one picture."""
    import torch

    from trainer.architectures.layers import count_parameters
    from trainer.jobs.plan import kept_bytes

    size = min(run.micro_batch or run.train.batch_size, run.train.batch_size)
    needed = kept_bytes(run, size) + 4 * 4 * count_parameters(run.model)
    if run.precision.device.type == "cuda":
        free = torch.cuda.mem_get_info(run.precision.device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    largest = int(free * 0.8 / max(kept_bytes(run, 2) / 2, 1))
    largest = 2 ** int(math.log2(largest)) if largest >= 1 else 0
    text = f"a step of {size} pictures needs some {needed / 2**20:,.0f} MiB of {free / 2**20:,.0f} free"
    text += f"; up to {largest:,} pictures fit"
    if largest < size:
        return Check("memory", "fail", text, f"micro_batch={max(largest, 1)}")
    return Check("memory", "ok", text)
