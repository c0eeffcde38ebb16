"""The ledger of a search: the plan of each stage, who runs which trial, and every result, in an Optuna storage.

Each stage is a study. A trial is created in one operation together with its point and its claim; a process that is
killed leaves a trial whose claim is of nobody, which another process then runs again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trainer.formats import JsonObject
from trainer.search.distribution import is_number
from trainer.search.presence import Presence
from trainer.search.records import Claim, Details, OutcomeRecord
from trainer.search.sample import optuna_distribution, to_optuna
from trainer.search.space import Point, Space
from trainer.search.stages import Entry, Plan, Result
from trainer.search.storage import storage_lock

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

DEATHS = 3  # processes that may die in a trial before it counts as failed
SETTINGS = "settings"
CLOSED = "closed"
STATES: tuple[str, ...] = ("running", "waiting", "done", "pruned", "diverged", "failed")


T = TypeVar("T")  # a value that JSON can express


@dataclass(frozen=True)
class Claimed:
    """A trial that this process runs."""

    trial_id: int
    entry: Entry
    point: Point


def recorded_name(storage: BaseStorage) -> str | None:
    """Return the name of the search in a storage of its own, whose directory may have been renamed; None if there is none yet."""
    names = {study.study_name.rpartition("/")[0] for study in storage.get_all_studies()}
    return names.pop() if len(names) == 1 else None


class Ledger:
    """The trials of one search.

    Attributes:
        name: Prefix of the names of its studies.
        maximize: Whether higher values of the metric are better.
    """

    def __init__(self, storage: BaseStorage, name: str, run_dir: Path, maximize: bool) -> None:
        self.storage, self.name, self.maximize = storage, name, maximize
        self.run_dir = run_dir
        self.studies: dict[str, int] = {}
        self.started = time.time()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the search among the processes that share it."""
        with storage_lock(getattr(self.storage, "engine", None), self.run_dir):
            yield

    def study(self, stage: str) -> int:
        """Return the study of a stage, created if it does not exist."""
        if stage not in self.studies:
            from optuna.exceptions import DuplicatedStudyError
            from optuna.study import StudyDirection

            direction = StudyDirection.MAXIMIZE if self.maximize else StudyDirection.MINIMIZE
            name = f"{self.name}/{stage}"
            try:
                self.studies[stage] = self.storage.create_new_study([direction], name)
            except DuplicatedStudyError:
                self.studies[stage] = self.storage.get_study_id_from_name(name)
        return self.studies[stage]

    def recorded(self, stage: str, key: str) -> str | None:
        """Return the JSON text of a value recorded for a stage; None if there is none."""
        return self.storage.get_study_user_attrs(self.study(stage)).get(key)

    def agree(self, stage: str, key: str, value: Callable[[], T]) -> T:
        """Return a value recorded for a stage; record the given one if there is none. All processes get the same."""
        with self.lock():
            if self.recorded(stage, key) is None:
                self.storage.set_study_user_attr(self.study(stage), key, json.dumps(value()))
            text = self.recorded(stage, key)
        assert text is not None
        return json.loads(text)

    def close(self, stage: str) -> None:
        """End a stage for all processes: no trial of it begins any more."""
        self.agree(stage, CLOSED, lambda: True)

    def closed(self, stage: str) -> bool:
        return self.recorded(stage, CLOSED) is not None

    def beat(self, worker: str, count: int) -> None:
        """Record a sign of life."""
        self.storage.set_study_user_attr(self.study(SETTINGS), f"beat:{worker}", count)

    def beats(self) -> dict[str, int]:
        """Return the number of signs of life of each worker."""
        attributes = self.storage.get_study_user_attrs(self.study(SETTINGS))
        return {key.removeprefix("beat:"): value for key, value in attributes.items() if key.startswith("beat:")}

    def trials(self, stage: str) -> dict[int, FrozenTrial]:
        """Return the trial of each entry that has one. Of several, which two machines created at once, the first counts."""
        from optuna.trial import TrialState

        trials: dict[int, FrozenTrial] = {}
        for trial in sorted(self.storage.get_all_trials(self.study(stage), deepcopy=False), key=lambda t: t.number):
            discarded = trial.state is TrialState.FAIL and "outcome" not in trial.user_attrs
            if not discarded and "entry" in trial.user_attrs:
                trials.setdefault(trial.user_attrs["entry"]["index"], trial)
        return trials

    def claim(
        self, stage: str, plan: Plan, presence: Presence, choose: Callable[[Entry, Sequence[Point]], Point]
    ) -> Claimed | None:
        """Claim the first entry of a plan that nobody runs or has run; None if there is none.

        Args:
            stage: Name of the stage.
            plan: Its plan.
            presence: Of this process.
            choose: Returns the point of an entry, given the points of the trials that others are running.
        """
        from optuna.trial import TrialState

        with self.lock():
            trials = self.trials(stage)
            running = [t.user_attrs["point"] for t in trials.values() if t.state is TrialState.RUNNING]
            for entry in plan.entries:
                trial = trials.get(entry.index)
                if trial is None:
                    claimed = self._create(stage, entry, choose(entry, running), plan.space, presence)
                    if claimed is not None:
                        return claimed
                elif trial.state is TrialState.WAITING and self._take(trial, presence):
                    return Claimed(trial._trial_id, entry, trial.user_attrs["point"])
        return None

    def _create(self, stage: str, entry: Entry, point: Point, space: Space, presence: Presence) -> Claimed | None:
        from optuna.trial import TrialState, create_trial

        distributions, params = _as_optuna(space, point)
        attributes = {"entry": asdict(replace(entry, point=None)), "point": point, "claim": self._claim(presence)}
        template = create_trial(
            state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs=attributes
        )
        trial_id = self.storage.create_new_trial(self.study(stage), template_trial=template)
        if self.trials(stage)[entry.index]._trial_id == trial_id:
            return Claimed(trial_id, entry, point)
        self.storage.set_trial_state_values(trial_id, TrialState.FAIL)  # another machine was faster
        return None

    def _take(self, trial: FrozenTrial, presence: Presence) -> bool:
        from optuna.trial import TrialState

        if not self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
            return False
        self.storage.set_trial_user_attr(trial._trial_id, "claim", self._claim(presence))
        return True

    def _claim(self, presence: Presence) -> Claim:
        return {**presence.claim, "time": time.time()}

    def release(self, trial_id: int) -> None:
        """Give back a trial that was interrupted, to be run again."""
        from optuna.trial import TrialState

        self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def reclaim(self, stage: str, presence: Presence) -> int:
        """Give back the trials of processes that have ended; return how many."""
        from optuna.trial import TrialState

        count = 0
        with self.lock():
            running = [t for t in self.trials(stage).values() if t.state is TrialState.RUNNING]
            beats = self.beats() if running else {}
            for trial in running:
                claim: Claim | None = trial.user_attrs.get("claim")
                if presence.alive(claim, beats):
                    continue
                count += 1
                # A search that is started again tells nothing about its trials; a worker that ends in one does.
                deaths = trial.user_attrs.get("deaths", 0) + (
                    claim is not None and claim.get("time", 0.0) > self.started
                )
                self.storage.set_trial_user_attr(trial._trial_id, "deaths", deaths)
                if deaths < DEATHS:
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                else:
                    outcome: OutcomeRecord = {"state": "failed", "error": f"its process ended {deaths} times"}
                    self.storage.set_trial_user_attr(trial._trial_id, "outcome", outcome)
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return count

    def report(self, trial_id: int, step: int, value: float) -> None:
        """Record the metric after an epoch, counted from 1."""
        self.storage.set_trial_intermediate_value(trial_id, step, value)

    def finish(self, trial_id: int, value: float | None, outcome: OutcomeRecord) -> None:
        """Record how a trial ended. Nothing changes if another process has done so."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        states = {"done": TrialState.COMPLETE, "failed": TrialState.FAIL}
        state = states.get(outcome["state"], TrialState.PRUNED)
        try:
            self.storage.set_trial_user_attr(trial_id, "outcome", dict(outcome))
            self.storage.set_trial_state_values(trial_id, state, None if value is None else [value])
        except UpdateFinishedTrialError:
            pass

    def results(self, stage: str) -> list[Result]:
        """Return the finished trials of a stage, in the order of their entries."""
        return [self._result(t) for _, t in sorted(self.trials(stage).items()) if t.state.is_finished()]

    def _result(self, trial: FrozenTrial) -> Result:
        outcome: OutcomeRecord = trial.user_attrs["outcome"]
        entry = Entry(**trial.user_attrs["entry"])
        details = Details(**{key: outcome[key] for key in Details.__annotations__ if key in outcome})
        score = None if trial.value is None or outcome["state"] in ("failed", "diverged") else trial.value
        return Result(
            replace(entry, point=trial.user_attrs["point"]),
            trial.user_attrs["point"],
            score if score is None or self.maximize else -score,
            outcome["state"],
            tuple(outcome.get("curve", ())),
            tuple(outcome.get("epochs", ())),
            outcome.get("seconds", 0.0),
            details,
        )

    def counts(self, stage: str) -> dict[str, int]:
        """Return how many trials are running, waiting, done, pruned, diverged and failed."""
        counts: dict[str, int] = dict.fromkeys(STATES, 0)
        for trial in self.trials(stage).values():
            state = trial.user_attrs["outcome"]["state"] if trial.state.is_finished() else trial.state.name.lower()
            counts[state] += 1
        return counts

    def active_seconds(self, stages: Sequence[str]) -> float:
        """Return for how long trials have been running, overlaps counted once."""
        spans = [
            (t.datetime_start, t.datetime_complete)
            for stage in stages
            for t in self.trials(stage).values()
            if t.datetime_start and t.datetime_complete
        ]
        total, end = 0.0, None
        for start, complete in sorted(spans):
            if end is None or start > end:
                total, end = total + (complete - start).total_seconds(), complete
            elif complete > end:
                total, end = total + (complete - end).total_seconds(), complete
        return total


def _as_optuna(space: Space, point: Point) -> tuple[dict[str, BaseDistribution], JsonObject]:
    """Distributions and values of a point as Optuna stores them, bounds extended to the value where it is outside."""
    distributions: dict[str, BaseDistribution] = {}
    params: JsonObject = {}
    for dimension in space:
        own = dimension.distribution
        if dimension.name not in point:
            continue
        value = point[dimension.name]
        if is_number(value) and own.numeric:
            own = replace(own, low=min(own.low, value), high=max(own.high, value))
        elif not own.contains(value):
            continue
        distributions[dimension.name] = optuna_distribution(own)
        params[dimension.name] = to_optuna(own, value)
    return distributions, params
