"""Inputs that hypothesis invents, given to the functions that read them: refused in words, or read, and nothing else.

Each target is a strategy and a function; the function may raise what the program catches where it calls it, and nothing else.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
import resource
import shutil
import signal
import struct
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from omegaconf import OmegaConf

from torturing.processes import CPU_LIMIT, Watch, fork

STALLED = 90.0  # seconds of the clock without a new input after which a process counts as hung
MEMORY = 16 * 2**30  # bytes of address space for one process
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from([
        "", "nan", "inf", "-1", "0", "1e308", "1e-400", "9" * 400, "null", "true", "[]", "{}", "???", "auto", "\x1b[2J", "${a}",
        "${oc.env:HOME}", "${optimizer}", "..", "/etc/passwd", "os.system", "subprocess.Popen", "!!python/object/apply:os.system",
        "<script>", "$(touch x)", "`x`", "\ud800", "\x00", "x" * 5000, "[" * 2000, "log(1e-3,1)", "choice(a,b)", "int(1,3)",
    ]),
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


class Target(NamedTuple):
    """What is fuzzed.

    Attributes:
        inputs: Where the inputs come from.
        read: Reads one; what it raises was not foreseen.
    """

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], object]


def overrides() -> Target:
    """Commands: known and unknown groups and keys, with good and bad values, through ``load_config``."""
    from trainer.config.load import load_config
    from trainer.config.options import option_files

    read_option_files_once()
    files = option_files([])
    tree = load_config([]).tree
    keys = [f"{group}.{key}" for group, node in tree.items() if isinstance(node, dict) for key in node]
    keys += [
        *tree,
        "schedule.clr.floor",
        "regularizer.dropout.p",
        "augmentation.crop.padding",
        "hydra.run.dir",
        "+x",
        "~seed",
        "++a.b",
    ]
    options = [f"{group}={name}" for group in files.groups for name in files.groups[group]]
    good = st.sampled_from(["1", "0.1", "2", "[1,2]", "[]", "none", "auto", "true", "{a: 1}", "1,2", "x", "-1", "null"])
    key = st.one_of(st.sampled_from(keys), st.sampled_from(keys), TEXTS)
    word = st.one_of(
        st.sampled_from(options),
        st.tuples(key, st.one_of(good, TEXTS)).map("=".join),
        st.tuples(st.sampled_from(keys), st.sampled_from(keys)).map(lambda k: f"{k[0]}=${{{k[1]}}}"),
        st.tuples(
            st.sampled_from(list(files.groups)), st.lists(st.sampled_from(["clr", "ema", "flip", "x"]), max_size=3)
        ).map(lambda item: f"{item[0]}=[{','.join(item[1])}]"),
        TEXTS,
    )

    def read(words: list[str]) -> None:
        from trainer.errors import ConfigError, paths_of

        with contextlib.suppress(ConfigError), paths_of(words):
            load_config(words, here=True)

    return Target(st.lists(word, min_size=1, max_size=4), read)


def read_option_files_once() -> None:
    """Let the option files, which no input changes, be parsed once: nine tenths of the time of a composition goes there."""
    from hydra._internal.core_plugins import file_config_source

    from trainer.config import options

    known: dict[str, Any] = {}

    def once(parse: Callable[..., Any]) -> Callable[..., Any]:
        def load(path: Any, *arguments: Any, **keywords: Any) -> Any:
            name = f"{parse.__module__} {getattr(path, 'name', path)}"
            if name not in known:
                known[name] = parse(path, *arguments, **keywords)
            return copy.deepcopy(known[name])

        return load

    options.load_yaml = once(options.load_yaml)  # pyright: ignore[reportAttributeAccessIssue]
    read = once(OmegaConf.load)
    file_config_source.OmegaConf = SimpleNamespace(load=read)  # pyright: ignore[reportAttributeAccessIssue]


def spaces() -> Target:
    """Search spaces: the texts of distributions, what they give, and tables of them for a config."""
    from trainer.config.load import load_config
    from trainer.search.distribution import Limits, distribution
    from trainer.search.read_space import read_space

    config = load_config(["job=search", "data=fake"])
    number = st.one_of(st.floats().map(repr), st.integers().map(str), TEXTS)
    kind = st.sampled_from(["log", "uniform", "int", "log_int", "1-log", "choice", "Log", ""])
    text = st.one_of(st.tuples(kind, st.lists(number, max_size=4)).map(lambda t: f"{t[0]}({','.join(t[1])})"), TEXTS)
    limits = st.builds(Limits, st.sampled_from([-math.inf, 0.0, 1.0]), st.sampled_from([math.inf, 1.0, 1e9]))
    key = st.sampled_from(
        ["optimizer", "optimizer.lr", "epochs", "batch_size", "schedule", "regularizer.dropout.p", "data", "x.y", ""]
    )
    table = st.dictionaries(st.one_of(key, TEXTS), st.one_of(text, VALUES), max_size=3)

    def read(item: Any) -> None:
        if isinstance(item, dict):
            space, problems = read_space(item, config)
            if not problems and len(space):
                point = space.at([0.5] * len(space))
                assert space.contains(point), point
            return
        try:
            found = distribution(item[0], item[1])
        except ValueError:
            return
        for unit in (0.0, 0.3, 1.0):
            value = found.at(unit)
            assert found.contains(value), (value, str(found))
            if found.numeric:
                assert -1e-6 <= found.unit(value) <= 1 + 1e-6, (value, found.unit(value))
                found.narrowed([value])
        if found.numeric:
            found.extended("low")
            found.extended("high")

    return Target(st.one_of(st.tuples(text, limits), table), read)


def encoded_images() -> list[bytes]:
    """Return small images of all common formats, of one to four channels and 8 and 16 bits."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 4), np.uint8)
    found = []
    for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "PCX", "SGI"):
        for mode in ("RGB", "L", "RGBA", "P", "CMYK", "1", "I;16"):
            data = pixels[..., 0].astype(np.uint16) * 257 if mode == "I;16" else pixels
            with contextlib.suppress(Exception):  # most formats take some of the modes
                file = io.BytesIO()
                image = Image.fromarray(data) if mode == "I;16" else Image.fromarray(data).convert(mode)
                image.save(file, form)
                found.append(file.getvalue())
    return found


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "insert", "big", "drop"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def edited(data: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """Return bytes with some of them changed, removed, inserted, or replaced by a large number."""
    changed = bytearray(data)
    for kind, place, content in edits:
        i = int(place * len(changed))
        if kind == "flip" and changed:
            changed[i] ^= 1 << (content[0] % 8)
        elif kind == "set":
            changed[i : i + len(content)] = content
        elif kind == "cut":
            del changed[i:]
        elif kind == "insert":
            changed[i:i] = content
        elif kind == "big":
            changed[i : i + 4] = struct.pack(">I" if content[0] % 2 else "<I", 0xFFFFFFFF >> content[0] % 32)
        else:
            del changed[i : i + len(content)]
    return bytes(changed)


def images() -> Target:
    """Files of images of many formats, changed at some places, and such that hold anything."""
    from trainer.data.decode import Undecodable, decode

    path = Path("image")

    def read(item: Any) -> None:
        content, edits, channels, size = item
        path.write_bytes(edited(content, edits))
        with contextlib.suppress(Undecodable):
            image = decode(path, channels, size)
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == channels

    contents = st.one_of(st.sampled_from(encoded_images()), st.binary(max_size=64))
    return Target(st.tuples(contents, EDITS, st.sampled_from([1, 3]), st.sampled_from([None, 4, 32])), read)


def replaced(value: Any, path: list[float], new: Any) -> Any:
    """Return nested tables and lists with the item replaced that a path of fractions leads to; ``...`` removes it."""
    if not path or not isinstance(value, dict | list | tuple) or not value:
        return new
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[int(path[0] * len(keys))]
    items = dict(value) if isinstance(value, dict) else list(value)
    items[key] = replaced(value[key], path[1:], new) if len(path) > 1 else new
    if items[key] is ...:
        del items[key]
    return items if isinstance(items, dict) else type(value)(items)


TENSORS = st.sampled_from([
    torch.zeros(0), torch.zeros(()), torch.full((3,), torch.nan), torch.zeros(3, dtype=torch.int64), torch.zeros(1).expand(2**40),
    torch.zeros(2, 2, dtype=torch.complex64), torch.zeros(4, dtype=torch.bool), torch.arange(5).to_sparse(),
])  # fmt: skip
PLACES = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5)


def checkpoints() -> Target:
    """Checkpoints with values of other types, shapes and sizes, read for evaluation and for a resume; and damaged files."""
    from trainer.api import build
    from trainer.config.load import config_from_tree
    from trainer.engine import checkpoint
    from trainer.errors import ConfigError
    from trainer.inference import trained
    from trainer.jobs.restore import load_state

    folder = Path("../whole/run")
    run_id = ""
    good = checkpoint.load(folder / "checkpoints" / "last.pt")
    raw = (folder / "checkpoints" / "last.pt").read_bytes()
    config = config_from_tree(good["info"]["config"])
    path = Path("changed.pt")
    with contextlib.redirect_stdout(io.StringIO()):
        run = build(config)

    def read(item: Any) -> None:
        form, places, value, edits = item
        if form == "bytes":
            path.write_bytes(edited(raw, edits))
        else:
            content: Any = replaced(good, places, value)
            if form == "state" and isinstance(content, dict):
                content = {**good, "state": replaced(good["state"], places, value)}
            elif form == "info" and isinstance(content, dict):
                content = {**good, "info": replaced(good["info"], places, value)}
            try:
                torch.save(content, path)
            except Exception:
                return  # no checkpoint holds such a value
        try:
            found = checkpoint.load(path)
            if form == "info":
                import dataclasses

                own = dataclasses.replace(config_from_tree(checkpoint.info_of(found).config), checkpoint=str(path))
                trained(own, "last")
            else:
                run.id = run_id
                load_state(run, folder, found)
        except ConfigError:
            pass

    forms = st.sampled_from(["state", "state", "info", "any", "bytes"])
    return Target(st.tuples(forms, PLACES, st.one_of(VALUES, TENSORS, st.just(...)), EDITS), read)


def records() -> Target:
    """Histories, results, snapshots, manifests and configs of runs, changed, then read and shown as the report does."""
    from trainer.config.options import option_files
    from trainer.errors import ConfigError
    from trainer.jobs.compare import read_outcomes
    from trainer.jobs.options import Compare
    from trainer.records import (
        read_environment,
        read_info,
        read_overrides,
        read_result,
        read_resumes,
        read_rows,
        read_snapshots,
    )
    from trainer.report.html import self_contained_html
    from trainer.report.page import page
    from trainer.run_dir import read_config
    from trainer.sweep.manifest import read_manifest

    names = [
        "history.jsonl",
        "result.json",
        "environment.json",
        "overrides.txt",
        "layers.jsonl",
        "config.yaml",
        "sweep.json",
    ]
    whole = Path("../whole/run")
    run = Path("changed")
    shutil.copytree(whole, run, dirs_exist_ok=True)
    (run / "sweep.json").write_text(
        json.dumps({"command": ["seed=0,1"], "jobs": [{"number": 0, "directory": "0", "overrides": ["seed=0"]}]})
    )
    originals = {name: (run / name).read_bytes() for name in names if (run / name).is_file()}
    files = option_files([])

    def changed(name: str, form: str, places: list[float], value: Any, edits: Any) -> bytes:
        data = originals[name]
        if form == "bytes" or not name.endswith((".json", ".jsonl")):
            return edited(data, edits)
        lines = data.decode().splitlines() if name.endswith("l") else [data.decode()]
        i = int(places[0] * len(lines))
        with contextlib.suppress(TypeError, ValueError):
            lines[i] = json.dumps(replaced(json.loads(lines[i]), places[1:] or places, None if value is ... else value))
        return "\n".join([*lines, ""]).encode(errors="surrogatepass")

    def read(item: Any) -> None:
        name, form, places, value, edits = item
        (run / name).write_bytes(changed(name, form, places, value, edits))
        try:
            rows, result = read_rows(run / "history.jsonl"), read_result(run)
            read_snapshots(run / "layers.jsonl")
            read_info(run / "dataset_info.json")
            commands = read_overrides(run), read_resumes(run / "resumed.jsonl")
            text = page(
                rows, result, commands, result.get("findings") or [], set(), read_environment(run / "environment.json")
            )
            if places[0] < 0.1:
                self_contained_html(text, run)
            with contextlib.suppress(ConfigError):
                read_manifest(run)
            with contextlib.suppress(ConfigError):
                tree = read_config(run, "run")
                read_outcomes(Compare(), {run: tree, whole: tree}, files)
        finally:
            (run / name).write_bytes(originals[name])

    forms = st.sampled_from(["value", "value", "bytes"])
    return Target(
        st.tuples(st.sampled_from(sorted(originals)), forms, PLACES, st.one_of(VALUES, st.just(...)), EDITS), read
    )


TARGETS: dict[str, Callable[[], Target]] = {
    "overrides": overrides, "spaces": spaces, "images": images, "checkpoints": checkpoints, "records": records,
}  # fmt: skip


class Hang(BaseException):
    """An input that takes more than ``CPU_LIMIT`` seconds of the processor."""


def too_long(*_: object) -> None:
    raise Hang


def judge(read: Callable[[Any], object], item: Any, watch: Watch) -> str:
    """Give one input to a target; return what was lost."""
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT)
    failure = ""
    try:
        read(item)
    except Hang:
        failure = f"more than {CPU_LIMIT:g} s of the processor"
    except MemoryError:
        failure = ""  # an error in words, exit code 1
    except Exception as error:
        from trainer.errors import is_out_of_memory

        if not is_out_of_memory(error):
            place = traceback.extract_tb(error.__traceback__)[-1]
            own = [f for f in traceback.extract_tb(error.__traceback__) if "/trainer/" in f.filename][-1:] or [place]
            where = f"{Path(own[0].filename).name}:{own[0].lineno}, {Path(place.filename).name}:{place.lineno}"
            failure = f"{type(error).__name__}: {str(error)[:150]!r} ({where})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if watch.seen:
        failure += f" {watch.seen[:3]}"
        watch.seen.clear()
    return failure


def fuzz(name: str, number: int, count: int, home: Path) -> tuple[int, list[str]]:
    """Give ``count`` inputs of the seed ``number`` to a target, in a forked process.

    Returns:
        The number of inputs that were tried, and what was lost, one text per kind.
    """
    folder = home / f"fuzz {name} {number}"
    folder.mkdir()

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.signal(signal.SIGPROF, too_long)
        set_hypothesis_home_dir(folder / ".hypothesis")
        target = TARGETS[name]()
        watch = Watch(folder)
        progress, lost = (folder / "tried").open("w"), (folder / "lost").open("w")
        tried = 0

        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(target.inputs)
        def test(item: Any) -> None:
            nonlocal tried
            tried += 1
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
                failure = judge(target.read, item, watch)
            if "Traceback" in err.getvalue():
                failure += " a traceback is printed"
            if failure:
                lost.write(json.dumps([failure, repr(item)[:600]]) + "\n")
                lost.flush()
            progress.seek(0)
            progress.write(str(tried))
            progress.flush()

        test()
        watch.active = False
        return 0

    code = until_stalled(fork(work, folder), folder / "tried")
    text = (folder / "tried").read_text() if (folder / "tried").is_file() else ""
    tried = int(text or 0)
    rows = (
        [json.loads(line) for line in (folder / "lost").read_text().splitlines()] if (folder / "lost").is_file() else []
    )
    kinds: dict[str, str] = {}
    for failure, item in rows:
        kinds.setdefault(failure.rpartition("(")[2] or failure, f"{failure} {item}")
    failures = list(kinds.values())
    if code:
        log = (folder / "log").read_text(errors="replace")
        failures.append(f"exit code {code} after {tried} inputs: {log[-800:]}")
    else:
        shutil.rmtree(folder)
    return tried, failures


def until_stalled(child: int, progress: Path) -> int:
    """Return the exit code of a process that writes its progress to a file; one that makes none is killed and counts as 124."""
    last, since = "", time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        text = progress.read_text() if progress.is_file() else ""
        if text != last:
            last, since = text, time.monotonic()
        if time.monotonic() - since > STALLED:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124
        time.sleep(0.05)
