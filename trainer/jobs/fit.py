"""``job=fit``: train, evaluate, and write the run directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from torch import nn

from trainer import exit_codes
from trainer.architectures.layers import count_parameters
from trainer.augmentation.transforms import TTA
from trainer.builder import build
from trainer.engine.distributed import rank
from trainer.engine.evaluation import best_weights, evaluate, evaluate_run
from trainer.engine.loop import fit as train
from trainer.engine.observer import Observer, ObserverGroup
from trainer.engine.run import Run
from trainer.engine.view import RunView, read_only
from trainer.errors import is_out_of_memory
from trainer.files import require
from trainer.formats import Result, Row, Scores, SplitScores, Summary
from trainer.interrupt import Interrupt, careful_interrupts
from trainer.jobs.restore import restore_run
from trainer.literal import print_literal
from trainer.observers.context import Context, ObserverOption, build_observers
from trainer.observers.options import Console
from trainer.observers.summary import summary_lines
from trainer.run_dir import check_available, create_run_dir, write_json
from trainer.tasks.restrict import at_test

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Fit


def fit(job: Fit, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """Train a new run, or resume one; return the exit code."""
    if config.resume is None:
        check_available(run_dir)
    run = build(config, run_dir)
    if config.resume is not None:
        if complete := restore_run(run, run_dir, config.tree, overrides):
            print_literal(complete)
            return exit_codes.FINISHED
    elif rank() == 0:
        run.id = create_run_dir(run_dir, config.tree, overrides, run.notes[0])
        if config.range_curve:
            write_json(run_dir / "range_test.json", config.range_curve)
    try:
        result = train_and_evaluate(run, config.observer.values(), job.tta, job.plots == "later")
    except Exception as error:
        resume = quote(f"resume={run_dir}")
        if isinstance(error, OSError):
            error.add_note(f"once that is fixed, {resume} continues the run")
        elif is_out_of_memory(error):
            error.add_note(f"{resume} {getattr(error, 'override', '')}".rstrip() + " continues the run")
        raise
    if rank() == 0 and not any(isinstance(option, Console) for option in config.observer.values()):
        print_literal("\n".join([*summary_lines(RunView(run), result), f"run directory: {run_dir}"]))
    codes = {"interrupted": exit_codes.INTERRUPTED, "diverged": exit_codes.FAILED}
    return codes.get(result.get("status", ""), exit_codes.FINISHED)


@careful_interrupts()
def train_and_evaluate(
    run: Run, options: Iterable[ObserverOption | Observer], tta: TTA = "none", draw_later: bool = False
) -> Result:
    """Train with the given observers, evaluate the best and the last weights, and write ``result.json``.

    The observers are ended also if training fails. A first Ctrl-C during the evaluation, which is short, waits for it.

    Args:
        run: The run.
        options: The observers.
        tta: Test-time augmentation of the test images.
        draw_later: Whether the plots are left to ``job=report``.
    """
    context = Context(run, draw_later)
    observers = build_observers(options, context)
    group = ObserverGroup(o for o in observers if rank() == 0 or o.on_every_rank)
    result = Result(status="failed", stop_reason="failed", seconds=0.0)
    try:
        late = Interrupt()
        with careful_interrupts():  # what a library makes of Ctrl-C is an interrupt in result.json, too
            outcome = train(run, [group])
            with contextlib.nullcontext() if run.interrupted else late:  # a second Ctrl-C stops at once
                scores = summary(run, tta)
        group.flush()  # result.json says that everything has been written
        status = "diverged" if run.diverged else "interrupted" if run.interrupted else "finished"
        result = Result(status=status, **outcome, **scores)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            result["status"] = "interrupted"
        result["stop_reason"] = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):  # on a full disk: the first error counts
            conclude(run, group, result)
        raise
    else:
        conclude(run, group, result)
    finally:
        context.event_writer.close()
    if late.requested:
        raise KeyboardInterrupt  # ends a sweep
    return result


def conclude(run: Run, group: ObserverGroup, result: Result) -> None:
    """Add the observers' contributions to the result, write ``result.json``, and let the observers show the result."""
    view = RunView(run)
    if run.folder is not None and rank() == 0:
        require(run.folder)
    try:
        for key, value in group.on_fit_end(view, read_only(result)).items():
            result[key] = value
    finally:
        if result.get("status") == "finished":
            result["complete"] = False  # until the report has been written: resuming the run does it
        write_result(run, result)
        group.on_result(view, read_only(result))
    if result.get("status") == "finished":
        result["complete"] = True
        write_result(run, result)


def write_result(run: Run, result: Result) -> None:
    """Write ``result.json``."""
    if run.folder is not None and rank() == 0:
        write_json(run.folder / "result.json", result)


def summary(run: Run, tta: TTA = "none") -> Summary:
    """Best and last epoch, each with the metrics of the task on ``validation`` and ``test``.

    The plain ``validation`` and ``test`` are those of the best weights; ``last`` and ``averaged`` hold the same two for
    the last weights and for the averaged weights of the best epoch. With a main task only its head is evaluated on ``test``.
    """

    def scores(model: nn.Module, row: Row | Scores, prefix: str = "validation") -> SplitScores:
        names = [name for name in row if name.startswith(f"{prefix}_")]
        run.task.use_thresholds("averaged" if prefix == "averaged" else "model")
        validation = {name.removeprefix(f"{prefix}_"): row[name] for name in names} if names else None
        if run.test is None:
            return {"validation": validation, "test": None}
        task, network = at_test(run.task, model)
        return {"validation": validation, "test": evaluate(network, run.test, run.precision, task, tta)}

    result = Summary(metric=run.metric, steps=run.clock.step, parameters=count_parameters(run.model))
    if tta != "none":
        result["tta"] = tta
    if run.shrunk and run.micro_batch:
        result["micro_batch"] = run.micro_batch
    if run.interrupted:  # within an epoch: no row of the history describes the weights
        result["epoch"], own = run.time, scores(run.model, evaluate_run(run))
        result["validation"], result["test"] = own["validation"], own["test"]
        return result
    last, best = run.history[-1], run.history[run.best["row"]] if run.best else run.history[-1]
    result["last_epoch"] = epochs_until(run, last)
    if run.diverged and run.best is None:
        return result
    result["best_epoch"] = epochs_until(run, best)
    own = scores(run.model, last) if not run.diverged else SplitScores(validation=None, test=None)
    if not run.diverged:
        result["last"] = own
    with best_weights(run):
        if run.best is not None and (run.diverged or best is not last):  # else these are the last weights
            own = scores(run.model, best)
        result["validation"], result["test"] = own["validation"], own["test"]
        if run.best is not None and run.averaged is not None:
            result["averaged"] = scores(run.averaged, best, "averaged")
    return result


def epochs_until(run: Run, row: Row) -> float:
    """Epochs from the beginning of the run to the end of a row's epoch, over all phases."""
    names = [phase.name for phase in run.phases]
    return sum(phase.epochs for phase in run.phases[: names.index(row["phase"])]) + row["epoch"]
