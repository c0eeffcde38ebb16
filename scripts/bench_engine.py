"""Time the engine against hand-written loops, with interleaved steps in one process, so that a slow moment affects all.

engine: this program with console, TensorBoard, checkpoints, history and report on.
plain: eager, float32, a DataLoader with torchvision transforms, ``loss.item()`` at each step, as in tutorials.
best: the same network, channels-last, bf16 if the CPU computes in it, images in memory, losses summed on the device.

Each round is one step of each loop. In the case jpeg, whose images are prefetched, it is 24 steps of each in a process of its
own, because the threads of one loop would work during the turn of another. Reported are the 10th percentile (the least
disturbed) and the median of the step times; memory and the time from the start of the process to its first step are medians
of --starts separate processes.

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
ENVIRONMENT = {"GOMP_SPINCOUNT": "10000"}  # what ``train`` sets before torch is imported (trainer/environment.py)
EXTRA: list[str] = []  # overrides added by the other benchmarks
JPEG_FOLDER: Path | None = None  # shared by several processes; None = in the directory of the run
JPEGS, JPEG_SIDE = 1536, 375  # of 500 x 375 pixels
Step = Iterator[None]


def overrides(case: str, device: str, folder: str) -> list[str]:
    if case == "jpeg":
        root = write_jpegs(JPEG_FOLDER or Path(folder) / "jpegs")
        data = [f"data.root={root}", "data.validation=0", "data.test=0", "metric=train_accuracy"]
    else:
        data = ["data=fake", "data.count=12000"]
    extra = ["regularizer=[mixup]", "averaging=ema"] if case == "mixup" else ["regularizer=[]"]
    common = [f"batch_size={BATCH}", "epochs=1000", "optimizer=momentum", "schedule=constant"]
    return [*data, *common, *extra, *CASES[case], *EXTRA, f"device={device}", f"output={folder}/run"]


def write_jpegs(folder: Path) -> Path:
    """Write two classes of smooth images with some noise, which compress like photographs."""
    import cv2

    rng = np.random.default_rng(0)
    if (folder / "complete").exists():
        return folder
    for i in range(JPEGS):
        class_folder = folder / "ab"[i % 2]
        class_folder.mkdir(parents=True, exist_ok=True)
        coarse = cv2.resize(
            rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (500, 375), interpolation=cv2.INTER_CUBIC
        )
        noise = cv2.resize(rng.normal(0, 12, (188, 250, 3)).astype(np.float32), (500, 375))
        image = np.clip(coarse + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(class_folder / f"{i:05}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (folder / "complete").touch()
    return folder


def build_run(case: str, device: str, folder: str) -> tuple[Any, list[Any]]:
    """Build the run and its observers as ``train`` does."""
    from trainer.builder import build
    from trainer.config.load import load_config
    from trainer.observers.context import Context, build_observers
    from trainer.run_dir import create_run_dir

    arguments = overrides(case, device, folder)
    config = load_config(arguments)
    directory = Path(folder) / "run"
    run = build(config, directory)
    create_run_dir(directory, config.tree, arguments, run.notes[0])
    return run, build_observers(config.observer.values(), Context(run))


def hand_written(run: Any, case: str, best: bool) -> Step:
    """A hand-written loop with its own copy of the network and data; yields after each step."""
    import copy

    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    device, augmented = run.precision.device, "augmentation=[crop,flip]" in CASES[case]
    model = copy.deepcopy(run.model).train()
    if not best:
        model = model.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    images, labels = run.train.dataset, torch.from_numpy(run.train.dataset.labels)
    total = torch.zeros((), device=device)
    if case == "jpeg":
        batches = decoded(run, images.paths, labels) if best else loaded(images.paths, labels, False)
    else:
        batches = in_memory(run, images.images, labels, augmented) if best else loaded(images.images, labels, augmented)

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
    """Batches of a DataLoader, each image through torchvision's transforms."""
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

    class Images(Dataset):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, i: int) -> Any:
            if files:
                return transform(Image.open(images[i]).convert("RGB")), labels[i]
            return transform(Image.fromarray(images[i] if channels == 3 else images[i, :, :, 0])), labels[i]

    while True:
        yield from DataLoader(Images(), BATCH, shuffle=True, drop_last=True, num_workers=2 if files else 0)


def decoded(run: Any, paths: list[Path], labels: Any) -> Iterator[Any]:
    """Batches decoded by two low-priority threads, two prefetched per thread, normalized per batch."""
    from collections import deque
    from concurrent.futures import ThreadPoolExecutor

    import cv2
    import torch
    from torch.nn import functional

    from trainer.data.decode import lower_priority

    cv2.setNumThreads(0)
    device, side = run.precision.device, 224

    def load(path: Path) -> Any:  # at full size: half of 500 x 375 pixels is too small
        image = torch.from_numpy(cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
        scale = side / min(image.shape[:2])
        size = round(image.shape[0] * scale), round(image.shape[1] * scale)
        image = functional.interpolate(image.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        return image[0, :, top : top + side, left : left + side].permute(1, 2, 0)

    def batch(index: Any) -> Any:
        return torch.stack([load(paths[i]) for i in index.tolist()]), labels[index]

    with ThreadPoolExecutor(2, "decode", lower_priority) as pool:
        pending: deque[Any] = deque()
        while True:
            for index in torch.randperm(len(paths)).split(BATCH):
                pending.append(pool.submit(batch, index))
                if len(pending) > 4:
                    x, y = pending.popleft().result()
                    yield ((x.to(device).float() - 127.5) / 63.75).permute(0, 3, 1, 2), y


def in_memory(run: Any, images: Any, labels: Any, augmented: bool) -> Iterator[Any]:
    """Batches gathered from one tensor on the device that is normalized and padded once: random crops, randomly flipped."""
    import torch

    device = run.precision.device
    data = (torch.from_numpy(images).to(device).float() - 127.5) / 63.75  # (N, H, W, C): channels last
    labels = labels.to(device)
    n, side = data.shape[:2]
    if augmented:
        data = torch.nn.functional.pad(data, (0, 0, 4, 4, 4, 4), value=-2.0)
    offsets = torch.arange(side, device=device)
    while True:
        order = torch.randperm(n, device=device)
        for start in range(0, n - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            if augmented:
                shift = torch.randint(0, 9, (2, BATCH), device=device)
                flip = torch.rand(BATCH, device=device) < 0.5
                rows = shift[0][:, None] + offsets
                columns = shift[1][:, None] + torch.where(flip[:, None], side - 1 - offsets, offsets)
                x = data[index[:, None, None], rows[:, :, None], columns[:, None, :]]
            else:
                x = data[index]
            yield x.permute(0, 3, 1, 2), labels[index]


class Interleave:
    """The last observer: the time since it last returned is a step of the engine; then each other loop makes one step."""

    def __init__(self, others: dict[str, Step], rounds: int, done: Callable[[], None]) -> None:
        self.others, self.rounds, self.done = others, rounds, done
        self.times: dict[str, list[float]] = {"engine": [], **{name: [] for name in others}}
        self.returned = time.perf_counter()

    def on_fit_start(self, run: Any) -> None:
        self.returned = time.perf_counter()

    def on_step_end(self, run: Any) -> None:
        synchronize(run)
        self.times["engine"].append(time.perf_counter() - self.returned)
        for name, step in self.others.items():
            start = time.perf_counter()
            next(step)
            synchronize(run)
            self.times[name].append(time.perf_counter() - start)
        if len(self.times["engine"]) >= self.rounds:
            self.done()
        self.returned = time.perf_counter()

    def on_epoch_end(self, run: Any, row: dict[str, Any]) -> None:
        self.returned = time.perf_counter()

    def on_fit_end(self, run: Any, result: dict[str, Any]) -> None:
        pass


def synchronize(run: Any) -> None:
    if run.precision.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


class Finished(Exception):
    """All rounds have been measured."""


def compare(case: str, device: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step of each loop, interleaved, without the first ten (warm-up)."""
    from trainer.engine.loop import fit

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run, observers = build_run(case, device, folder)
        others = {name: hand_written(run, case, best=name == "best") for name in ("plain", "best")}

        def stop() -> None:
            raise Finished

        interleave = Interleave(others, rounds + 10, stop)
        with contextlib.suppress(Finished):
            fit(run, [*observers, interleave])
    return {name: times[10:] for name, times in interleave.times.items()}


def compare_processes(case: str, device: str, rounds: int) -> dict[str, list[float]]:
    """Mean seconds per step over steps 9 to 24 of a process, for ``rounds`` interleaved processes of each loop."""
    times: dict[str, list[float]] = {"engine": [], "plain": [], "best": []}
    for _ in range(rounds):
        for name, seconds in times.items():
            seconds.append(measure_process(name, case, device)["seconds"])
    return times


def measure_process(name: str, case: str, device: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", name, "--case", case, "--device", device]
    done = subprocess.run([*command, "--started", str(time.time())], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def starts(case: str, device: str, count: int) -> dict[str, dict[str, float]]:
    """Median memory and time to the first step over ``count`` interleaved processes of each loop. The order rotates,
    because the first process after a pause is the slowest to start.
    """
    names = ["engine", "plain", "best"]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(count):
        for name in names[turn % 3 :] + names[: turn % 3]:
            results[name].append(measure_process(name, case, device))
    return {name: {k: float(np.median([run[k] for run in runs])) for k in runs[0]} for name, runs in results.items()}


def worker(name: str, case: str, device: str, started: float) -> None:
    """Run 24 steps of one loop in this process; print the time to the first step, the seconds per step, and the memory."""
    from trainer.engine.loop import fit

    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run, observers = build_run(case, device, folder)
        if name == "engine":

            class Timer(Interleave):
                def on_step_end(self, run: Any) -> None:
                    synchronize(run)
                    ends.append(time.time() - started)
                    if len(ends) == STEPS:
                        raise Finished

            with contextlib.suppress(Finished):
                fit(run, [*observers, Timer({}, 0, lambda: None)])
        else:
            step = hand_written(run, case, best=name == "best")
            for _ in range(STEPS):
                next(step)
                synchronize(run)
                ends.append(time.time() - started)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(status["VmHWM"].split()[0]) / 1024  # getrusage would include the parent's

    seconds = (ends[-1] - ends[8]) / (len(ends) - 9)
    print(json.dumps({"first_step": ends[0], "seconds": seconds, "memory": memory}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--starts", type=int, default=3, help="processes of each loop for memory and the first step")
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--worker", choices=["engine", "plain", "best"], help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ |= ENVIRONMENT | os.environ  # for all loops
    if options.worker:
        worker(options.worker, options.case[0], options.device, options.started)
        return
    for case in options.case:
        rounds = max(3, options.rounds // 20) if case == "jpeg" else options.rounds
        times = (compare_processes if case == "jpeg" else compare)(case, options.device, rounds)
        print(f"{case}, batch {BATCH}, {rounds} rounds")
        header = {
            "": 8,
            "images/s": 10,
            "p10 ms": 9,
            "median": 9,
            "of best": 9,
            "by median": 11,
            "of plain": 10,
            "MiB": 8,
        }
        print("".join(f"{head:>{width}}" for head, width in header.items()) + "  first step")
        low = {name: np.percentile(t, 10) for name, t in times.items()}
        median = {name: np.median(t) for name, t in times.items()}
        processes = starts(case, options.device, options.starts)
        for name in times:
            process = processes[name]
            print(
                f"{name:8}{BATCH / low[name]:10,.0f}{1000 * low[name]:9.2f}{1000 * median[name]:9.2f}"
                f"{low['best'] / low[name]:9.3f}{median['best'] / median[name]:11.3f}{low['plain'] / low[name]:10.2f}"
                f"{process['memory']:8,.0f}{process['first_step']:10.2f} s"
            )


if __name__ == "__main__":
    main()
