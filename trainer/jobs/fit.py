"""``job=fit``: train, evaluate, and write the run folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ConfigError, Problem
from trainer.run_dir import check_available, create_run_dir, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.engine.run import Run
    from trainer.jobs.options import Fit

INTERRUPTED = 130


def fit(option: Fit, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Fit``."""
    if config.resume is None:
        check_available(run_dir)
    from trainer.build import build
    from trainer.engine.distributed import rank

    run = build(config, run_dir)
    if config.resume is None:
        if rank() == 0:
            create_run_dir(run_dir, config.tree, overrides, run.notes[0])
    else:
        restore_run(run, run_dir, config.tree)
    result = train_and_evaluate(run, list(config.observer.values()), option.tta)
    return INTERRUPTED if result["status"] == "interrupted" else 0


def restore_run(run: Run, folder: Path, tree: dict[str, Any]) -> None:
    """Load the last checkpoint; a run killed before its first one begins again, which is the same thing."""
    from omegaconf import OmegaConf

    from trainer.engine import checkpoint
    from trainer.engine.distributed import rank, world_size
    from trainer.run_dir import write

    last, status = folder / "checkpoints" / "last.pt", status_of(folder)
    if last.is_file():
        state = checkpoint.load(last).get("state")
        if state is None:
            raise ConfigError(Problem("resume", str(folder), "checkpoints/last.pt holds no state to go on from"))
        before = state.get("processes", 1)
        if before != world_size():
            run.notes.append(
                f"begun by {before} processes, goes on with {world_size()}: the batches and their order are the same, "
                "the last bits and the random numbers of each process are not"
            )
        try:
            run.load(state)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                Problem("resume", str(folder), f"the checkpoint does not fit the config: {reason}")
            ) from None
    elif status == "finished" or (status and wrote_history(folder)):  # it ended, having saved
        text = "checkpoints/last.pt is gone: there is nothing to go on from"
        raise ConfigError(Problem("resume", str(folder), text, "a new run goes into another folder"))
    over = run.finished
    why = "its epochs are over" if over else run.stop_reason()
    if why and status == "finished":  # else it was stopped before its result: that is still to be made
        hint = (
            f"epochs={2 * len(run.history)} goes on longer"
            if over
            else "regularizer.early_stopping.patience=... waits longer"
        )
        raise ConfigError(Problem("resume", str(folder), f"there is nothing to go on with: {why}", hint))
    if rank() == 0:
        write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create({**tree, "resume": None})))


def status_of(folder: Path) -> str | None:
    """How the run of a folder ended, by its ``result.json``; None where it holds none."""
    from trainer.run_dir import read_json

    try:
        return (read_json(folder / "result.json") or {}).get("status")
    except ValueError:
        return None


def wrote_history(folder: Path) -> bool:
    """Whether a run came to the end of an epoch."""
    file = folder / "history.jsonl"
    return file.is_file() and file.stat().st_size > 0


def train_and_evaluate(run: Run, observers: list[Any], tta: Any = "none") -> dict[str, Any]:
    """Train, evaluate the best and the last weights, and close the observers, also where training fails.

    A first Ctrl-C during the last evaluation, which is short, waits for it.
    """
    from trainer.engine.distributed import rank
    from trainer.engine.interrupt import Interrupt
    from trainer.engine.loop import fit

    if rank():  # process 0 alone watches and writes; what gathers from all is asked of all
        observers = [o for o in observers if getattr(o, "everywhere", False)]
    result: dict[str, Any] = {"status": "failed", "stop_reason": "failed", "seconds": 0.0}
    try:
        ended = fit(run, observers)
        late = Interrupt()
        with contextlib.nullcontext() if run.interrupted else late:  # a second Ctrl-C stops at once
            found = summary(run, tta)
        for observer in run.observers:  # a result says that all is written
            if hasattr(observer, "flush"):
                observer.flush()
        result |= ended | {"status": "interrupted" if run.interrupted else "finished"} | found
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            result["status"] = "interrupted"
        result["stop_reason"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        if run.folder is not None and rank() == 0:
            write_json(run.folder / "result.json", result)
        for observer in run.observers:
            observer.on_fit_end(run, result)
        for writer in run.writers.values():
            writer.close()
    if late.asked:
        raise KeyboardInterrupt  # the jobs of a sweep that were to follow do not
    return result


def summary(run: Run, tta: Any = "none") -> dict[str, Any]:
    """Best and last epoch, each with ``accuracy`` and ``loss`` on ``validation`` and ``test``.

    The plain ``validation`` and ``test`` are those of the best snapshot; ``last`` and ``averaged`` hold the same two for
    the last weights and for the averaged model of the best epoch.
    """
    from trainer.architectures.layers import count_parameters
    from trainer.engine.evaluation import evaluate

    def parts(model: Any, row: dict[str, Any], prefix: str = "validation") -> dict[str, Any]:
        known = {k: row.get(f"{prefix}_{k}") for k in ("accuracy", "loss")}
        found: dict[str, Any] = {"validation": known if known["loss"] is not None else None, "test": None}
        if run.test is not None:
            found["test"] = evaluate(model, run.test, run.precision, tta)
        return found

    result: dict[str, Any] = {"metric": run.metric, "steps": run.clock.step, "parameters": count_parameters(run.model)}
    if tta != "none":
        result["tta"] = tta
    if run.interrupted:  # the weights are those of the middle of an epoch, which no row of the history describes
        from trainer.engine.evaluation import evaluate_run

        row = evaluate_run(run)
        return result | {"epoch": run.time, **parts(run.model, row)}
    last, best = run.history[-1], run.history[run.best["row"]] if run.best else run.history[-1]
    result |= {"best_epoch": epochs_until(run, best), "last_epoch": epochs_until(run, last)}
    result["last"] = parts(run.model, last)
    if run.best is None:
        return result | result["last"]
    from trainer.engine.run import snapshot

    kept = snapshot(run.model)
    run.model.load_state_dict(run.best["model"])
    result |= parts(run.model, best)
    assert kept is not None
    run.model.load_state_dict(kept)
    if run.averaged is not None:
        kept = snapshot(run.averaged)
        run.averaged.load_state_dict(run.best["averaged"])
        result["averaged"] = parts(run.averaged, best, "averaged")
        assert kept is not None
        run.averaged.load_state_dict(kept)
    return result


def epochs_until(run: Run, row: dict[str, Any]) -> float:
    """Epochs from the beginning of the run to the end of a row, over all phases."""
    names = [phase.name for phase in run.phases]
    return sum(phase.epochs for phase in run.phases[: names.index(row["phase"])]) + row["epoch"]
