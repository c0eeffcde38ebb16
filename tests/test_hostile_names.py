"""One hostile name in everything that shows names: no terminal, browser or Markdown program obeys it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from searching import bowl, searched

from trainer.cli import main
from trainer.errors import ConfigError, Problem, print_errors
from trainer.literal import printable
from trainer.run_dir import terminal
from trainer.search.choice import Candidate, Choice
from trainer.search.page import page
from trainer.search.summary import show

NAME = "\x1b[2J\x9b2J<img src=x onerror=alert(1)>|[a](javascript:b)"
LIVE = ("<img src=x", "onerror=alert(1)>", "href=")


def assert_inert(*texts: str) -> None:
    """No control character, and in pages nothing live."""
    for text in texts:
        assert not any(c in text for c in "\x1b\x9b\x07")
        assert not any(live in text for live in LIVE) or "<body>" not in text


def assert_pages_are_inert(folder: Path) -> None:
    for path in [*folder.rglob("*.html"), *folder.rglob("*.md")]:
        # Indented lines are code, in which no program looks for markup.
        text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("    "))
        assert_inert(text)
        assert "<img src=x" not in text, path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes with such names, and two runs on them in directories with such names."""
    folder = tmp_path_factory.mktemp("hostile")
    for i in range(2):
        (folder / "images" / f"{NAME}{i}").mkdir(parents=True)
        for j in range(12):
            pixels = np.random.default_rng([i, j]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{NAME}{i}" / f"{NAME}{j}.png")
    for i in range(2):
        assert main([*DATA, f"data.root={folder}/images", f"output={folder}/runs/{NAME}{i}", f"seed={i}"]) == 0
    return folder


DATA = [
    "data=folder",
    "data.size=8",
    "architecture.widths=[4]",
    "epochs=1",
    "batch_size=16",
    "device=cpu",
    "regularizer=[]",
]
SURFACES = {
    "fit": lambda home: [*DATA, f"data.root={home}/images", "output=new"],
    "plan": lambda home: ["job=plan", *DATA, f"data.root={home}/images"],
    "report": lambda home: ["job=report", f"run={home}/runs/{NAME}0"],
    "evaluate": lambda home: ["job=evaluate", f"checkpoint={home}/runs/{NAME}0", "job.split=train", "output=new"],
    "predict": lambda home: ["job=predict", f"checkpoint={home}/runs/{NAME}0", f"job.images={home}/images", "job.format=jsonl"],
    "predict, unreadable": lambda home: ["job=predict", f"checkpoint={home}/runs/{NAME}0", f"job.images={home}/bad"],
    "compare": lambda home: ["job=compare", f"runs={home}/runs", "output=new"],
    "sweep": lambda home: ["-m", *DATA, f"data.root={home}/images", "seed=3,4", f"output=new{NAME}"],
    "wrong value": lambda home: [f"optimizer.lr={NAME}", "data=fake"],
    "wrong key": lambda home: [f"optimizer.{NAME}=1", "data=fake"],
    "wrong path": lambda home: [f"resume={home}/{NAME}"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("surface", SURFACES)
def test_a_hostile_name_is_shown_and_not_obeyed(surface, home, train, tmp_path):
    (home / "bad").mkdir(exist_ok=True)
    (home / "bad" / f"{NAME}.png").write_bytes(b"no image")
    code, out, err = train(*SURFACES[surface](home))
    assert code == (2 if "wrong" in surface else 1 if "unreadable" in surface else 0), err
    assert_inert(err, *([] if surface == "predict" else [out]))
    assert_pages_are_inert(tmp_path)
    assert_pages_are_inert(home)


def test_the_terminal_and_errors_show_control_characters(capsys):
    from rich.table import Table

    table = Table("name")
    table.add_row(NAME)
    console = terminal(width=200)
    console.print(NAME, table)
    print_errors(ConfigError(Problem("a", NAME, NAME, NAME)))
    out, err = capsys.readouterr()
    assert_inert(out, err)
    assert printable(NAME) in out
    assert err.count(printable(NAME)) == 3


def test_a_search_shows_control_characters_and_its_page_no_html(tmp_path, capsys):
    session = searched(tmp_path / "s", bowl, "job.trials=[4,2,2]")
    choice = Choice(Candidate(1, {"data.root": NAME}, 0.9, {1: 0.9}, {}), [], NAME)
    text = page(session, choice, set())
    show(session, choice, tmp_path / "s")
    assert_inert(text, *capsys.readouterr())
    assert "<img" not in text
