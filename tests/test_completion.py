"""Completion in the shell."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_word_is_completed_with_groups_options_keys_and_flags(train):
    assert train("complete", "optimizer=ada")[1].split() == [
        "optimizer=adadelta", "optimizer=adagrad", "optimizer=adam", "optimizer=adam_uncorrected", "optimizer=adamw",
    ]  # fmt: skip
    assert train("complete", "schedule.warmup.e")[1].split() == ["schedule.warmup.epochs="]
    assert train("complete", "epo")[1].split() == ["epochs="]
    assert "--multirun" in train("complete", "--m")[1]
    assert train("complete", "nothing=of")[1].split() == []


def test_an_unknown_shell_is_answered_with_those_that_there_are(train):
    code, _, err = train("completion", "bsh")
    assert (code, "must be one of bash, zsh, fish" in err, "did you mean 'bash'" in err) == (2, True, True)


@pytest.mark.slow
@pytest.mark.parametrize(("line", "expected"), [("train optimizer=adamw", ["adamw"]), ("train epo", ["epochs="])])
def test_bash_completes_the_word_at_the_cursor(line, expected, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    script = f"""
train() {{ {sys.executable} -m trainer "$@"; }}
eval "$(train completion bash)"
COMP_LINE='{line}' COMP_POINT={len(line)}
_train
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == expected, done.stderr


def on_path(directory: Path) -> dict[str, str]:
    """An environment with a command ``train``, which prints its arguments if it is not asked for completions."""
    file = directory / "bin" / "train"
    file.parent.mkdir()
    command = f'case "$1" in complet*) exec {sys.executable} -m trainer "$@";; esac'
    file.write_text(f'#!/bin/sh\n{command}\necho "arguments: $*"\n')
    file.chmod(0o755)
    return {**os.environ, "PATH": f"{file.parent}:{os.environ['PATH']}", "HOME": str(directory), "TERM": "dumb"}


@pytest.mark.slow
@pytest.mark.parametrize(("line", "expected"), [("optimizer=adamw", ["optimizer=adamw"]), ("epo", ["epochs="])])
def test_fish_completes_the_word_at_the_cursor(line, expected, tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = f"train completion fish | source; complete -C 'train {line}'"
    command = ["fish", "--no-config", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=on_path(tmp_path))
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [("optimizer=adamw", "optimizer=adamw"), ("epo", "epochs="), ("schedule.warmup.e", "schedule.warmup.epochs=")],
)
def test_zsh_completes_a_word_when_tab_is_pressed(line, expected, tmp_path):
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    master, slave = pty.openpty()
    command = ["zsh", "-f", "-i"]
    shell = subprocess.Popen(command, cwd=tmp_path, env=on_path(tmp_path), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = ""

    def until(pattern: str) -> None:
        nonlocal seen
        while not re.search(pattern, seen):
            part = os.read(master, 4096)
            assert part, seen
            seen += part.decode(errors="replace")
        seen = ""

    try:
        os.write(master, b"PS1='ready> '; PS2=; eval \"$(train completion zsh)\"; print loaded:$?\n")
        until("loaded:0")
        os.write(master, f"train {line}\t".encode())
        until(re.escape(expected))
        os.write(master, b"\n")
        until(f"arguments: {re.escape(expected)}")
    finally:
        shell.kill()
        shell.wait()
        os.close(master)
