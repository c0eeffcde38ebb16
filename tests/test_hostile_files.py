"""Files from somebody else: damaged, multiplied, misleading, or pointing elsewhere. They are refused or skipped, in words."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from trainer.analysis.diagnosis.advice import finding_in_markdown
from trainer.config.load import load_config
from trainer.data.decode import Undecodable, decode
from trainer.data.images import ImageFiles
from trainer.errors import ConfigError, Problem
from trainer.formats import FindingContent
from trainer.records import read_jsonl, read_result, read_rows
from trainer.report.html import self_contained_html
from trainer.run_dir import git_commit
from trainer.weight_files import read_weight_file
from trainer.yaml_files import load_yaml

LEVELS = "abcdefghij"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise(LEVELS)
)
BAD_YAML = {
    "a bomb of aliases": BOMB,
    "a bomb of merged tables": BOMB.replace("[x, x, x, x, x, x, x, x, x]", "{k: 1}") + "z: {<<: [*j, *i]}\n",
    "deep brackets": "a: " + "[" * 3000 + "]" * 3000,
    "deep braces": "a: " + "{b: " * 3000 + "1" + "}" * 3000,
    "deep indentation": "\n".join(" " * i + "a:" for i in range(1000)),
    "an alias in itself": "a: &a [*a]",
    "an object": "a: !!python/object/apply:os.system ['touch PWNED']",
    "a name": "a: !!python/name:os.system",
    "a module": "a: !!python/module:evil",
    "many values": "a: [" + "1, " * 200_000 + "1]",
    "a large file": "a: " + "x" * (5 * 2**20),
    "a list": "- 1",
    "text": "just text",
    "a number of many digits": "a: " + "9" * 10_000,
    "a hexadecimal number of many digits": "a: [{b: 0x" + "f" * 10_000 + "}]",
    "bytes": b"\xff\xfe\x00a",
    "nothing closed": "a: [1, 2",
    "an unknown alias": "a: *nothing",
    "a nul": b"a: \x00",
}


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_yaml_is_refused_before_it_is_expanded(text, tmp_path, train):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "mine/optimizer").mkdir(parents=True)
    shutil.copy(tmp_path / "run/config.yaml", tmp_path / "mine/optimizer/sent.yaml")
    with pytest.raises(ValueError, match=r".+"):
        load_yaml(tmp_path / "run/config.yaml")
    for words in (["resume=run"], ["--config-dir", "mine", "optimizer=sent"]):
        code, _, err = train(*words)
        assert code == 2
        assert "Traceback" not in err
        assert len(err) < 2000
    assert not (tmp_path / "PWNED").exists()


def test_yaml_within_bounds_is_read_as_before(tmp_path):
    (tmp_path / "a.yaml").write_text("base: &b {lr: 1e-3}\nown: {<<: *b, x: '${base.lr}'}\nlist: [*b, *b]\n")
    assert load_yaml(tmp_path / "a.yaml") == {
        "base": {"lr": 1e-3},
        "own": {"lr": 1e-3, "x": "${base.lr}"},
        "list": [{"lr": 1e-3}] * 2,
    }


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch PWNED",)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.safetensors", "a"])
@pytest.mark.parametrize("kind", ["torch", "old", "pickle", "in a dict"])
def test_a_pickle_is_refused_and_does_not_run(kind, name, tmp_path):
    path, content = tmp_path / name, {"model": Evil()} if kind == "in a dict" else Evil()
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "old")
    with pytest.raises(ConfigError):
        read_weight_file(path, "checkpoint")
    assert not (tmp_path / "PWNED").exists()


def test_nothing_loads_pickles():
    files = [
        f for name in ("trainer", "scripts", "tests") for f in Path(ROOT, name).rglob("*.py") if f != Path(__file__)
    ]
    sources = {f: f.read_text() for f in files}
    for file, text in sources.items():
        for i in range(len(text)):
            if text.startswith("torch.load(", i):
                assert "weights_only=True" in text[i : text.index("\n", i)], file
    assert not [
        f for f, text in sources.items() if "allow_pickle=" + "True" in text or "weights_only=" + "False" in text
    ]


ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["yaml", "albumentations", "argparse", "hydra_plugins", "typing", "__future__", "torch"]
)
def test_python_m_imports_nothing_from_the_working_directory(name, tmp_path):
    (tmp_path / f"{name}.py").write_text("open('PWNED', 'w')\n")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "trainer", "optimizer=adm"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert not (tmp_path / "PWNED").exists()
    assert done.returncode == 2, done.stderr
    assert "did you mean 'adam'?" in done.stderr


def test_the_commit_is_read_without_running_what_the_repository_names(tmp_path):
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], check=True, capture_output=True, cwd=tmp_path)

    git("init", "-q")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".gitattributes").write_text("*.txt filter=evil diff=evil\n")
    git("add", ".")
    git("commit", "-qm", "first")
    evil = f"touch {tmp_path / 'PWNED'}; false"
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "filter.evil.smudge", "diff.evil.textconv",
                "diff.external", "core.sshCommand", "core.pager", "core.editor", "alias.status", "alias.rev-parse"):  # fmt: skip
        git("config", key, evil)
    (tmp_path / "included").write_text(f'[core]\n\tfsmonitor = "{evil}"\n[filter "other.name"]\n\tclean = "{evil}"\n')
    git("config", "include.path", str(tmp_path / "included"))
    git("config", "filter.evil.required", "true")
    (tmp_path / ".git/hooks").mkdir(exist_ok=True)
    for hook in ("post-index-change", "fsmonitor-watchman", "pre-auto-gc"):
        (tmp_path / ".git/hooks" / hook).write_text(f"#!/bin/sh\n{evil}\n")
        (tmp_path / ".git/hooks" / hook).chmod(0o755)
    (tmp_path / "a.txt").write_text("b")
    commit = git_commit()
    assert not (tmp_path / "PWNED").exists()
    assert commit is not None
    assert len(commit["commit"]) == 40
    assert commit["changed"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer.cli import main

    run_dir = tmp_path_factory.mktemp("runs") / "good"
    words = ["data=fake", "data.size=8", "data.count=80", "data.num_classes=2", "epochs=2", "device=cpu", "batch_size=16",
             "architecture.widths=[4]", f"output={run_dir}",
             "observer=[checkpoint,history_file,histograms,diagnosis]"]  # fmt: skip
    assert main(words) == 0
    return run_dir


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


LINKED = [
    "report.md",
    "report",
    "report/curves.png",
    "checkpoints",
    "checkpoints/last.pt",
    "overrides.txt",
    "history.jsonl",
    "train",
]


@pytest.mark.parametrize("name", LINKED)
def test_links_out_of_a_run_directory_are_not_followed(name, run, train, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    secret = tmp_path / "elsewhere" / "secret"
    secret.write_text("secret")
    path = run / name
    path.parent.mkdir(exist_ok=True)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(secret if path.suffix else secret.parent)
    for words in (["job=report", f"run={run}"], [f"resume={run}", "epochs=3"]):
        code, _, err = train(*words)
        assert code == 2
        assert "is a link out of the run directory" in err
    assert [p.name for p in secret.parent.iterdir()] == ["secret"]
    assert secret.read_text() == "secret"


def test_a_run_directory_as_a_whole_may_be_a_link_to_another_disk(run, train, tmp_path):
    (tmp_path / "disk").mkdir()
    shutil.move(run, tmp_path / "disk" / "run")
    run.symlink_to(tmp_path / "disk" / "run")
    code, _, err = train(f"resume={run}", "epochs=3")
    assert code == 0, err
    assert len((tmp_path / "disk/run/history.jsonl").read_text().splitlines()) == 3


HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>"
ESCAPES = "\x1b[31mred\x1b]0;title\x07\x9b2J"


@pytest.mark.slow
@pytest.mark.parametrize("text", [HTML, "![a](../elsewhere.png)", "![a](http://example.org/a.png)", "![a](missing.png)",
                                  "[a](javascript:alert(1))",
                                  "<javascript:alert(1)>", "[a]: javascript:alert(1)\n[a]", ESCAPES])  # fmt: skip
def test_what_a_run_directory_says_is_text_in_its_report(text, run, train, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    (run / "overrides.txt").write_text(f"{text}\n")
    result = json.loads((run / "result.json").read_text())
    finding = {"name": text, "kind": text, "evidence": text, "meaning": text, "attempt": [text]}
    result |= {"stop_reason": text, "findings": [finding], "test": {text: 1.0, "loss": 2.0}}
    (run / "result.json").write_text(json.dumps(result))
    environment = {"python": text, "device": text, "versions": {text: text}}
    (run / "environment.json").write_text(json.dumps(environment))
    row = {**json.loads((run / "history.jsonl").read_text().splitlines()[0]), text: 1.0, "phase": text}
    (run / "history.jsonl").write_text(json.dumps(row) + "\n")
    code, out, err = train("job=report", f"run={run}")
    assert code == 0, err
    page = (run / "report.html").read_text().partition("<body>")[2]
    for live in ("<script", "<img src=x", "onerror=alert(1)>", "href=", 'http://example.org/a.png"', "c2VjcmV0"):
        assert live not in page
    assert not any(c in page + out + err for c in "\x1b\x07\x9b")


@pytest.mark.parametrize("text", [HTML, "[a](javascript:alert(1))", ESCAPES])
def test_a_finding_of_a_run_directory_is_text_in_reports_and_in_tensorboard(text):
    attempt = [text, f"name={text}"]
    finding: FindingContent = {"name": text, "kind": text, "evidence": text, "meaning": text, "attempt": attempt}
    page = self_contained_html(finding_in_markdown(finding), Path()).partition("<body>")[2]
    assert not any(live in page for live in ("<script", "<img", "href=", *"\x1b\x07\x9b"))


def test_only_images_of_the_folder_itself_are_embedded(tmp_path):
    (tmp_path / "folder").mkdir()
    png = b"\x89PNG\r\n\x1a\n" + b"x"
    (tmp_path / "folder/a.png").write_bytes(png)
    (tmp_path / "other.png").write_bytes(png)
    (tmp_path / "folder/link.png").symlink_to(tmp_path / "other.png")
    (tmp_path / "folder/text.png").write_text("secret")
    text = f"![a](a.png) ![b](../other.png) ![c](link.png) ![d](text.png) ![e]({tmp_path}/other.png) ![f](file:///etc/passwd)"
    assert self_contained_html(text, tmp_path / "folder").count("data:image/png") == 1


DAMAGE = [b"", b"7", b"[]", b"{}", b"null", b"[1, 2]", b"\xff\xfe\x00", b"{", b"[" * 100_000, b'"x"', b'{"a": NaN}', b"1e999999",
          b"9" * 5000, b'{"phase": 3, "epoch": "x"}', b'{"findings": [3], "test": 4, "stop_reason": {}}', 
          b'{"versions": 3}\n{}\n']  # fmt: skip


DAMAGED = (
    "result.json",
    "history.jsonl",
    "layers.jsonl",
    "environment.json",
    "dataset_info.json",
    "overrides.txt",
    "findings.json",
    "resumed.jsonl",
)


@pytest.mark.parametrize(
    ("name", "contents"),
    [("result.json", DAMAGE[:3]), *(pytest.param(name, DAMAGE, marks=pytest.mark.slow) for name in DAMAGED)],
)
def test_damaged_files_of_a_run_are_skipped_with_a_note(name, contents, run, finished, train, tmp_path):
    for number, content in enumerate(contents):
        (run / name).write_bytes(content)
        code, _, err = train("job=report", f"run={run}")
        assert code == 0, (content[:50], err)
        assert "Traceback" not in err
        code, _, err = train("job=compare", f"runs=[{run},{finished}]", f"output=compared{number}")
        assert code in (0, 2), (content[:50], err)
        assert "Traceback" not in err


def test_a_note_says_what_was_skipped(run, capsys):
    (run / "result.json").write_text('{"status": "finished", "seconds": "x", "test": {"accuracy": null}}')
    assert read_result(run) == {"status": "finished", "test": {"accuracy": None}}
    assert "values of another form are skipped: seconds" in capsys.readouterr().err
    (run / "history.jsonl").write_text(
        '{"phase": "a", "epoch": 1, "step": 1, "lr": 0.1, "loss": []}\nbroken\n{}\n{"incompl'
    )
    assert read_rows(run / "history.jsonl") == [{"phase": "a", "epoch": 1, "step": 1, "lr": 0.1}]
    notes = capsys.readouterr().err
    assert "1 damaged lines are skipped, the first is line 2" in notes
    assert "loss" in notes
    (run / "history.jsonl").write_text('{"a": 1}\n{"b"')
    assert read_jsonl(run / "history.jsonl") == [{"a": 1}]
    assert capsys.readouterr().err == "", "a killed run leaves its last line incomplete"


def test_a_run_that_cannot_be_read_is_left_out_of_a_comparison(run, finished, train, tmp_path):
    shutil.copytree(finished, tmp_path / "third")
    (run / "config.yaml").write_text(BOMB)
    code, _, err = train("job=compare", f"runs=[{run},third,{finished}]", "output=compared")
    assert code == 0, err
    assert "note: skipped" in err


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new(mode, (8, 8)).save(stream, kind, **options)
    return stream.getvalue()


JPEG = saved("JPEG")
LONG_CHUNK = png(8, 8)[:33] + struct.pack(">I", 2**27) + b"IDAT" + bytes(40)
BAD_IMAGES = {
    "a PNG of 60000 x 60000": png(60_000, 60_000),
    "a PNG of 30000 x 30000": png(30_000, 30_000, bytes(90_000)),
    "a PNG of 2^31 x 2^31": png(2**31 - 1, 2**31 - 1),
    "a PNG of 0 x 0": png(0, 0),
    "a PNG cut in its header": png(8, 8)[:20],
    "a PNG with a chunk longer than the file": LONG_CHUNK,
    "a JPEG of 65500 x 65500": JPEG.replace(b"\x00\x08\x00\x08\x03", b"\xff\xdc\xff\xdc\x03"),
    "a BMP of 60000 x 60000": saved("BMP")[:18] + struct.pack("<ii", 60_000, 60_000) + saved("BMP")[26:],
    "a GIF of 65535 x 65535": saved("GIF")[:6] + b"\xff" * 4 + saved("GIF")[10:],
    "a PPM of 10^9 x 10^9": b"P6 1000000000 1000000000 255\n",
    "floating-point numbers": saved("TIFF", "F"),
    "32-bit integers": saved("TIFF", "I"),
    "an EPS that starts a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch PWNED) system\n",
    "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "noise": bytes(range(256)) * 20,
}


@pytest.mark.parametrize("data", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_a_hostile_image_is_an_error_or_left_out(data, tmp_path):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(Undecodable, match=r"a\.jpg"):
        decode(tmp_path / "a.jpg")
    labels = np.zeros(1, np.int64)
    assert not ImageFiles([tmp_path / "a.jpg"], labels, on_error="skip").is_readable(0)
    assert not (tmp_path / "PWNED").exists()


def test_a_chunk_longer_than_the_file_is_kept_from_opencv_which_takes_seconds_for_it(tmp_path, monkeypatch):
    called: list[object] = []
    monkeypatch.setattr("trainer.data.decode.cv2.imdecode", lambda *given: called.append(given))
    for name, data in {"damaged": LONG_CHUNK, "whole": saved("PNG")}.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(Undecodable, match="damaged"):
        decode(tmp_path / "damaged")
    assert not called
    assert decode(tmp_path / "whole").shape == (8, 8, 3)
    assert called


@pytest.mark.parametrize(
    "error", [PermissionError(13, "x"), OSError(5, "x"), OSError(116, "x"), MemoryError()], ids=repr
)
def test_an_image_that_cannot_be_read_is_like_a_broken_one(error, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    assert decode(tmp_path / "a.png").shape == (8, 8, 3)

    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(Undecodable, match=r"cannot be read|memory"):
        decode(tmp_path / "a.png")


def npy(shape: object, data: bytes = b"", dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def encoded(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


CLASSES = np.arange(60) % 3
BAD_ARRAYS: dict[str, dict[str, bytes]] = {
    "images of 30 GB": {"x_train": npy((10**7, 32, 32, 3), b"0" * 100)},
    "labels of 30 GB": {"y_train": npy((4 * 10**9,), b"0" * 100, "<i8")},
    "a negative length": {"x_train": npy((-1, 8, 8, 3))},
    "a length that overflows": {"x_train": npy((2**62, 8, 8, 3))},
    "a header that is code": {"x_train": npy("(__import__('os').system('touch PWNED'),)")},
    "a deep header": {"x_train": npy("(" * 4000 + ")" * 4000)},
    "no pixels": {
        "x_train": encoded(np.zeros((60, 0, 8, 3), np.uint8)),
        "x_test": encoded(np.zeros((12, 0, 8, 3), np.uint8)),
    },
    "a label of 10^12": {"y_train": encoded(np.r_[CLASSES[1:], 10**12])},
    "a label of 2^64 - 1": {"y_train": encoded(np.full(60, 2**64 - 1, np.uint64))},
    "a test label of 10^12": {"y_test": encoded(np.r_[CLASSES[1:12], 10**12])},
    "labels without a dimension": {"y_train": encoded(np.array(3))},
    "labels of text": {"y_train": encoded(np.array(["a", "b"] * 30))},
    "labels of bytes": {"y_train": encoded(np.array([b"a", b"b"] * 30))},
    "complex labels": {"y_train": encoded(CLASSES.astype(complex))},
    "dates": {"y_train": encoded(CLASSES.astype("datetime64[D]"))},
    "infinite labels": {"y_train": encoded(np.r_[CLASSES[1:], np.inf]), "y_test": encoded(CLASSES[:12] / 2)},
    "too few labels": {"y_train": encoded(CLASSES[:50])},
    "floating-point images": {"x_train": encoded(np.zeros((60, 8, 8, 3)))},
    "no array": {"x_train": b"nothing"},
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("members", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_a_hostile_npz_is_refused_in_words(members, compression, tmp_path):
    from trainer.builder import load_splits

    good = {"x_train": np.zeros((60, 8, 8, 3), np.uint8), "y_train": CLASSES, "x_test": np.zeros((12, 8, 8, 3), np.uint8),
            "y_test": CLASSES[:12]}  # fmt: skip
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        for name, content in {**{k: encoded(v) for k, v in good.items()}, **members}.items():
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(ConfigError, match=r"data\.path"):
        load_splits(load_config(["data=arrays", "data.path=a.npz", "device=cpu"]))
    assert not (tmp_path / "PWNED").exists()


def test_objects_in_an_npz_are_not_unpickled(tmp_path):
    from trainer.builder import load_splits

    np.savez(tmp_path / "a.npz", x_train=np.array([Evil()] * 3, object), y_train=np.array([Evil()] * 3, object))
    with pytest.raises(ConfigError, match=r"data\.path"):
        load_splits(load_config(["data=arrays", "data.path=a.npz", "device=cpu"]))
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("content", [[], 3, {"jobs": 3}, {"jobs": [{}], "command": []}, {"command": ["seed=0,1"], "jobs": [
    {"number": 0, "directory": "../elsewhere", "overrides": ["seed=0"], "state": "failed"}]}])  # fmt: skip
def test_the_manifest_of_a_sweep_leads_nowhere_else(content, train, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/config.yaml").write_text(yaml.safe_dump({"a": 1}))
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent/sweep.json").write_text(json.dumps(content))
    code, _, err = train("-m", "data=fake", "seed=0,1", "output=sent", "epochs=0.1")
    assert code == 2
    assert "Traceback" not in err
    assert (tmp_path / "elsewhere/config.yaml").is_file()


def test_an_integer_too_long_to_be_written_is_an_error_all_the_same():
    assert "thousands of digits" in str(Problem("seed", [10**5000], "must be an integer in [0, 4294967296)"))
