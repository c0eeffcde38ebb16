"""Completion in the shell."""

from __future__ import annotations

import shutil
import subprocess
import sys

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
