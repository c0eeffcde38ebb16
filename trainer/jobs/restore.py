"""Resuming a run from its directory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from omegaconf import OmegaConf

from trainer.data.identity import changes, check_same_classes
from trainer.duration import show_seconds
from trainer.engine import checkpoint
from trainer.engine.distributed import barrier, rank
from trainer.engine.info import Info
from trainer.engine.probes import initial_weights
from trainer.engine.run import Run
from trainer.engine.state import State
from trainer.engine.view import RunView
from trainer.errors import ConfigError, Problem
from trainer.files import write_text
from trainer.formats import JsonObject, Row
from trainer.jobs.resumed import record_resume
from trainer.records import fits
from trainer.run_dir import read_run_id
from trainer.weight_files import DamagedFile, weights_must_fit


def restore_run(run: Run, run_dir: Path, tree: JsonObject, overrides: list[str]) -> str | None:
    """Load the last checkpoint; return why there is nothing to resume, of a run that is complete.

    A run that was killed before its first step restarts from scratch, which gives the same result. One that was killed after
    its last step is not complete: its result and its report are still to be written.

    Raises:
        ConfigError: The checkpoint is missing or damaged, is that of another run, or does not fit the config.
    """
    run.id = read_run_id(run_dir)
    content = read_state(run, run_dir)
    if content is not None:
        run.initial = initial_weights(run)  # as it was built, from config and seed
        load_state(run, run_dir, content)
    over = "its epochs are over" if run.finished else run.stop_reason()
    if over and is_complete(run_dir):
        if rank() == 0:
            restore_best(run, run_dir)
        hint = "regularizer.early_stopping.patience=... waits longer"
        if run.budget is not None and run.budget.over:
            hint = f"engine.budget={show_seconds(2 * run.budget.limit)} continues it"
        if run.finished:
            hint = f"epochs={2 * len(run.history)} continues it"
        return f"there is nothing to resume: the run is complete, {over}; {hint}"
    if rank() == 0:
        record_resume(run, run_dir, tree, overrides, numerics_of(content))
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create({**tree, "resume": None})))
    return None


def read_state(run: Run, run_dir: Path) -> checkpoint.Content | None:
    """The content of ``last.pt``, or of ``previous.pt`` if that is damaged; None if the run has not begun."""
    last, previous = (run_dir / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    text = "checkpoints/last.pt is missing"
    if last.is_file():
        try:
            return checkpoint.load(last, key="resume")
        except DamagedFile as error:
            if not previous.is_file():
                raise
            text = error.problems[0].text
    if previous.is_file():
        content = checkpoint.load(previous, key="resume")
        barrier()  # all ranks have read it
        if rank() == 0:
            os.replace(previous, last)  # so that the damaged file does not become the previous one
        run.notes.append(f"last.pt: {text}; resuming from the checkpoint before it, previous.pt")
        return content
    if has_history(run_dir) or (run_dir / "checkpoints" / "best.pt").exists() or is_complete(run_dir):
        hint = "put the file back, or train a new run in another run directory"
        raise ConfigError(Problem("resume", str(run_dir), f"{text}: there is nothing to resume from", hint))
    return None


def load_state(run: Run, run_dir: Path, content: checkpoint.Content) -> None:
    """Load the state of a run from the content of its checkpoint."""
    state = content.get("state")
    if state is None:
        raise ConfigError(Problem("resume", str(run_dir), "checkpoints/last.pt has no state to resume from"))
    if run.id and content.get("run", "") != run.id:
        text = "checkpoints/last.pt is that of another run: environment.json has another id"
        raise ConfigError(Problem("resume", str(run_dir), text, "put back the checkpoint of this run"))
    run.id = content.get("run", "")
    check_same_data(run, checkpoint.info_of(content), run_dir)
    with weights_must_fit("resume", str(run_dir), "the config"):
        check_progress(state)
        keep_shrunk(run, state, content["info"]["config"])
        run.load(state)


def check_progress(state: State) -> None:
    """Raise ValueError if the clock, the history or the best epoch of a state is none: what is loaded would fail much later."""
    clock, history, best = state["clock"], state["history"], state["best"]
    if not all(isinstance(value, int) and value >= 0 for value in clock.values()):
        raise ValueError(f"its clock is {clock}")
    if not all(fits(row, Row) for row in history):  # pyright: ignore[reportArgumentType]
        raise ValueError("its history has rows of another form")
    if best is not None and not (0 <= best["row"] < len(history) and isinstance(best["model"], dict)):
        raise ValueError(f"its best epoch is row {best['row']} of a history of {len(history)} rows")


def numerics_of(content: checkpoint.Content | None) -> dict[str, object]:
    """What the last bits of a checkpoint depend on, as far as it says so."""
    if content is None or "state" not in content:
        return {}
    return {"processes": content["state"].get("processes", 1), **content.get("numerics", {})}


def keep_shrunk(run: Run, state: State, saved: JsonObject) -> None:
    """Note the smaller micro-batches of a run whose steps did not fit into memory, unless the command sets others."""
    if "micro_batch" not in state:
        return
    if run.micro_batch == saved.get("micro_batch"):
        text = f"micro_batch={state['micro_batch']}, as before: a step did not fit into memory (engine.on_oom=shrink)"
        run.notes.append(text)
        return
    for each in (state, state.get("sane")):
        if each is not None:
            each.pop("micro_batch", None)


def restore_best(run: Run, run_dir: Path) -> None:
    """Write ``best.pt`` of a complete run if it is missing: ``last.pt`` holds it, too."""
    best = run_dir / "checkpoints" / "best.pt"
    if run.best is not None and not best.is_file():
        checkpoint.save(checkpoint.best_contents(RunView(run)), best)
        print(f"{best} was missing, and has been written again from last.pt", file=sys.stderr)


def check_same_data(run: Run, saved: Info, run_dir: Path) -> None:
    """Refuse data with other classes or another shape than the checkpoint's; note other images."""
    check_same_classes(("resume", str(run_dir)), saved.classes, run.info.classes, "the checkpoint")
    if saved.shape != run.info.shape:
        text = f"was trained on images of (C, H, W) = {saved.shape}, the data has {run.info.shape}"
        raise ConfigError(Problem("resume", str(run_dir), text, "give the data.size and data.channels of the run"))
    if differences := changes(saved.data, run.info.data):
        run.notes.append(f"the data has changed since the checkpoint: {', '.join(differences)}")


def is_complete(run_dir: Path) -> bool:
    """Whether the result of a run says that it is finished and that its report has been written.

    Results of earlier releases do not say the latter: they count as complete.
    """
    try:
        result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(result, dict) and result.get("status") == "finished" and result.get("complete", True)


def has_history(run_dir: Path) -> bool:
    """Whether a run reached the end of an epoch."""
    file = run_dir / "history.jsonl"
    return file.is_file() and file.stat().st_size > 0
