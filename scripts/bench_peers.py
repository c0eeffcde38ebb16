"""Time this program against Lightning, fastai, skorch, Keras and timm on the same network and data.

Each peer is installed into an environment of its own, which shares this one's torch, and trains in a process of its own,
``--rounds`` times, interleaved with the others; reported is the 10th percentile of its step times.
default: as in the peer's tutorial: float32, a DataLoader with torchvision's transforms, logger and progress bar as shipped,
glibc's default allocator.
tuned: the same peer with the settings of the best hand-written loop: channels-last, bf16 if the CPU computes in it, images in
memory cropped per batch, glibc keeping freed memory, OpenMP threads that wait as ours do; logger and progress bar off.

mixup: the ResNet-20 with mixup and weight averaging, against timm's loader, Mixup and ModelEmaV3 as a library.
jpeg: a folder of photographs of 500 x 375 pixels at 224, decoded by two workers; reported are mean times, because workers
deliver their batches in bursts.

python scripts/bench_peers.py [--rounds 3] [--steps 60] [--case resnet20 cnn2 ...] [--peer lightning fastai ...] [--folder .peers]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import bench_engine

PEERS = {
    "trainer": [], "plain": [], "lightning": ["lightning==2.6.*"], "fastai": ["fastai==2.8.*"], "skorch": ["skorch==1.4.*"],
    "keras": ["keras==3.15.*"], "timm": ["timm==1.0.*"],
}  # fmt: skip
CASES = ["resnet20", "cnn2", "linear", "jpeg", "mixup"]
Tick = Callable[[], None]


def peers_of(case: str) -> list[str]:
    """The peers of a case. timm is a library for hand-written loops: without its parts it equals the plain loop."""
    return ["trainer", "timm"] if case == "mixup" else [p for p in PEERS if case == "jpeg" or p != "timm"]


class Finished(Exception):
    """All steps have been measured."""


class Loader:
    """The first ``length`` batches of an endless loader, as one epoch of a peer."""

    def __init__(self, make: Callable[[], Iterator[Any]], length: int) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return (batch for _, batch in zip(range(self.length), self.make(), strict=False))


def workload(case: str, tuned: bool, steps: int, folder: str) -> tuple[Any, Any, Any, Any]:
    """The network, its optimizer, the loss and the batches, the same for every peer."""
    import torch

    run, _ = bench_engine.build_run("resnet20" if case == "mixup" else case, "cpu", folder)
    dataset, labels = run.train.dataset, torch.from_numpy(run.train.dataset.labels)
    images = dataset.paths if case == "jpeg" else dataset.images
    model, augmented = run.model, case in ("resnet20", "mixup")
    if tuned:
        model = with_autocast(model, run.precision)
    if tuned and case == "jpeg":
        batches = Loader(lambda: bench_engine.decoded(run, images, labels), steps)
    elif tuned:
        batches = Loader(lambda: bench_engine.in_memory(run, images, labels, augmented), steps)
    else:
        model = model.to(memory_format=torch.contiguous_format)
        batches = Loader(lambda: bench_engine.loaded(images, labels, augmented), steps)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return model, optimizer, torch.nn.functional.cross_entropy, batches


def with_autocast(model: Any, precision: Any) -> Any:
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, x: Any) -> Any:
            with precision.autocast():
                return self.network(x).float()

    return Wrapped()


def trainer(case: str, tuned: bool, steps: int, tick: Tick, folder: str) -> None:
    from trainer.engine.loop import fit

    run, observers = bench_engine.build_run(case, "cpu", folder)

    class Timer(bench_engine.Interleave):
        def on_step_end(self, run: Any) -> None:
            tick()

    fit(run, [*observers, Timer({}, 0, lambda: None)])


def plain(case: str, tuned: bool, steps: int, tick: Tick, folder: str) -> None:
    model, optimizer, loss_function, batches = workload(case, tuned, steps, folder)
    model.train()
    for x, y in batches:
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if not tuned:
            loss.item()
        tick()


def lightning(case: str, tuned: bool, steps: int, tick: Tick, folder: str) -> None:
    import lightning as L

    model, optimizer, loss_function, batches = workload(case, tuned, steps, folder)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, index: int) -> Any:
            loss = loss_function(self.model(batch[0]), batch[1])
            if not tuned:
                self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return optimizer

    class Timer(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            tick()

    off = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False} if tuned else {}
    L.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[Timer()], default_root_dir=folder, enable_model_summary=False, **off
    ).fit(Module(), batches)


def fastai(case: str, tuned: bool, steps: int, tick: Tick, folder: str) -> None:
    from functools import partial

    import fastai.callback.progress  # pyright: ignore  # noqa: F401  # adds no_bar to the learner
    import torch
    from fastai.callback.core import Callback  # pyright: ignore
    from fastai.data.core import DataLoaders  # pyright: ignore
    from fastai.learner import Learner  # pyright: ignore
    from fastai.optimizer import OptimWrapper  # pyright: ignore

    model, _, loss_function, batches = workload(case, tuned, steps, folder)

    class Timer(Callback):
        def after_batch(self) -> None:
            tick()

    options = partial(OptimWrapper, opt=torch.optim.SGD, momentum=0.9, weight_decay=5e-4)
    loaders = DataLoaders(batches, batches, device=torch.device("cpu"))
    learner = Learner(loaders, model, loss_func=loss_function, opt_func=options, lr=0.05, cbs=Timer(), path=folder)
    with learner.no_bar() if tuned else contextlib.nullcontext():
        learner.fit(1)


def skorch(case: str, tuned: bool, steps: int, tick: Tick, folder: str) -> None:
    import torch
    from skorch import NeuralNet  # pyright: ignore
    from skorch.callbacks import Callback  # pyright: ignore

    model, _, _, batches = workload(case, tuned, steps, folder)

    class Timer(Callback):
        def on_batch_end(self, *_: Any, **__: Any) -> None:
            tick()

    net = NeuralNet(
        model, torch.nn.CrossEntropyLoss, max_epochs=1, train_split=None, callbacks=[Timer()], lr=0.05,
        optimizer=torch.optim.SGD, optimizer__momentum=0.9, optimizer__weight_decay=5e-4, verbose=0 if tuned else 1,
        iterator_train=lambda *_, **__: batches, compile=False,
    )  # fmt: skip
    net.fit(torch.utils.data.TensorDataset(torch.zeros(4, 1), torch.zeros(4)), None)


def keras(case: str, tuned: bool, steps: int, tick: Tick, folder: str) -> None:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as k  # pyright: ignore
    from torch.utils.data import DataLoader, IterableDataset

    model, _, _, batches = workload(case, tuned, steps, folder)
    x, _ = next(iter(batches))

    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            return iter(batches)

        def __len__(self) -> int:
            return len(batches)

    class Timer(k.callbacks.Callback):
        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            tick()

    network = k.Sequential([k.layers.Input(tuple(x.shape[1:])), k.layers.TorchModuleWrapper(model)])
    optimizer = k.optimizers.SGD(0.05, momentum=0.9, weight_decay=5e-4)
    network.compile(optimizer, k.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(DataLoader(Stream(), batch_size=None), callbacks=[Timer()], verbose=0 if tuned else 1)


def timm(case: str, tuned: bool, steps: int, tick: Tick, folder: str) -> None:
    """timm's loader, mixup, weight averaging and meter in a loop like that of its train.py."""
    from timm.data import Mixup
    from timm.loss import SoftTargetCrossEntropy
    from timm.utils import AverageMeter, ModelEmaV3, accuracy

    with_mixup = case == "mixup"
    model, optimizer, loss_function, batches = workload(case, tuned, steps, folder)
    if not tuned:
        batches = Loader(lambda: timm_loaded(case, folder), steps)
    mixup = Mixup(mixup_alpha=0.2, num_classes=10)
    loss_function = SoftTargetCrossEntropy() if with_mixup else loss_function
    model.train()
    average, meter = ModelEmaV3(model, decay=0.99, foreach=True) if with_mixup else None, AverageMeter()
    for x, y in batches:
        if with_mixup:
            x, y = mixup(x, y)
        outputs = model(x)
        loss = loss_function(outputs, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if average is not None:
            average.update(model)
        if not tuned:
            meter.update(loss.item(), len(x))
            accuracy(outputs.detach(), y.argmax(1) if with_mixup else y)
        tick()


def timm_loaded(case: str, folder: str) -> Iterator[Any]:
    """Batches of timm's loader with two workers; images are cropped and flipped by torchvision, as in the other peers."""
    from PIL import Image
    from timm.data import create_dataset, create_loader
    from torchvision import transforms

    common = {"is_training": True, "batch_size": bench_engine.BATCH, "num_workers": 2, "use_prefetcher": False}
    if case == "jpeg":
        dataset = create_dataset(
            "", root=str(bench_engine.write_jpegs(bench_engine.JPEG_FOLDER or Path(folder) / "jpegs"))
        )
        loader = create_loader(dataset, input_size=(3, 224, 224), no_aug=True, **common)
    else:
        run, _ = bench_engine.build_run("resnet20", "cpu", folder + "/loader")
        images = run.train.dataset

        class Images:
            transform: Any = None

            def __len__(self) -> int:
                return len(images.labels)

            def __getitem__(self, i: int) -> Any:
                return self.transform(Image.fromarray(images.images[i])), int(images.labels[i])

        dataset = Images()
        loader = create_loader(dataset, input_size=(3, 32, 32), **common)
        dataset.transform = transforms.Compose([
            transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.25] * 3),
        ])  # fmt: skip
    while True:
        yield from loader


def measure(peer: str, case: str, tuned: bool, steps: int) -> None:
    """In the process of the peer: print the seconds of each step as JSON."""
    if not tuned and peer != "trainer":  # building the network would also set the allocator
        bench_engine.EXTRA = ["engine.keep_memory=false"]
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    times: list[float] = []

    def tick() -> None:
        times.append(time.perf_counter())
        if len(times) == steps:
            raise Finished("all steps done")  # fastai needs a message

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        with contextlib.suppress(Finished):
            globals()[peer](case, tuned, steps, tick, folder)
    seconds = np.diff(times[10:])
    print("\n" + json.dumps([float(seconds.mean())] if case == "jpeg" else seconds.tolist()))


def environment(peer: str, folder: Path) -> str:
    """The Python of the peer's environment, which is created if missing and shares this environment's packages."""
    if not PEERS[peer]:
        return sys.executable
    directory = folder / peer
    python = directory / "bin" / "python"
    if not (directory / "complete").exists():
        venv.create(directory, with_pip=True)
        root = Path(__file__).resolve().parents[1]
        site_packages = next((directory / "lib").glob("python*")) / "site-packages"
        (site_packages / "shared.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{root}\n")
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PEERS[peer]], check=True)
        (directory / "complete").touch()
    return str(python)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="per process; the first ten are warm-up")
    parser.add_argument("--case", nargs="+", default=["resnet20", "cnn2", "jpeg", "mixup"], choices=CASES)
    parser.add_argument("--peer", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "trainer_peers")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    bench_engine.JPEG_FOLDER = options.folder.absolute() / "jpegs"
    if options.worker:
        peer, case, kind = options.worker
        measure(peer, case, kind == "tuned", options.steps)
        return
    peers = ["trainer", *[p for p in options.peer if p != "trainer"]]
    pythons = {peer: environment(peer, options.folder.absolute()) for peer in peers}
    for case in options.case:
        participants = [peer for peer in peers if peer in peers_of(case)]
        kinds = [
            (peer, kind)
            for peer in participants
            for kind in (["default"] if peer == "trainer" else ["default", "tuned"])
        ]
        rounds: dict[tuple[str, str], list[list[float]]] = {key: [] for key in kinds}
        for _ in range(options.rounds):
            for peer, kind in kinds:
                command = [pythons[peer], __file__, "--steps", str(options.steps), "--folder", str(options.folder.absolute()),
                           "--worker", peer, case, kind]  # fmt: skip
                variables = bench_engine.ENVIRONMENT if kind == "tuned" or peer == "trainer" else {}
                done = subprocess.run(command, capture_output=True, text=True, env=variables | os.environ)
                if done.returncode:
                    print(f"{peer}, {kind}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                rounds[peer, kind].append(json.loads(done.stdout.splitlines()[-1]))
        report(case, rounds)


def report(case: str, rounds: dict[tuple[str, str], list[list[float]]]) -> None:
    """Print milliseconds per step and the time relative to this program, with the range over the rounds, as Markdown."""
    low = {
        key: [1e3 * float(np.percentile(times, 10)) for times in results] for key, results in rounds.items() if results
    }
    ours = low["trainer", "default"]
    count = len(ours)
    statistic = "mean" if case == "jpeg" else "10th percentile"
    print(f"\n{case}, batch {bench_engine.BATCH}, {count} rounds, milliseconds per step ({statistic})\n")
    print("| | default | trainer is faster by | tuned | trainer is faster by |\n|---|---|---|---|---|")
    for peer in dict.fromkeys(peer for peer, _ in low):
        cells = []
        for kind in ("default", "tuned"):
            theirs = low.get((peer, kind))
            if theirs is None:
                cells += ["", ""]
                continue
            ratios = [a / b for a, b in zip(theirs, ours, strict=False)]
            cells += [f"{min(theirs):.2f}", f"{min(theirs) / min(ours):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
        print(f"| {peer} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
