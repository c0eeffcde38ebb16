"""Configs, checkpoints and files that are sent to harm: nothing in them runs, nothing is written elsewhere, no traceback."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from torturing.processes import Watch, fork, wait

COMMAND = "touch PWNED"
TARGETS = (
    "os.system", "subprocess.Popen", "builtins.eval", "posix.system", "evil_module.Net", "evil_module.function", "torch.load",
    "torch.hub.load", "torch.utils.cpp_extension.load_inline", "torchvision.datasets.utils.download_url",
    "trainer.cli.os.system", "hydra.utils.call", "hydra.utils.instantiate", "pickle.loads", "numpy.load", "functools.partial",
)  # fmt: skip
GROUPS = (
    "job",
    "task",
    "architecture",
    "activation",
    "initialization",
    "optimizer",
    "averaging",
    "data",
    "engine",
    "recipe",
)
RESOLVERS = (
    "${oc.env:SECRET}", "${oc.decode:${oc.env:SECRET}}", "${oc.create:{_target_: os.system}}", "${oc.select:a}", "${now:%Y}",
    "${hydra:runtime.cwd}", "${oc.deprecated:a}", "${oc.dict.values:optimizer}", "${python:1}",
)  # fmt: skip
ARGUMENTS = {"command": COMMAND, "args": ["touch", "PWNED"]}
Words = list[str]


class Command:
    """What pickle would run."""

    def __reduce__(self) -> Any:
        return os.system, (COMMAND,)


def nodes() -> Iterator[tuple[str, Any]]:
    """Yield changes of a config, each a function of its tree, with a name."""
    for target in TARGETS:
        yield f"architecture is {target}", {"architecture": {"_target_": target, **ARGUMENTS}}
    evil = {"_target_": "os.system", **ARGUMENTS}
    for group in GROUPS:
        yield f"{group} is os.system", {group: evil}
        yield f"{group} holds a nested target", {group: {"_target_": "trainer.optimizers.SGD", "lr": evil}}
    for group in ("schedule", "regularizer", "augmentation", "observer"):
        yield f"{group} holds os.system", {group: {"evil": evil}}
        yield f"{group} is a list of targets", {group: [evil]}
        yield f"{group} has a dotted target", {f"{group}.evil._target_": "os.system"}
    yield "target in a list", {"optimizer": {"_target_": ["os.system"], **ARGUMENTS}}
    yield "target is a table", {"optimizer": {"_target_": evil}}
    yield "target is an interpolation", {"a": "os.system", "optimizer": {"_target_": "${a}", **ARGUMENTS}}
    yield "target from the environment", {"optimizer": {"_target_": "${oc.env:EVIL}", **ARGUMENTS}}
    yield "partial", {"optimizer": {"_target_": "os.system", "_partial_": True, "_args_": [COMMAND]}}
    yield (
        "positional arguments",
        {"architecture": {"_target_": "torch.nn.Linear", "_args_": [COMMAND], "_recursive_": True}},
    )
    yield "recursive arguments", {"architecture": {"_target_": "torch.nn.Sequential", "x": evil}}
    for text in RESOLVERS:
        yield f"resolver {text}", {"metric": text}
        yield f"resolver in a key {text}", {text: 1}
    for key, value in {
        "callbacks": {"x": evil}, "sweeper": evil, "launcher": evil, "run": {"dir": "../elsewhere"},
        "job": {"env_set": {"PATH": "."}},
        "job_logging": {"handlers": {"x": {"class": "evil_module.Net"}}}, "output_subdir": "../elsewhere",
    }.items():  # fmt: skip
        yield f"hydra.{key}", {"hydra": {key: value}}
    yield "output elsewhere", {"output": "../elsewhere"}
    yield "huge widths", {"architecture": {"_target_": "trainer.architectures.CNN", "widths": [2**62, 2**62]}}
    yield "huge batch", {"batch_size": 2**70}
    yield "deep nesting", {"architecture": deep(500)}
    yield "recursion", {"a": "${b}", "b": "${a}"}
    yield "a name of 100,000 letters", {"x" * 100_000: 1}


def deep(levels: int) -> Any:
    value: Any = {"_target_": "os.system"}
    for _ in range(levels):
        value = {"a": value}
    return value


LEVELS = "abcdefghi"


def nine(name: str) -> str:
    return ",".join([f"*{name}"] * 9)


YAML = {
    "tag of a function": "a: !!python/object/apply:os.system ['touch PWNED']",
    "tag of a module": "a: !!python/module:evil_module",
    "tag of a name": "a: !!python/name:os.system",
    "tag of a new object": "a: !!python/object/new:subprocess.Popen [[touch, PWNED]]",
    "unknown tag": "a: !evil {b: 1}",
    "alias of itself": "a: &a [*a]",
    "table of itself": "a: &a {b: *a}",
    "bomb of aliases": f"a: &a [{','.join('x' * 9)}]\n" + "".join(f"{y}: &{y} [{nine(x)}]\n" for x, y in pairwise(LEVELS)),
    "merge bomb": "a: &a {k: 1}\n" + "".join(f"{y}: &{y} {{<<: [{nine(x)}]}}\n" for x, y in pairwise(LEVELS)),
    "brackets": "a: " + "[" * 20_000,
    "braces": "{a: " * 20_000,
    "null bytes": "a: \x00",
    "several documents": "a: 1\n---\nb: 2\n",
    "a list": "- a\n- b\n",
    "a text": "just text",
    "nothing": "",
    "binary": "a: !!binary gAAAAA==",
    "large integer": "a: 0x" + "f" * 5000,
    "sexagesimal": "a: " + ":".join(["59"] * 1000),
    "duplicate keys": "optimizer: {_target_: os.system}\noptimizer: {_target_: os.system}\n",
}  # fmt: skip


def zip_with(names: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return file.getvalue()


def checkpoints(good: Path) -> Iterator[tuple[str, bytes]]:
    """Yield files that claim to be checkpoints."""
    content = torch.load(good, weights_only=True)
    for name, change in nodes():
        sent = copy.copy(content)
        sent["info"] = {**content["info"], "config": {**content["info"]["config"], **change}}
        yield f"config in a checkpoint: {name}", saved(sent)
    yield "a pickle", pickle.dumps(Command())
    yield "a pickle in a checkpoint", saved({**content, "info": Command()})
    yield "a pickle in the state", saved({**content, "state": {"model": Command()}})
    yield "a pickle as data.pkl", zip_with({"a/data.pkl": pickle.dumps(Command()), "a/version": b"3\n"})
    yield (
        "zip slip",
        zip_with({"../../elsewhere/data.pkl": b"", "/tmp/evil": b"x", "a/data.pkl": pickle.dumps(Command())}),
    )
    yield "an empty zip", zip_with({})
    yield "many entries", zip_with({f"a/{i}": b"" for i in range(3000)})
    yield "old format", legacy(Command())
    yield "a bytecode module", b"\x00" * 16 + b"import os"
    for name, tensor in {
        "huge strides": torch.zeros(1).expand(2**45), "empty": torch.zeros(0), "sparse": torch.eye(3).to_sparse(),
        "quantized": torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
        "complex": torch.zeros(3, dtype=torch.complex64),
        "nan": torch.full((3,), torch.nan), "on meta": torch.zeros(2**40, device="meta"),
    }.items():  # fmt: skip
        state = {**content["state"], "model": dict.fromkeys(content["state"]["model"], tensor)}
        yield f"weights that are {name}", saved({**content, "state": state})
    for key, value in {
        "format": 10**9, "numerics": [], "state": [], "run": {}, "info": {}, "members": [{}], "average": 3, "model": [],
    }.items():  # fmt: skip
        yield f"{key} = {value}", saved({**content, key: value})
    for key, value in {
        "classes": 3, "shape": [3, 2**40, 2**40], "mean": "x", "std": [0, 0, 0], "targets": [{"kind": "evil"}], "data": [],
        "config": [],
    }.items():  # fmt: skip
        yield f"info.{key} = {value}", saved({**content, "info": {**content["info"], key: value}})


def saved(content: Any) -> bytes:
    file, limit = io.BytesIO(), sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # what is nested deeply shall be refused by the program, not here
    try:
        torch.save(content, file)
    finally:
        sys.setrecursionlimit(limit)
    return file.getvalue()


def legacy(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def arrays() -> Iterator[tuple[str, bytes]]:
    """Yield .npz files of a data set."""
    x, y = np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 2
    objects = np.array([Command()] * 20, object)
    kinds: dict[str, dict[str, Any]] = {
        "objects": {"x": objects, "y": y}, "object labels": {"x": x, "y": objects}, "floats": {"x": x + np.nan, "y": y},
        "infinite": {"x": x + np.inf, "y": y}, "labels of another length": {"x": x, "y": y[:3]},
        "huge label": {"x": x, "y": y * 10**12}, "complex": {"x": x + 1j, "y": y}, "texts": {"x": x, "y": y.astype(str)},
        "dates": {"x": x.astype("M8[s]"), "y": y}, "records": {"x": np.zeros(20, "i4,f8"), "y": y},
        "no pixels": {"x": x[:, :0], "y": y},
    }  # fmt: skip
    for name, content in kinds.items():
        file = io.BytesIO()
        np.savez(file, **{f"{key}_{split}": value for key, value in content.items() for split in ("train", "test")})
        yield f"npz with {name}", file.getvalue()
    header = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000, 3), }".ljust(117)
        + b"\n"
    )
    yield "npz that promises 3 TB", zip_with({"x_train.npy": header, "y_train.npy": header})
    yield "npz with a path", zip_with({"../../elsewhere.npy": header})
    yield "npz that is a pickle", pickle.dumps(Command())


def cases(whole: Path) -> Iterator[tuple[str, Callable[[Path], list[Words]]]]:
    """Yield each case: its name, and a function that writes its files into a directory and returns the commands for them."""
    for name, data in checkpoints(whole / "checkpoints" / "last.pt"):

        def sent(folder: Path, data: bytes = data) -> list[Words]:
            (folder / "sent.pt").write_bytes(data)
            shutil.copytree(whole, folder / "run")
            (folder / "run" / "checkpoints" / "last.pt").write_bytes(data)
            return [["job=predict", "checkpoint=sent.pt", "job.images=a.png"], ["resume=run", "epochs=4"]]

        yield f"checkpoint: {name}", sent
    good = yaml.safe_load((whole / "config.yaml").read_text())
    texts = {f"config: {name}": yaml.safe_dump({**good, **change}) for name, change in nodes() if "deep" not in name}
    texts |= {f"YAML: {name}": text for name, text in YAML.items()}
    for name, text in texts.items():

        def run(folder: Path, text: str = text) -> list[Words]:
            shutil.copytree(whole, folder / "run")
            (folder / "run" / "config.yaml").write_text(text)
            (folder / "sent.yaml").write_text(f"# @package _global_\n{text}\n")
            return [["resume=run", "epochs=4"], ["experiment=sent", "data=fake"]]

        yield name, run
    for name, data in arrays():

        def array(folder: Path, data: bytes = data) -> list[Words]:
            (folder / "sent.npz").write_bytes(data)
            return [
                ["data=npz", "data.path=sent.npz", "epochs=1", "device=cpu", "architecture.widths=[4]", "observer=[]"]
            ]

        yield f"data: {name}", array
    for name in ("checkpoints", "checkpoints/last.pt", "report.md", "history.jsonl", "train"):

        def linked(folder: Path, name: str = name) -> list[Words]:
            shutil.copytree(whole, folder / "run")
            path = folder / "run" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            (folder.parent / "elsewhere").mkdir(exist_ok=True)
            path.symlink_to(folder.parent / "elsewhere" / ("secret" if path.suffix else ""))
            return [["resume=run", "epochs=4"], ["job=report", "run=run"]]

        yield f"link: {name} leads out of the run", linked
    for name, text in {"html": "<script>alert(1)</script>", "ansi": "\x1b[2J", "path": "![a](/etc/passwd)"}.items():

        def record(folder: Path, text: str = text) -> list[Words]:
            shutil.copytree(whole, folder / "run")
            (folder / "run" / "result.json").write_text(
                json.dumps({"status": text, "stop_reason": text, "test": {text: 1.0}})
            )
            (folder / "run" / "overrides.txt").write_text(text)
            return [["job=report", "run=run"]]

        yield f"record: {name} in the files of a run", record


TRAP = """
import pathlib
pathlib.Path("PWNED").touch()
from torch import nn
class Net(nn.Module): pass
def function(**_): pass
"""


def attempt(name: str, write: Callable[[Path], list[Words]], folder: Path) -> str:
    """Run the commands of one case in a process of their own; return what was lost."""
    folder.mkdir()
    from PIL import Image

    Image.new("RGB", (12, 12)).save(folder / "a.png")
    (folder / "evil_module.py").write_text(TRAP)
    commands = write(folder)

    def work() -> int:
        from trainer.cli import main

        os.environ |= {"SECRET": "hunter2", "EVIL": "os.system", "TRAINER_ALLOW": ""}
        sys.path.insert(0, str(folder))
        watch = Watch(folder)
        for words in commands:
            before = os.times()
            code = main(words)
            after = os.times()
            seconds = after.user + after.system - before.user - before.system
            print(f"code {code}, {seconds:.1f} s")
            if code not in (0, 1, 2) or seconds > 5:
                print(f"LOST code {code} or too slow, {seconds:.1f} s: {words}")
        if watch.seen:
            print(f"LOST {watch.seen}")
        watch.active = False
        return 0

    code = wait(fork(work, folder))
    log = (folder / "log").read_text(errors="replace")
    lost = [line[:300] for line in log.splitlines() if line.startswith("LOST")]
    lost += ["a traceback: " + log.strip().splitlines()[-1][:200]] if "Traceback" in log else []
    lost += [f"exit code {code}"] if code and not lost else []
    lost += ["code has run"] if (folder / "PWNED").exists() else []
    lost += ["the environment was read"] if "hunter2" in log else []
    lost += ["a control character is printed"] if "\x1b" in log else []
    lost += ["a file outside was written"] if (folder.parent / "elsewhere" / "secret").exists() else []
    return "; ".join(lost)
