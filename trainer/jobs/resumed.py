"""What each resume of a run has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from trainer.analysis.comparison import flatten, format_value
from trainer.engine.numerics import consequence, numeric_changes, numerics
from trainer.engine.run import Run
from trainer.files import write_text
from trainer.formats import JsonObject, Resume
from trainer.records import read_resumes
from trainer.run_dir import read_config

NOT_COMPARED = ("resume", "checkpoint", "output", "experiment")  # where a run is or was taken from


def record_resume(
    run: Run, run_dir: Path, tree: JsonObject, overrides: list[str], before: Mapping[str, object]
) -> None:
    """Add a line to ``resumed.jsonl``, and a note of what has changed and what that means for the results.

    Args:
        run: The run.
        run_dir: Its directory, with the config of before.
        tree: The config of now.
        overrides: As typed.
        before: The numerics of the checkpoint, empty if it does not say.
    """
    changes = changed_settings(read_config(run_dir, "resume"), tree)
    numeric = numeric_changes(before, numerics(run.precision))
    if all_changes := {**changes, **numeric}:
        texts = ", ".join(f"{key} {then} -> {now}" for key, (then, now) in all_changes.items())
        run.notes.append(f"changed: {texts}; {consequence(changes, numeric)}")
    resume = Resume(epochs=len(run.history), steps=run.clock.step, overrides=overrides, changes=changes)
    if numeric:
        resume["numerics"] = numeric
    file = run_dir / "resumed.jsonl"
    write_text(file, "".join(f"{json.dumps(line)}\n" for line in [*read_resumes(file), resume]))


def changed_settings(then: JsonObject, now: JsonObject) -> dict[str, list[str]]:
    """Return the settings that differ between two configs, as texts: then and now.

    >>> changed_settings({"epochs": 2, "seed": 0, "output": "a"}, {"epochs": 4, "seed": 0, "output": None})
    {'epochs': ['2', '4']}
    """
    before, after = (flatten({k: v for k, v in tree.items() if k not in NOT_COMPARED}) for tree in (then, now))
    pairs = {k: [format_value(before.get(k)), format_value(after.get(k))] for k in dict.fromkeys([*before, *after])}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
