"""The end of a search: the finalists and the config as typed are trained again with fresh, common seeds."""

from __future__ import annotations

import statistics
from typing import Literal

from trainer.search.budget import Repetitions, repetitions
from trainer.search.choice import best_finalist
from trainer.search.expected import finalists
from trainer.search.records import FinalRecord, PlanRecord
from trainer.search.session import FINAL, Session
from trainer.search.stages import Plan, Stage, final_plan


def repeat(session: Session) -> None:
    """Repeat the config as typed and the finalists with the same seeds, then the best finalist with more.

    KeyboardInterrupt if the search is interrupted.
    """
    last, ledger = session.full_length, session.ledger
    space = last.plans[-1].space

    def first() -> FinalRecord:
        number = affordable(session, last)
        points = finalists(space, last.results, number.finalists or session.option.finalists)
        plan = final_plan(space, dict(enumerate([{}, *points])), range(1, number.first + 1))
        return {**plan.record(), "points": points, "seeds": number.seeds}

    recorded = ledger.agree(FINAL, "plan-0", first)
    session.points = recorded["points"]
    plan = Plan.from_record(recorded)
    if plan.entries:
        seeds = plan.entries[-1].seed
        total = recorded.get("seeds", seeds)
        named = "1 finalist" if len(session.points) == 1 else f"{len(session.points)} finalists"
        each = "1 seed each" if seeds == 1 else f"{seeds} seeds each"
        session.progress.line(f"{FINAL}: {named} and the config as typed, {each}")
        session.work(FINAL, len(session.lengths), last.epochs, plan, test=True)
        if total > seeds and not ledger.closed(FINAL):
            repeat_best(session, last, range(seeds + 1, total + 1), len(plan.entries))
    session.repetitions = ledger.results(FINAL)


def repeat_best(session: Session, last: Stage, seeds: range, number: int) -> None:
    """Repeat the finalist that is best so far and the config as typed with further seeds.

    Args:
        session: This process's part of the search.
        last: The last stage.
        seeds: The further seeds.
        number: How many repetitions there are.
    """

    def further() -> PlanRecord | Literal[False]:
        best = best_finalist(session.ledger.results(FINAL), session.points, session.trials.metric)
        if best is None:
            return False
        candidates = {0: {}, best: session.points[best - 1]}
        return final_plan(last.plans[-1].space, candidates, seeds, number).record()

    recorded: PlanRecord | Literal[False] = session.ledger.agree(FINAL, "plan-1", further)
    if recorded:
        session.progress.line(f"{FINAL}: the best finalist and the config as typed, {seeds.stop - 1} seeds in all")
        session.work(FINAL, len(session.lengths), last.epochs, Plan.from_record(recorded), test=True)


def affordable(session: Session, last: Stage) -> Repetitions:
    """Return how many repetitions what is left of the budget allows."""
    if not session.repeated:
        return Repetitions(0, 0, 0)
    done = [r.seconds for r in last.results if r.state == "done"]
    if session.clock.left is None or not done:
        return Repetitions(session.option.finalists, session.seeds, session.seeds)
    trials = session.clock.left * session.option.workers / max(statistics.median(done), 1e-9)
    given = None if session.option.seeds == "auto" else session.option.seeds
    return repetitions(trials, session.option.finalists, given)
