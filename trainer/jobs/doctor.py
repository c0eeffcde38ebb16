"""``job=doctor``: can this config learn at all? The first steps of training by hand, as a table."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.checks import check
from trainer.output import check_free, claim, write_json

if TYPE_CHECKING:
    from trainer.config import Config
    from trainer.data import Splits
    from trainer.engine.run import Run

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
FALLEN = 0.9  # of its first value: a loss below that has dropped
Status = Literal["ok", "look", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the table: what was looked at, how it is, what was seen, what to try."""

    name: str
    status: Status
    seen: str
    attempt: str = ""


@dataclass(frozen=True)
class Doctor:
    """Before training: is the first loss that of guessing, can ``batches`` mini-batches be learned by heart without regularizers
    and augmentation in ``passes`` passes, which rates drop the loss within ``steps`` steps, are activations and gradients of a
    size, do the pictures come fast enough, does a step fit into memory, are pictures or labels wrong.

    Exit code 1 where a check fails. Weights are made for it and thrown away.
    """

    batches: int = 8
    passes: int = 100
    steps: int = 100

    def __post_init__(self) -> None:
        check(
            self,
            batches=(self.batches >= 1, "must be >= 1"),
            passes=(self.passes >= 1, "must be >= 1"),
            steps=(self.steps >= 20, "must be >= 20"),
        )

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        check_free(folder)
        from trainer.build import build, load_splits

        splits = load_splits(config)
        run = build(config, folder, splits)
        claim(folder, config.tree, overrides, run.notes[0])
        checks = [*pictures(splits), first_loss(run), *signals(run)]
        plain = bare(config)
        checks.append(self.by_heart(plain, splits))
        checks += [self.rates(plain, splits, run.optimizer_option.lr), speed(run), memory(run)]
        failed = [c for c in checks if c.status == "fail"]
        result = {"status": "finished", "stop_reason": "examined", "seconds": 0.0, "healthy": not failed}
        write_json(folder / "result.json", result | {"checks": [asdict(c) for c in checks]})
        show(checks, folder)
        return 1 if failed else 0

    def by_heart(self, config: Config, splits: Splits) -> Check:
        """Overfit a few mini-batches: a network, a loss and labels that work together can."""
        import dataclasses

        from trainer.build import build
        from trainer.data.splits import stratified

        size = len(splits.train) if config.batch_size == "full" else config.batch_size
        count = min(self.batches * size, len(splits.train))
        few = splits.train
        if count < len(few):
            few = few.subset(stratified(few.labels, count, 0, "job.batches")[1])
        few_splits = dataclasses.replace(splits, train=few, validation=None, test=None)
        tried = []
        own = build(config, None, few_splits).optimizer_option.lr
        for lr in dict.fromkeys((own, own / 10, own * 3)):
            run = build(config, None, few_splits)
            passes, accuracy, loss = learn(run, lr, self.passes)
            if accuracy == 1.0:
                hint = "" if lr == own else f"optimizer.lr={lr:g}"
                status: Status = "ok" if lr == own else "look"
                return Check("by heart", status, f"{count} pictures in {passes} passes at rate {lr:g}", hint)
            tried.append(f"{100 * accuracy:.1f} % at rate {lr:g} (loss {loss:.3g})")
        clash = contradictions(few)
        if clash:
            text = f"{clash} of {count} pictures have a twin with another label: no network tells them apart"
            return Check("by heart", "fail", text, "look at the labels")
        if all("nan" in text or "inf" in text for text in tried):
            return Check("by heart", "fail", "; ".join(tried), "initialization=auto, data.normalize=dataset")
        why = "a wider architecture, another initialization, architecture.norm=batch, or a longer job.passes"
        return Check("by heart", "fail", "; ".join(tried), why)

    def rates(self, config: Config, splits: Splits, own: float) -> Check:
        """Which rates drop the loss within a hundred steps."""
        from trainer.build import build

        run = build(config, None, splits)
        found = {}
        for lr in RATES:
            losses = losses_at(run, lr, self.steps)
            tenth = max(len(losses) // 10, 3)
            first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
            found[lr] = last / first if len(losses) == self.steps else math.inf
        text = ", ".join(f"{lr:g}: {'explodes' if math.isinf(v) else f'x {v:.2f}'}" for lr, v in found.items())
        best = min(found, key=lambda lr: found[lr])
        if found[best] > FALLEN:
            return Check("rates", "fail", f"the loss after {self.steps} steps is, {text}", "train job=range_test")
        near = best / 10 <= own <= best * 10
        text = f"the loss after {self.steps} steps is, {text}; optimizer.lr is {own:g}"
        return Check("rates", "ok" if near else "look", text, "" if near else f"optimizer.lr={best:g}")


def bare(config: Config) -> Config:
    """The config without regularizers, decay, augmentation, averaging, schedule and phases."""
    from trainer.config import resolve

    tree = {**config.tree, "regularizer": {}, "augmentation": {}}
    tree["schedule"] = {"constant": {"_target_": "trainer.schedules.Constant"}}
    tree["averaging"] = {"_target_": "trainer.averaging.Averaging"}
    tree["recipe"] = {"_target_": "trainer.engine.options.Scratch"}
    tree["metric"] = "train_loss"
    if "weight_decay" in tree["optimizer"]:
        tree["optimizer"] = {**tree["optimizer"], "weight_decay": 0.0}
    return resolve(tree)


def learn(run: Run, lr: float, passes: int) -> tuple[int, float, float]:
    """Passes over the data, accuracy and loss in evaluation mode, at a constant rate until everything is known by heart."""
    from trainer.engine.evaluation import evaluate
    from trainer.engine.step import train_step

    scores = {"accuracy": 0.0, "loss": math.nan}
    for epoch in range(passes):
        run.train_mode()
        for group in run.optimizer.param_groups:
            group["lr"] = lr * group["ratio"]
        for x, y in run.train.batches(epoch):
            train_step(run, x, y)
        scores = evaluate(run.model, run.train, run.precision)
        if scores["accuracy"] == 1.0 or not math.isfinite(scores["loss"]):
            return epoch + 1, scores["accuracy"], scores["loss"]
    return passes, scores["accuracy"], scores["loss"]


def losses_at(run: Run, lr: float, steps: int) -> list[float]:
    """The losses of so many steps at one rate, fewer where they explode; the run is as before."""
    from trainer.engine.probe import range_curve

    return range_curve(run, [lr] * steps)[1]


def first_loss(run: Run) -> Check:
    """The loss before training, as training sees it, against that of guessing: the entropy of the classes, at most ln k."""
    import numpy as np
    import torch

    from trainer.engine.probe import restored
    from trainer.metrics import soft_cross_entropy

    labels = run.train.pictures.labels  # pyright: ignore[reportAttributeAccessIssue]
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

    from trainer.engine.probe import restored
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
    from trainer.engine.loop import synchronise
    from trainer.engine.probe import restored
    from trainer.engine.step import train_step

    def timed(work: Callable[[], Any]) -> float:
        began = time.perf_counter()
        work()
        synchronise(run)
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


def pictures(splits: Splits) -> list[Check]:
    """Pictures and labels that look wrong."""
    import numpy as np

    from trainer.observers.diagnosis import duplicates

    parts = {name: part for name in ("train", "validation", "test") if (part := getattr(splits, name)) is not None}
    twins = {pair: n for pair, n in duplicates(parts).items() if n}
    checks = []
    if twins:
        text = ", ".join(
            f"{n} pictures of {pair.split('/')[1]} are in {pair.split('/')[0]} too" for pair, n in twins.items()
        )
        leaked = max(n / len(parts[pair.split("/")[1]]) for pair, n in twins.items())
        checks.append(Check("splits", "fail" if leaked > 0.01 else "look", text, "take the duplicates out"))
    counts = np.bincount(splits.train.labels, minlength=len(splits.classes))
    absent = [splits.classes[i] for i in np.flatnonzero(counts == 0)]
    if absent:
        checks.append(
            Check("classes", "fail", f"no training picture of {', '.join(absent[:10])}", "look at the labels")
        )
    elif counts.max() > 10 * counts.min():
        common, rare = int(counts.argmax()), int(counts.argmin())
        text = f"{counts.max()} pictures of {splits.classes[common]}, {counts.min()} of {splits.classes[rare]}"
        checks.append(Check("classes", "look", text, "accuracy would hide the rare one: look at the table per class"))
    constant = flat(splits.train)
    if constant:
        text = f"{constant} of the training pictures looked at are of one colour"
        checks.append(Check("pictures", "look", text, "look at them: broken files?"))
    clash = contradictions(splits.train)
    if clash:
        text = f"{clash} training pictures have a twin with another label"
        checks.append(Check("labels", "look", text, "look at the labels"))
    if not checks:
        text = f"{sum(map(len, parts.values())):,} pictures: none in two parts, none of one colour, no twins with other labels"
        checks.append(Check("pictures", "ok", text))
    return checks


def flat(part: Any, most: int = 2000) -> int:
    """How many pictures have one value everywhere, of up to ``most`` picked evenly."""
    found = 0
    for i in range(0, len(part), max(1, len(part) // most)):
        image = part.read(i, 64) if hasattr(part, "paths") else part.read(i)
        found += bool((image == image[:1, :1]).all())
    return found


def contradictions(part: Any) -> int:
    """How many pictures are equal, byte for byte, to one of another class."""
    from trainer.observers.diagnosis import fingerprints

    labels: dict[Any, set[int]] = {}
    prints = fingerprints(part)
    for key, label in zip(prints, part.labels.tolist(), strict=False):
        labels.setdefault(key, set()).add(label)
    return sum(len(labels[key]) > 1 for key in prints)


def show(checks: list[Check], folder: Path) -> None:
    """The table, and the verdict."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("check", "", "seen", "try", show_lines=False)
    colors = {"ok": "green", "look": "yellow", "fail": "red"}
    for found in checks:
        table.add_row(found.name, f"[{colors[found.status]}]{found.status}[/]", found.seen, found.attempt)
    console.print(table)
    failed, doubtful = (sum(c.status == s for c in checks) for s in ("fail", "look"))
    verdict = "healthy" if not failed else f"{failed} check{'s' * (failed > 1)} failed"
    more = f", {doubtful} to look at" if doubtful else ""
    console.print(f"{verdict}{more}; {folder / 'result.json'}", markup=False, soft_wrap=True)
