"""Names of classes, files and directories are data: no markup language reads them, in whatever they are shown."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.analysis.predictions import Misclassified
from trainer.literal import code_span, markdown_literal, printable
from trainer.report.figures import (
    batch_figure,
    comparison_figure,
    plot_label,
    save_figure,
)
from trainer.report.html import self_contained_html
from trainer.report.plots import DRAWN_BY
from trainer.report.prediction_figures import confusion_figure, highest_loss_figure

HOSTILE = [
    "$5_$10", "US$1", r"a$\frac$b", "$x^2$", r"\$", "$$", "[bold]x[/bold]", "[/]", "[link=a]b", ":smile:",
    "<script>alert(1)</script>",
    "<!-- -->", "&amp;",
    "a|b", "*a*", "_b_", "__c__", "`d`", "# e", "- f", "1. g", "[h](i)", "![j](k)", "~~l~~", "{m}",
    "%s", "\\n",
    "{{n}}", "${o}", "猫", "кот", "قط", "é", "_hidden", "a b", " ", "..", "=cmd()", "a'b\"c", "x" * 200,
    "\x1b[2J", "two\nlines", "\x7f",
]  # fmt: skip


def test_every_plot_with_names_is_drawn_with_each_of_them(tmp_path):
    images = np.zeros((len(HOSTILE), 4, 4, 3))
    titles = [Misclassified(0, 0, 1, 0.5, 1.0).caption([name, name[::-1]], plot_label) for name in HOSTILE]
    for i, figure in enumerate(
        [
            confusion_figure(np.eye(len(HOSTILE), dtype=np.int64), HOSTILE),
            batch_figure(images, images, HOSTILE),
            highest_loss_figure(images, titles),
            comparison_figure([(name, [[]], [0.5, 0.6]) for name in HOSTILE], "validation_accuracy"),
        ]
    ):
        save_figure(figure, tmp_path / f"{i}.png")
        with Image.open(tmp_path / f"{i}.png") as image:
            assert image.size > (10, 10)


def test_a_plot_shows_a_name_as_it_is():
    """matplotlib's own analysis of the text: no mathtext, and what is drawn is the name."""
    from matplotlib.text import Text

    for name in HOSTILE:
        text = Text(text=plot_label(name, 1000))
        drawn, is_math = text._preprocess_math(text.get_text())
        assert is_math is False
        assert drawn == printable(name)


MARKDOWN = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    name=st.one_of(MARKDOWN, st.sampled_from(HOSTILE)), place=st.sampled_from(["paragraph", "heading", "table", "list"])
)
def test_markdown_shows_a_name_as_it_is_wherever_it_stands(name, place):
    literal = markdown_literal(name)
    text = {
        "paragraph": f"before {literal} after",
        "heading": f"# before {literal} after",
        "table": f"| a | b |\n|---|---|\n| before {literal} after | c |",
        "list": f"- before {literal} after",
    }[place]
    page = self_contained_html(text, Path())
    body = page.split("<body>")[1]
    shown = re.search("before (.*) after", html.unescape(re.sub("<[^>]*>", "", body)), re.DOTALL)
    assert shown is not None
    assert shown[1] == printable(name)
    assert "<script" not in body


@settings(max_examples=100, deadline=None)
@given(name=st.one_of(MARKDOWN, st.sampled_from(HOSTILE)))
def test_inline_code_shows_a_command_as_it_is(name):
    body = self_contained_html(f"try {code_span(name)} now", Path()).split("<body>")[1]
    shown = re.search("<code>(.*)</code>", body, re.DOTALL)
    assert shown is not None
    assert html.unescape(shown[1]).strip() == printable(name).strip()


def test_the_terminal_prints_names_as_they_are():
    from trainer.run_dir import terminal

    for name in HOSTILE:
        console = terminal(width=400, soft_wrap=True)
        console.file = io.StringIO()
        console.print(printable(name))
        assert console.file.getvalue() == printable(name) + "\n"


@pytest.mark.slow
def test_a_run_on_such_names_is_finished_evaluated_and_used(train, tmp_path):
    names = [name for name in HOSTILE if "/" not in name and name.strip() not in ("", "..") and len(name) < 100]
    for i, name in enumerate(names):
        (tmp_path / "d" / name).mkdir(parents=True)
        for j in range(5):
            pixels = np.random.default_rng([i, j]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "d" / name / f"{name[:20]}{j}.png")
    code, _, err = train(
        "data=folder", "data.root=d", "epochs=1", "batch_size=32", "data.size=8", "architecture.widths=[4]", "device=cpu",
        "output=run", "regularizer=[]",
    )  # fmt: skip
    assert code == 0, err
    assert "left out" not in err
    assert {"confusion.png", "misclassified.png", "batch.png", "curves.png"} <= {
        p.name for p in Path("run/report").iterdir()
    }
    assert set(json.loads(Path("run/predictions.json").read_text())["classes"]) == set(names)
    code, out, err = train("job=evaluate", "checkpoint=run", "output=evaluated", "job.split=train")
    assert code == 0, err
    assert all(printable(name) in out for name in names)
    code, out, err = train("job=predict", "checkpoint=run", "job.images=d", "output=predicted")
    assert code == 0, err
    with Path("predicted/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * len(names)
    assert {row["class"] for row in rows} <= set(names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["confusion_figure", "highest_loss_figure", "curves_figure", "steps_figure", "batch_figure"]
)
def test_a_plot_that_fails_is_reported_and_the_rest_is_written(name, train, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no such glyph")

    for module in ("report.write", "jobs.evaluate.classes", "jobs.evaluate.details"):
        monkeypatch.setattr(f"trainer.{module}.{name}", broken, raising=False)
    for kind, draw in DRAWN_BY.items():
        if draw.__name__ == name:
            monkeypatch.setitem(DRAWN_BY, kind, broken)
    small = (
        "data=fake",
        "data.size=6",
        "data.count=60",
        "architecture.widths=[4]",
        "epochs=1",
        "device=cpu",
        "batch_size=16",
    )
    code, _, err = train(*small, "output=run")
    assert code == 0, err
    assert "is left out: ValueError: no such glyph" in err
    assert Path("run/report.html").is_file()
    assert json.loads(Path("run/result.json").read_text())["status"] == "finished"
    assert len(list(Path("run/report").glob("*.png"))) >= 4
    if name in ("confusion_figure", "highest_loss_figure"):
        code, out, err = train("job=evaluate", "checkpoint=run", "output=evaluated")
        assert code == 0, err
        assert "accuracy" in out
        assert "is left out" in err
