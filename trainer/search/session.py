"""One process of a search: it follows the stages, claims trials, and runs them until all are over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from trainer.errors import ConfigError, quoted
from trainer.interrupt import careful_interrupts
from trainer.search.budget import Clock, fractions, seconds_per_epoch
from trainer.search.failure import failure
from trainer.search.ledger import Claimed, Ledger
from trainer.search.options import LEAST_STEPS, STAGES, stages_up_to
from trainer.search.presence import Presence
from trainer.search.progress import Progress, status
from trainer.search.pruning import hopeless, make_pruner
from trainer.search.records import PlanRecord
from trainer.search.sample import sample
from trainer.search.space import Point, Space
from trainer.search.stages import (
    WAVES,
    Entry,
    Plan,
    Result,
    Stage,
    automatic_trials,
    extension,
    first_plan,
    more,
    next_plan,
)
from trainer.search.trial import Trials

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from trainer.config.schema import Config
    from trainer.search.options import SearchSettings

WAIT = 0.2  # seconds between two looks at the trials of others
LEAST = 3  # trials of a stage that are run even if its part of the budget is used up
SEEDS = 5  # of the repetitions without a budget
LEAST_REPEATED = 3  # repetitions for which time is kept: of the config as typed and two finalists
FINAL = "final"


class Session:
    """Takes part in a search until it is over.

    Attributes:
        stages: Those that are over.
        points: Of the finalists, once they are known.
        repetitions: Results of the finalists and the config as typed with fresh seeds.
    """

    def __init__(
        self,
        option: SearchSettings,
        lengths: tuple[float, ...],
        fewest_steps: int,
        config: Config,
        space: Space,
        ledger: Ledger,
        trials: Trials,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self.option, self.lengths, self.fewest_steps, self.config = option, lengths, fewest_steps, config
        self.space, self.ledger, self.run_dir = space, ledger, ledger.run_dir
        self.trials, self.clock, self.progress = trials, clock, progress
        self.counts = automatic_trials(len(space), len(lengths)) if option.trials == "auto" else option.trials
        self.repeated = option.seeds != 0
        self.stages: list[Stage] = []
        self.points: list[Point] = []
        self.repetitions: list[Result] = []

    @property
    def seeds(self) -> int:
        """With how many seeds the finalists are repeated, unless a budget allows more or fewer."""
        return SEEDS if self.option.seeds == "auto" else self.option.seeds

    @property
    def least_epochs(self) -> float:
        """Epochs after which the score of a trial says something."""
        return LEAST_STEPS / self.trials.steps_per_epoch()

    @property
    def full_length(self) -> Stage:
        """The last stage together with that before it if its trials are as long: the finalists are chosen from these."""
        same = [stage for stage in self.stages if stage.epochs == self.stages[-1].epochs]
        return replace(self.stages[-1], plans=same[0].plans, results=[r for stage in same for r in stage.results])

    def run(self, presence: Presence) -> None:
        """Run the stages; KeyboardInterrupt if the search is interrupted."""
        self.presence = presence
        if self.option.epochs == "auto" and len(self.lengths) < len(STAGES):
            text = f"stages of fewer than {LEAST_STEPS} steps are left out: an epoch has {self.fewest_steps}"
            text += " with the largest batch size" if self.fewest_steps < self.trials.steps_per_epoch() else ""
            self.progress.line(f"{text} ({quoted(stages_up_to(STAGES[-1]))} runs them)")
        for number, epochs in enumerate(self.lengths):
            stage = self.stage(number, epochs)
            if stage is None:
                break
            self.stages.append(stage)

    def stage(self, number: int, epochs: float) -> Stage | None:
        """Run a stage: its plan, then extensions where the best lies near a border, then more while a budget lasts.

        None if the budget was used up before a trial other than the config as typed, and an earlier stage has the results.
        """
        name, count, seed = f"stage-{number + 1}", self.counts[number], self.config.seed + 100 * number
        before = self.stages[-1] if self.stages else None
        if before is not None:
            self.decide_repetitions(before)

        def plan() -> PlanRecord:
            if before is None:
                return first_plan(self.space, count, self.sampler(number), seed).record()
            space, again = before.plans[-1].space, epochs > before.epochs
            return next_plan(space, before.results, count, self.option.keep, self.sampler(number), seed, again).record()

        plans = [Plan.from_record(self.ledger.agree(name, "plan-0", plan))]
        self.announce(name, epochs, plans[0])
        self.work(name, number, epochs, plans[0])
        while not self.ledger.closed(name):
            key = f"plan-{len(plans)}"
            following: PlanRecord | Literal[False] = self.ledger.agree(
                name, key, lambda: self.follow_up(name, number, plans, seed)
            )
            if not following:
                break
            plans.append(Plan.from_record(following))
            for words in plans[-1].extended:
                self.progress.line(f"{name}: the best lies near the border: {words}")
            self.work(name, number, epochs, plans[-1])
        results = self.ledger.results(name)
        tried = any(r.score is not None and r.point for r in results)
        if before is not None and not tried and self.ledger.closed(name):
            self.progress.line(f"{name}: left out, because the budget is used up; {before.name} decides")
            return None
        if all(r.score is None for r in results):
            reasons = "; ".join(dict.fromkeys(str(r.info.get("error", r.state)) for r in results))
            raise ConfigError(f"no trial of {name} trained to the end: {reasons}")
        return Stage(name, epochs, plans, results)

    def decide_repetitions(self, before: Stage) -> None:
        """Spend the whole budget on the stages if what is kept for the repetitions does not allow any that tell something.

        Decided once, after the first stage, from the time that an epoch takes.
        """
        if self.clock.limit is None or self.option.seeds != "auto":
            return

        def enough() -> bool:
            per_epoch, kept = seconds_per_epoch(before.results), self.clock.kept * self.option.workers
            return per_epoch is None or kept >= LEAST_REPEATED * self.lengths[-1] * per_epoch

        if not self.ledger.agree(self.stages[0].name, "repeated", enough) and self.repeated:
            self.repeated = False
            self.clock.ends = fractions(self.lengths, False)
            text = f"{FINAL}: left out, because the budget does not allow {LEAST_REPEATED} repetitions"
            self.progress.line(f"{text}; the config of the last stage that is expected to be best wins")

    def announce(self, name: str, epochs: float, plan: Plan) -> None:
        space = ", ".join(f"{key}={text}" for key, text in plan.space.describe().items())
        self.progress.line(f"{name}: {epochs:g} {'epoch' if epochs == 1 else 'epochs'}, {space}")

    def follow_up(self, name: str, number: int, plans: list[Plan], seed: int) -> PlanRecord | Literal[False]:
        """The next plan of a stage; False if it is over."""
        results, count = self.ledger.results(name), self.counts[number]
        total = sum(len(plan.entries) for plan in plans)
        space, wave = plans[-1].space, len(plans)
        extended = sum(bool(plan.extended) for plan in plans)
        found = None
        if extended < WAVES:
            found = extension(space, results, total, max(4, count // 4), seed + 10 + wave)
        if found is None and self.clock.limit is not None and self.option.trials == "auto":
            found = more(space, self.as_long(name, number), total, count, self.sampler(number), seed + 10 + wave)
        return False if found is None else found.record()

    def work(self, name: str, number: int, epochs: float, plan: Plan, test: bool = False) -> None:
        """Run trials of a plan until all are over, those of other processes included, or its time is."""
        pruner = None if name == FINAL else make_pruner(self.option.pruner, epochs, self.least_epochs)
        indices = [entry.index for entry in plan.entries]
        looked = 0.0
        while True:
            if self.trials.interrupt.requested:
                raise KeyboardInterrupt
            if self.ledger.closed(name):
                if not self.clock.over(number):
                    self.progress.line(f"{name}: not continued, because an earlier job.budget ended it")
                return
            if time.monotonic() - looked > 5:
                self.ledger.reclaim(name, self.presence)
                looked = time.monotonic()
            claimed = None
            if not self.time_over(name, number):
                claimed = self.ledger.claim(
                    name, plan, self.presence, lambda e, running: self.point(name, number, plan, e, running)
                )
            if claimed is not None:
                self.trial(name, claimed, epochs, pruner, test)
                self.show(name, number, indices)
                continue
            trials = self.ledger.trials(name)
            if all(i in trials and trials[i].state.is_finished() for i in indices):
                return
            if self.time_over(name, number) and self.ledger.counts(name)["running"] == 0:
                self.ledger.close(name)
                text = "its part of the budget is used up"
                if number == 0 and len(trials) == 1:
                    text = f"job.budget={self.option.budget} is too short for more than the config as typed"
                self.progress.line(f"{name}: {text}")
                return
            looked = 0.0 if self.ledger.counts(name)["waiting"] else looked
            time.sleep(WAIT)

    def time_over(self, name: str, number: int) -> bool:
        """Whether no trial of a stage may begin any more; the first few may while the whole budget lasts.

        The very first, the config as typed, always may: without it the search would have no result.
        """
        if not self.clock.over(number):
            return False
        trials = self.ledger.trials(name)
        if number == 0 and (0 not in trials or trials[0].state.name == "WAITING"):
            return False
        return len(trials) >= LEAST or self.clock.left == 0

    def sampler(self, number: int) -> str:
        """Quasi-random points cover a space best; once trials as long have covered it, these tell where to look."""
        if self.option.sampler != "auto":
            return self.option.sampler
        return "gp" if self.lengths[number] in self.lengths[:number] else "sobol"

    def point(self, name: str, number: int, plan: Plan, entry: Entry, running: Sequence[Point]) -> Point:
        """The point of an entry, chosen by the sampler now if the plan leaves it open."""
        if entry.point is not None:
            return entry.point
        before = [stage for stage in self.stages if stage.epochs == self.lengths[number]]
        whole = before[0].plans[-1].space if before else plan.space
        seed = self.config.seed + 1000 * entry.index
        return sample(self.sampler(number), plan.space, whole, self.as_long(name, number), running, seed)

    def as_long(self, name: str, number: int) -> list[Result]:
        """Results of trials as long as those of a stage: of stages before it, then its own."""
        before = [r for stage in self.stages if stage.epochs == self.lengths[number] for r in stage.results]
        return [*before, *self.ledger.results(name)]

    def trial(self, name: str, claimed: Claimed, epochs: float, pruner: BasePruner | None, test: bool) -> None:
        """Run a trial and record how it ended. An interrupted one is given back."""
        entry = claimed.entry
        protected = pruner is None or entry.origin == "default"

        def report(step: int, value: float) -> bool:
            self.ledger.report(claimed.trial_id, step, value)
            return not protected and step < epochs and hopeless(self.ledger, name, pruner, claimed.trial_id, step)

        run_dir = self.run_dir / "trials" / f"{name}-{entry.index:03d}" if self.option.reports else None
        try:
            seed = (self.config.seed + entry.seed) % 2**32
            tree = self.trials.configs.tree(self.space.settings(claimed.point), epochs, seed)
            with careful_interrupts():
                outcome = self.trials.run(tree, report, test, run_dir)
        except KeyboardInterrupt:
            self.ledger.release(claimed.trial_id)
            raise
        except Exception as error:
            if entry.origin == "default":  # the config as typed is wrong
                self.ledger.release(claimed.trial_id)
                raise
            outcome = failure(error, self.run_dir / "errors" / f"{name}-{entry.index:03d}.txt")
        if outcome.state == "interrupted":
            self.ledger.release(claimed.trial_id)
            raise KeyboardInterrupt
        self.ledger.finish(claimed.trial_id, outcome.value, outcome.record())
        if outcome.state == "failed":
            self.progress.line(f"{name}: trial {entry.index} failed: {outcome.error.splitlines()[0]}")

    def show(self, name: str, number: int, indices: Sequence[int]) -> None:
        """Print the state of the stage."""
        results = self.ledger.results(name)
        left = self.clock.left if self.clock.limit is not None else self.seconds_left(name, number, results, indices)
        total = max(indices) + 1 if indices else 0
        self.progress.show(status(name, results, self.ledger.counts(name), total, self.trials.metric, left))

    def seconds_left(self, name: str, number: int, results: Sequence[Result], indices: Sequence[int]) -> float | None:
        """Estimate of the time until the search is over, from the time per epoch so far."""
        per_epoch = seconds_per_epoch(results)
        if per_epoch is None:
            return None
        lengths, finished = self.lengths, {r.entry.index for r in results}
        epochs = sum(i not in finished for i in indices) * lengths[min(number, len(lengths) - 1)]
        epochs += sum((self.counts[i] + 1) * lengths[i] for i in range(number + 1, len(lengths)))
        if name != FINAL:
            epochs += (self.option.finalists + 1) * self.seeds * lengths[-1]
        return epochs * per_epoch / self.option.workers
