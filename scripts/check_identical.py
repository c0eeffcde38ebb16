"""Trains short, varied configs on a base revision and on the working tree, and compares the results bit for bit.

The base revision is checked out in a temporary git worktree. The working tree is represented by a copy of ``trainer/`` and
``conf/``, so that it may be edited during the check. Every config is trained with each tree, on the CPU with one thread. All
tensors and values in ``last.pt``, ``best.pt``, ``history.jsonl`` and ``result.json`` are compared, except for ``IGNORED``.
Renamed overrides and checkpoint keys are listed in ``RENAMED`` and ``RENAMED_KEYS``.

The exit code is 0 if everything is equal, 1 if something differs or a run fails, 2 if the command is wrong.

python scripts/check_identical.py --base HEAD [--only NAME ...] [--keep DIR] [--tree DIR]
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("base", "new")
FILES = ("checkpoints/last.pt", "checkpoints/best.pt", "history.jsonl", "result.json")
TIMEOUT = 300  # seconds for one process
TORCHRUN = ("--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node")  # standalone: on a free port


class Rename(NamedTuple):
    """A word of an override that was renamed. A tree knows ``new`` if ``file`` in its ``conf/`` has a line matching ``line``."""

    old: str
    new: str
    file: str
    line: str = ""


# Overrides in CASES use the old spelling.
RENAMED = (
    Rename("data.way=resident", "data.loading=in_memory", "data/fake.yaml", "loading:"),
    Rename("data.way=workers", "data.loading=streaming", "data/fake.yaml", "loading:"),
    Rename("jsonl", "history_file", "observer/history_file.yaml"),
)
# Renamed keys of checkpoints, history rows and results: regular expression for the beginning of a new path, as printed in a line
# of differences -> replacement that gives the old path. Applied in this order, to whole keys.
# Example: {r"last\.pt/state/running_loss": "last.pt/state/sums", r"(history\.jsonl/\d+)/learning_rate": r"\1/lr"}
RENAMED_KEYS: dict[str, str] = {}
# Paths (old spelling) that are not compared: wall-clock times, and what may change without changing the training.
IGNORED = (
    "*.pt/format", "*.pt/version", "*.pt/checksum*", "*.pt/run", "result.json/complete", "*.pt/info/config", "*.pt/info/config/*",
    "*.pt/info/data", "*.pt/info/data/*",
    "last.pt/numerics/*", "*/seconds", "*/images_per_second", "result.json/watching_seconds", "result.json/watching_share",
    "result.json/observer_seconds", "result.json/observer_fraction",
    "result.json/findings", "result.json/findings/*", "result.json/paths", "result.json/paths/*",
)  # fmt: skip


class Case(NamedTuple):
    """Overrides beside ``BASE``; those of each further command that resumes the run; and the number of processes."""

    overrides: str
    resumed: tuple[str, ...] = ()
    processes: int = 1


BASE = "architecture.widths=[4,8] batch_size=16 epochs=2 regularizer=[] device=cpu precision=float32 observer=[checkpoint,jsonl]"
FAKE = "data=fake data.size=12 data.count=150 data.num_classes=3"
STREAMING = f"{FAKE} data.way=workers data.num_workers=2"
CROP = "augmentation=[crop,flip]"
CASES = {
    "momentum_cosine": Case("data=digits data.limit=300 optimizer=momentum schedule=[cosine]"),
    "in_memory_ema": Case(
        f"{FAKE} data.way=resident {CROP} averaging=ema averaging.decay=0.8 schedule=[warmup,cosine]"
    ),
    "streaming_adam": Case(f"{STREAMING} {CROP} optimizer=adam"),
    "elastic_swa": Case(
        f"{STREAMING} augmentation=[elastic] averaging=swa averaging.start=1 epochs=3 optimizer=rmsprop"
    ),
    "mixing": Case(f"{FAKE} regularizer=[mixup,cutmix,label_smoothing,dropout] optimizer=nesterov"),
    "finetune": Case(f"{FAKE} recipe=finetune recipe.head_epochs=1 optimizer=adamw"),
    "gradual": Case(f"{FAKE} recipe=gradual recipe.stages=2 recipe.stage_epochs=0.5 recipe.lr=0.02 epochs=2.5"),
    "plateau": Case(
        "data=digits data.limit=200 schedule=[plateau] schedule.plateau.patience=1 optimizer.lr=1 epochs=4 architecture.norm=none"
    ),
    "clr_micro_batch": Case(
        f"{FAKE} schedule=[warmup,clr] schedule.clr.step_size=0.5 micro_batch=5 regularizer=[l2] initialization=whitening "
        "architecture.widths=[60,8]"  # filters for all principal directions
    ),
    "full_batch": Case(f"{FAKE} batch_size=full optimizer=sgd architecture=mlp architecture.widths=[16] epochs=3"),
    "muon": Case(f"{FAKE} optimizer=muon optimizer.clip_norm=0.5 architecture.norm=group initialization=lsuv"),
    # Resumed at the end of an epoch, and within one.
    "resumed": Case(f"{FAKE} {CROP} averaging=ema regularizer=[dropout,mixup] epochs=1", ("epochs=1.5", "epochs=3")),
    "distributed": Case(f"{FAKE} {CROP} engine=ddp regularizer=[dropout]", processes=2),
    "all_observers": Case(
        f"{FAKE} precision=auto regularizer=[early_stopping] "
        "observer=[histograms,filters,predictions,diagnosis,console,tensorboard,checkpoint,jsonl,report]"
    ),
}


class Tree:
    """A source tree, the folder that its runs are written to, and the process that trains them (see :func:`serve`)."""

    def __init__(self, source: Path, runs: Path) -> None:
        self.source, self.runs = source, runs
        runs.mkdir(parents=True)
        inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
        own = {"PYTHONPATH": str(source), "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        own["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version
        own |= {f"TRAINER_{k}": str(runs / f".{k.lower()}") for k in ("CACHE", "DATA")}
        self.options: dict[str, Any] = {"cwd": runs, "env": inherited | own, "text": True}
        self.verify()
        command = [sys.executable, "-P", __file__, "--serve"]
        self.server: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **self.options)

    def verify(self) -> None:
        """Exit if ``import trainer`` finds another tree, such as the editable installation."""
        command = [sys.executable, "-P", "-c", "import trainer; print(trainer.__file__)"]
        done = subprocess.run(command, capture_output=True, **self.options)
        if done.returncode or not Path(done.stdout.strip()).resolve().is_relative_to(self.source.resolve()):
            sys.exit(f"import trainer does not find {self.source}: {done.stdout.strip() or done.stderr.strip()}")

    def respell(self, overrides: str) -> str:
        """Overrides in the spelling that this tree knows."""
        for rename in RENAMED:
            files = [file for conf in ("conf", "trainer/conf") if (file := self.source / conf / rename.file).is_file()]
            if files and re.search(f"^{rename.line}", files[0].read_text(), re.MULTILINE):
                overrides = re.sub(rf"\b{re.escape(rename.old)}\b", rename.new, overrides)
        return overrides

    def train(self, name: str) -> tuple[float, str]:
        """Let the server train a case; return its wall time in seconds, and the output if it failed or an empty string."""
        case, folder, start, failure = CASES[name], self.runs / name, time.perf_counter(), ""
        launcher = [] if case.processes == 1 else ["torch.distributed.run", *TORCHRUN, str(case.processes), "-m"]
        first = f"{BASE} {case.overrides} output={folder}"
        for number, overrides in enumerate([first, *(f"resume={folder} {words}" for words in case.resumed)]):
            words, log = self.respell(overrides).split(), self.runs / f"{name}.{number}.log"
            print(json.dumps([[*launcher, "trainer", *words], str(log)]), file=self.server.stdin, flush=True)
            if code := int(self.server.stdout.readline()):
                end = log.read_text()[-3000 if launcher else -800 :]  # torchrun's own messages come last, and are long
                failure = f"exit code {code}: train {' '.join(words)}\n{end}"
                break
        return time.perf_counter() - start, failure


def serve() -> None:
    """Run ``[[module, *arguments], log file]`` of each line of standard input in a forked process; print its exit code.

    Such a process does what ``python -P -m module`` does, except that libraries, whose import takes longer than the training,
    are imported once for all. The server does not import ``trainer``: each process imports it from ``PYTHONPATH``.
    """
    for name in ("torch._dynamo", "torchvision", "hydra", "albumentations", "sklearn.datasets"):
        importlib.import_module(name)
    gc.freeze()  # a collection in a forked process would copy all memory
    for line in sys.stdin:
        (module, *arguments), log = json.loads(line)
        if not (child := os.fork()):
            if module != "trainer":  # torchrun stops the processes it started, unless it is killed
                signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"stopped after {TIMEOUT} s"))
            signal.alarm(TIMEOUT)
            for descriptor in (1, 2):
                os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


@contextmanager
def checkout(revision: str, tree: Path, keep: Path | None) -> Iterator[list[Tree]]:
    """Both trees: a temporary worktree of ``revision``, and a copy of ``tree``. Runs are temporary too, unless kept."""
    git = ("git", "-C", str(ROOT), "worktree")
    trees: list[Tree] = []
    with tempfile.TemporaryDirectory(prefix="check_identical_") as scratch:
        base, new = (Path(scratch) / side for side in SIDES)
        try:
            if subprocess.run([*git, "add", "--quiet", "--detach", str(base), revision]).returncode:
                sys.exit(2)  # git has printed why
            for name in ("trainer", "conf"):
                if (tree / name).is_dir():
                    shutil.copytree(tree / name, new / name, ignore=shutil.ignore_patterns("__pycache__"))
            for source in (base, new):
                trees.append(Tree(source, (keep or Path(scratch) / "runs").resolve() / source.name))
            yield trees
        finally:
            for one in trees:
                one.server.communicate()  # closes its standard input, at which it ends
            if base.exists():
                subprocess.run([*git, "remove", "--force", str(base)], check=True)


def flatten(value: Any, path: str, run: Path) -> Iterator[tuple[str, Any]]:
    """Every tensor and plain value in nested containers, with its path; an empty container counts as a value."""
    if isinstance(value, dict | list | tuple) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from flatten(inner, f"{path}/{key}", run)
    else:
        yield path, value.replace(str(run), "<run>") if isinstance(value, str) else value


def read(run: Path) -> dict[str, Any]:
    """The values of a run that are compared, by path."""
    values: dict[str, Any] = {}
    for file in (run / name for name in FILES):
        if file.suffix == ".pt":
            content = torch.load(file, map_location="cpu", weights_only=True)
        elif file.suffix == ".jsonl":
            content = [json.loads(line) for line in file.read_text().splitlines()]
        else:
            content = json.loads(file.read_text())
        for path, value in flatten(content, file.name, run):
            for new, old in RENAMED_KEYS.items():
                path = re.sub(f"^{new}(?=/|$)", old, path)
            values[path] = value
    return {path: value for path, value in values.items() if not any(fnmatchcase(path, p) for p in IGNORED)}


def describe(value: Any) -> str:
    """A value in one line; of a tensor, its type and shape."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)


def difference(a: Any, b: Any) -> str:
    """How two values differ; an empty string if they are equal bit for bit."""
    if type(a) is not type(b) or describe(a) != describe(b):
        return f"{describe(a)} -> {describe(b)}"
    if not isinstance(a, torch.Tensor):
        return ""
    # As bytes, 0.0 differs from -0.0, and equal NaNs are equal.
    one, other = (t.reshape(-1, 1).view(torch.uint8) for t in (a, b))
    places = (one != other).any(1).nonzero().flatten().tolist()
    if not places:
        return ""
    x, y = (t.flatten()[places[0]].item() for t in (a, b))
    return f"{x!r} -> {y!r} (element {places[0]}; {len(places)} of {a.numel()} elements differ)"


def compare(base: Path, new: Path, ignored: Sequence[str]) -> tuple[int, list[str]]:
    """The number of compared values of two runs, and a line for each that differs."""
    missing = [f"{side} has no {name}" for side in (base, new) for name in FILES if not (side / name).is_file()]
    if missing:
        return 0, missing
    one, other, lines = read(base), read(new), []
    for path in sorted(one.keys() | other.keys()):
        if any(part in path for part in ignored):
            continue
        if text := difference(one.get(path, "(absent)"), other.get(path, "(absent)")):
            lines.append(f"{path.replace('/', '  ', 1)}: {text}")
    return len(one.keys() & other.keys()), lines


def check(names: list[str], trees: list[Tree], ignored: Sequence[str] = ()) -> list[str]:
    """Train and compare the named cases, print a row for each, and return a line for each difference."""
    lines: list[str] = []
    print(f"{'config':<22}{'outcome':<18}{'values':>8}{'base':>9}{'new':>9}", flush=True)
    with ThreadPoolExecutor(len(trees)) as pool:
        for name in names:
            results = list(pool.map(lambda tree, name=name: tree.train(name), trees))
            failures = [f"{side} failed: {text}" for side, (_, text) in zip(SIDES, results, strict=True) if text]
            count, differences = (0, failures) if failures else compare(*(tree.runs / name for tree in trees), ignored)
            outcome = "failed" if failures else f"{len(differences)} differences" if differences else "equal"
            seconds = "".join(f"{elapsed:>7.1f} s" for elapsed, _ in results)
            print(f"{name:<22}{outcome:<18}{count:>8}{seconds}", flush=True)
            lines += [f"{name}  {line}" for line in differences]
    return lines


def main() -> int:
    """Parse the command line, check, print the differences and the wall time; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, metavar="REV", help="git revision to compare with")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help=f"configs: {', '.join(CASES)}")
    parser.add_argument(
        "--ignore", nargs="+", default=(), metavar="TEXT", help="parts of the names of values that are not compared"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder to keep the runs in")
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="DIR", help="working tree (default: the repository)")
    arguments = parser.parse_args()
    if arguments.keep and arguments.keep.exists():
        parser.error(f"--keep {arguments.keep}: exists already")
    start = time.perf_counter()
    with checkout(arguments.base, arguments.tree, arguments.keep) as trees:
        lines = check([name for name in CASES if name in (arguments.only or CASES)], trees, arguments.ignore)
    print("\n".join(["", *lines]) if lines else "\nall equal", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["--serve"] else main())
