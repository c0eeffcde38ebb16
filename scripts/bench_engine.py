"""Times the engine against hand-written loops, step by step in one process, so that a slow machine hits all alike.

engine: this program with console, TensorBoard, checkpoints, history and report on.
plain: eager, float32, a DataLoader of torchvision transforms, ``loss.item()`` at each step, as tutorials do it.
best: the same network, channels-last, bf16 where the processor computes in it, resident pictures, losses summed on the device.

Each round is one step of each; where pictures are decoded ahead (jpeg), 24 steps of each in a process of its own, because
the threads of one would work during the turn of another. Figures are the 10th percentile of the step times (the least
disturbed) and the median; memory and the time from the start of the process to its first step are medians of --starts processes
of their own.

python scripts/bench_engine.py [--rounds 80] [--starts 3] [--case resnet20 cnn2] [--device cpu]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 128
CASES = {
    "resnet20": ["architecture=resnet20", "data.size=32", "data.channels=3", "augmentation=[crop,flip]"],
    "cnn2": ["architecture=cnn", "architecture.widths=[32,64]", "data.size=28", "data.channels=1"],
    "mixup": ["architecture=resnet20", "data.size=32", "data.channels=3", "augmentation=[crop,flip]"],
    "linear": ["architecture=mlp", "architecture.widths=[]", "data.size=28", "data.channels=1"],
    "jpeg": ["architecture=cnn", "architecture.widths=[8]", "architecture.norm=none", "data=folder", "data.size=224"],
}  # fmt: skip
STEPS = 24
AS_SHIPPED = {"GOMP_SPINCOUNT": "10000"}  # what ``train`` sets before torch is there (trainer/cli.py)
EXTRA: list[str] = []  # overrides of a script that goes on from here
JPEG_FOLDER: Path | None = None  # where the JPEGs stay between processes; None = in the process's own folder
JPEGS, JPEG_SIDE = 1536, 375  # of 500 x 375 pixels
Step = Iterator[None]


def overrides(case: str, device: str, folder: str) -> list[str]:
    if case == "jpeg":
        place = jpegs(JPEG_FOLDER or Path(folder) / "jpegs")
        data = [f"data.root={place}", "data.validation=0", "data.test=0", "metric=train_accuracy"]
    else:
        data = ["data=fake", "data.count=12000"]
    extra = ["regularizer=[mixup]", "averaging=ema"] if case == "mixup" else ["regularizer=[]"]
    common = [f"batch_size={BATCH}", "epochs=1000", "optimizer=momentum", "schedule=constant"]
    return [*data, *common, *extra, *CASES[case], *EXTRA, f"device={device}", f"output={folder}/run"]


def jpegs(folder: Path) -> Path:
    """Two classes of smooth pictures with some noise, which compress as photographs do."""
    import cv2

    rng = np.random.default_rng(0)
    if (folder / "made").exists():
        return folder
    for i in range(JPEGS):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        coarse = cv2.resize(
            rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (500, 375), interpolation=cv2.INTER_CUBIC
        )
        noise = cv2.resize(rng.normal(0, 12, (188, 250, 3)).astype(np.float32), (500, 375))
        picture = np.clip(coarse + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(place / f"{i:05}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (folder / "made").touch()
    return folder


def run_of(case: str, device: str, folder: str) -> tuple[Any, list[Any]]:
    """The run and its observers, made as ``train`` makes them."""
    from trainer.build import build
    from trainer.config.compose import compose
    from trainer.config.schema import resolve
    from trainer.observers.context import Context, build_observers
    from trainer.run_dir import create_run_dir

    words = overrides(case, device, folder)
    config = resolve(compose(words))
    place = Path(folder) / "run"
    run = build(config, place)
    create_run_dir(place, config.tree, words, run.notes[0])
    return run, build_observers(config.observer.values(), Context(run))


def hand_written(run: Any, case: str, best: bool) -> Step:
    """A loop such as one writes by hand, over a network and pictures of its own; one step a turn."""
    import copy

    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    device, augmented = run.precision.device, "augmentation=[crop,flip]" in CASES[case]
    model = copy.deepcopy(run.model).train()
    if not best:
        model = model.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    pictures, labels = run.train.dataset, torch.from_numpy(run.train.dataset.labels)
    total = torch.zeros((), device=device)
    if case == "jpeg":
        batches = decoded(run, pictures.paths, labels) if best else loaded(pictures.paths, labels, False)
    else:
        batches = (
            resident(run, pictures.images, labels, augmented) if best else loaded(pictures.images, labels, augmented)
        )

    for x, y in batches:
        x, y = x.to(device), y.to(device)
        if best:
            with run.precision.autocast():
                loss = F.cross_entropy(model(x).float(), y)
        else:
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if best:
            total += loss.detach()
        else:
            total += loss.item()
        yield


def loaded(images: Any, labels: Any, augmented: bool) -> Iterator[Any]:
    """Batches of a DataLoader, picture by picture through torchvision's transforms."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    files = isinstance(images, list)
    chain = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augmented else []
    chain = [transforms.Resize(224), transforms.CenterCrop(224)] if files else chain
    channels = 3 if files else images.shape[-1]
    transform = transforms.Compose(
        [*chain, transforms.ToTensor(), transforms.Normalize([0.5] * channels, [0.25] * channels)]
    )

    class Set(Dataset):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, i: int) -> Any:
            if files:
                return transform(Image.open(images[i]).convert("RGB")), labels[i]
            return transform(Image.fromarray(images[i] if channels == 3 else images[i, :, :, 0])), labels[i]

    while True:
        yield from DataLoader(Set(), BATCH, shuffle=True, drop_last=True, num_workers=2 if files else 0)


def decoded(run: Any, paths: list[Path], labels: Any) -> Iterator[Any]:
    """Batches decoded by two threads behind the training, two ahead, normalised at once."""
    from collections import deque
    from concurrent.futures import ThreadPoolExecutor

    import cv2
    import torch
    from torch.nn import functional

    from trainer.data.decode import lower_priority

    cv2.setNumThreads(0)
    device, side = run.precision.device, 224

    def picture(path: Path) -> Any:  # 500 x 375 pixels: at half the scale too few would be left
        image = torch.from_numpy(cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
        scale = side / min(image.shape[:2])
        size = round(image.shape[0] * scale), round(image.shape[1] * scale)
        image = functional.interpolate(image.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        return image[0, :, top : top + side, left : left + side].permute(1, 2, 0)

    def batch(index: Any) -> Any:
        return torch.stack([picture(paths[i]) for i in index.tolist()]), labels[index]

    with ThreadPoolExecutor(2, "decode", lower_priority) as pool:
        waiting: deque[Any] = deque()
        while True:
            for index in torch.randperm(len(paths)).split(BATCH):
                waiting.append(pool.submit(batch, index))
                if len(waiting) > 4:
                    x, y = waiting.popleft().result()
                    yield ((x.to(device).float() - 127.5) / 63.75).permute(0, 3, 1, 2), y


def resident(run: Any, images: Any, labels: Any, augmented: bool) -> Iterator[Any]:
    """Batches cut out of one tensor on the device, normalised and padded once: gathered rows and columns, some mirrored."""
    import torch

    device = run.precision.device
    held = (torch.from_numpy(images).to(device).float() - 127.5) / 63.75  # (N, H, W, C): channels last
    labels = labels.to(device)
    n, side = held.shape[:2]
    if augmented:
        held = torch.nn.functional.pad(held, (0, 0, 4, 4, 4, 4), value=-2.0)
    along = torch.arange(side, device=device)
    while True:
        order = torch.randperm(n, device=device)
        for begin in range(0, n - BATCH + 1, BATCH):
            index = order[begin : begin + BATCH]
            if augmented:
                shift = torch.randint(0, 9, (2, BATCH), device=device)
                flip = torch.rand(BATCH, device=device) < 0.5
                rows = shift[0][:, None] + along
                columns = shift[1][:, None] + torch.where(flip[:, None], side - 1 - along, along)
                x = held[index[:, None, None], rows[:, :, None], columns[:, None, :]]
            else:
                x = held[index]
            yield x.permute(0, 3, 1, 2), labels[index]


class Turns:
    """The last observer: the time since it was last left is the engine's step; then each other loop has one step."""

    def __init__(self, others: dict[str, Step], rounds: int, done: Callable[[], None]) -> None:
        self.others, self.rounds, self.done = others, rounds, done
        self.times: dict[str, list[float]] = {"engine": [], **{name: [] for name in others}}
        self.ends: list[float] = []
        self.left = time.perf_counter()

    def on_fit_start(self, run: Any) -> None:
        self.left = time.perf_counter()

    def on_step_end(self, run: Any) -> None:
        wait(run)
        self.times["engine"].append(time.perf_counter() - self.left)
        for name, step in self.others.items():
            start = time.perf_counter()
            next(step)
            wait(run)
            self.times[name].append(time.perf_counter() - start)
        if len(self.times["engine"]) >= self.rounds:
            self.done()
        self.left = time.perf_counter()

    def on_epoch_end(self, run: Any, row: dict[str, Any]) -> None:
        self.left = time.perf_counter()

    def on_fit_end(self, run: Any, result: dict[str, Any]) -> None:
        pass


def wait(run: Any) -> None:
    if run.precision.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


class Enough(Exception):
    """The rounds are over."""


def compare(case: str, device: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step of each loop, taken in turns; the first ten of each, which warm up, are left out."""
    from trainer.engine.loop import fit

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run, observers = run_of(case, device, folder)
        others = {name: hand_written(run, case, best=name == "best") for name in ("plain", "best")}

        def stop() -> None:
            raise Enough

        turns = Turns(others, rounds + 10, stop)
        with contextlib.suppress(Enough):
            fit(run, [*observers, turns])
    return {name: times[10:] for name, times in turns.times.items()}


def apart(case: str, device: str, rounds: int) -> dict[str, list[float]]:
    """Seconds a step over steps 9 to 24 of a process, for ``rounds`` processes of each loop in turns."""
    times: dict[str, list[float]] = {"engine": [], "plain": [], "best": []}
    for _ in range(rounds):
        for name, found in times.items():
            found.append(own_process(name, case, device)["seconds"])
    return times


def own_process(name: str, case: str, device: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--alone", name, "--case", case, "--device", device]
    done = subprocess.run([*command, "--began", str(time.time())], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def starts(case: str, device: str, count: int) -> dict[str, dict[str, float]]:
    """Median memory and time to the first step over ``count`` starts of each loop, in turns. Who is first changes, because
    the first process after a pause is the slowest to start.
    """
    names = ["engine", "plain", "best"]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(count):
        for name in names[turn % 3 :] + names[: turn % 3]:
            found[name].append(own_process(name, case, device))
    return {name: {k: float(np.median([run[k] for run in runs])) for k in runs[0]} for name, runs in found.items()}


def alone(name: str, case: str, device: str, began: float) -> None:
    """In a process of its own: 24 steps of one loop; prints the time to the first step, that of a later one, the memory."""
    from trainer.engine.loop import fit

    first: list[float] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run, observers = run_of(case, device, folder)
        if name == "engine":

            class Watch(Turns):
                def on_step_end(self, run: Any) -> None:
                    wait(run)
                    first.append(time.time() - began)
                    if len(first) == STEPS:
                        raise Enough

            with contextlib.suppress(Enough):
                fit(run, [*observers, Watch({}, 0, lambda: None)])
        else:
            step = hand_written(run, case, best=name == "best")
            for _ in range(STEPS):
                next(step)
                wait(run)
                first.append(time.time() - began)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(status["VmHWM"].split()[0]) / 1024  # getrusage would count the parent's too

    seconds = (first[-1] - first[8]) / (len(first) - 9)
    print(json.dumps({"first_step": first[0], "seconds": seconds, "memory": memory}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--starts", type=int, default=3, help="processes of each loop for memory and the first step")
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--alone", choices=["engine", "plain", "best"], help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ |= AS_SHIPPED | os.environ  # for all loops alike
    if options.alone:
        alone(options.alone, options.case[0], options.device, options.began)
        return
    for case in options.case:
        rounds = max(3, options.rounds // 20) if case == "jpeg" else options.rounds
        times = (apart if case == "jpeg" else compare)(case, options.device, rounds)
        print(f"{case}, batch {BATCH}, {rounds} rounds")
        heads = {
            "": 8,
            "images/s": 10,
            "p10 ms": 9,
            "median": 9,
            "of best": 9,
            "by median": 11,
            "of plain": 10,
            "MiB": 8,
        }
        print("".join(f"{head:>{width}}" for head, width in heads.items()) + "  first step")
        low = {name: np.percentile(t, 10) for name, t in times.items()}
        middle = {name: np.median(t) for name, t in times.items()}
        started = starts(case, options.device, options.starts)
        for name in times:
            own = started[name]
            print(
                f"{name:8}{BATCH / low[name]:10,.0f}{1000 * low[name]:9.2f}{1000 * middle[name]:9.2f}"
                f"{low['best'] / low[name]:9.3f}{middle['best'] / middle[name]:11.3f}{low['plain'] / low[name]:10.2f}"
                f"{own['memory']:8,.0f}{own['first_step']:10.2f} s"
            )


if __name__ == "__main__":
    main()
