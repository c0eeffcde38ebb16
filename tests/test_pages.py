"""``train docs``: pages in the terminal."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from trainer.config.options import option_files
from trainer.pages import OF_THE_SITE

ROOT = Path(__file__).parents[1]


def test_the_page_of_a_group_is_that_of_the_docs_without_comments(train):
    code, out, _ = train("docs", "optimizer")
    assert code == 0
    assert out.startswith("# Optimizers")
    assert "<!--" not in out
    assert [line for line in (ROOT / "docs/optimizer.md").read_text().splitlines() if line.startswith("## ")] == [
        line for line in out.splitlines() if line.startswith("## ")
    ]


@pytest.mark.parametrize("topic", ["optimizer=adam", "adam"])
def test_an_option_has_its_part_of_the_page(topic, train):
    code, out, _ = train("docs", topic)
    assert code == 0
    assert out.startswith("## adam\n")
    assert out.count("\n## ") == 0
    assert "optimizer.betas" in out


def test_every_option_has_a_part_of_a_page(train):
    from trainer.pages import page_text

    files = option_files([])
    for group, options in files.groups.items():
        for name in options:
            assert page_text([f"{group}={name}"], files).startswith(f"## {name}\n"), f"{group}={name}"


def test_without_a_topic_the_pages_are_listed_and_a_wrong_one_is_answered_with_the_nearest(train):
    code, out, _ = train("docs")
    assert code == 0
    assert "train docs optimizer " in out
    code, _, err = train("docs", "optimiser")
    assert (code, "did you mean 'optimizer'?" in err) == (2, True)
    code, _, err = train("docs", "optimizer=adm")
    assert (code, "did you mean 'adam'?" in err) == (2, True)


def test_in_a_terminal_a_page_is_formatted(train, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("pydoc.pager", lambda text, title="": print(text))
    code, out, _ = train("docs", "optimizer=adam")
    assert code == 0
    assert "## adam" not in out
    assert "adam" in out


def test_the_wheel_contains_the_pages():
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "force-include"
    ]
    pages = {path.name for path in (ROOT / "docs").glob("*.md") if path.stem not in OF_THE_SITE}
    assert {f"docs/{name}": f"trainer/docs/{name}" for name in pages}.items() <= included.items()


@pytest.mark.parametrize("command", ["docs", "schema", "completion", "new-option"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_command_that_is_a_word_says_how_it_is_used(command, flag, train):
    code, out, _ = train(command, flag)
    assert (code, f"train {command}" in out) == (0, True)
