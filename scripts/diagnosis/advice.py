"""What the advice of the diagnosis is worth: the suggested override is followed, and so are two others to compare it with.

For each induced failure that lowers the validation accuracy, the first suggested override of the first finding of one seed is
added to the command and trained with all seeds. Compared are an override that is drawn from all that the diagnosis suggests
(``menu``) and a third of the learning rate.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from diagnosis.conditions import CONDITIONS
from diagnosis.measure import Case, cases, control, measured
from diagnosis.table import diagnosed, harmful, markdown, proportion
from trainer.analysis.diagnosis.advice import applicable
from trainer.errors import ConfigError

TREATMENTS = ("advice", "random", "lr / 3")
SEEDS = 3  # with which a finding about a run that should be healthy is followed
GAIN = 0.01  # of the validation accuracy, from which it counts as improved
NO_OVERRIDE = ("job=", "-m")  # suggestions that are commands of their own
HEAD = ["first override", "improved", "got worse", "fraction of the loss recovered"]
CONDITION_HEAD = ["condition", "first override of the advice", "advice", "random", "lr / 3"]


@dataclass
class Followed:
    """An induced failure, and what each treatment makes of it.

    Attributes:
        case: What was trained.
        advice: The first suggestion; empty if nothing was found.
        loss: Validation accuracy of the control minus that of the failure, mean over the seeds.
        typed: The override of each treatment.
        gains: Validation accuracy with each treatment minus that without, by seed.
    """

    case: Case
    advice: str
    loss: float
    typed: dict[str, str] = field(default_factory=dict[str, str])
    gains: dict[str, list[float]] = field(default_factory=dict[str, list[float]])


def is_override(suggestion: str) -> bool:
    """Whether a suggestion can be added to the command of the run.

    >>> is_override("optimizer.lr=0.1"), is_override("correct the labels"), is_override("job=doctor")
    (True, False, False)
    """
    return "=" in suggestion and " " not in suggestion and not suggestion.startswith(NO_OVERRIDE)


def menu(record: dict[str, Any]) -> list[str]:
    """The overrides that the diagnosis has in all, with values for a run; without those that change nothing."""
    info = record["info"]
    lr, epochs, batch = info["lr"], info["config"]["epochs"], info["batch_size"]
    values = (
        f"optimizer.lr={lr / 10:g}", f"optimizer.lr={lr * 10:g}", f"optimizer.lr={lr * 100:g}", f"epochs={2 * epochs:g}",
        f"epochs={10 * epochs:g}", f"batch_size={8 * batch}", "batch_size=32", "initialization=auto", "initialization=lsuv",
        "initialization=xavier_uniform", "architecture.norm=batch", "architecture.norm=group", "architecture=resnet20",
        "activation=relu", "activation=leaky_relu", "schedule=[cosine]", "schedule=[warmup,cosine]", "averaging=ema",
        "averaging=none", "optimizer.clip_norm=1", "regularizer=[]", "regularizer=[mixup]", "optimizer.weight_decay=0.005",
        "optimizer.weight_decay=0", "data.normalize=dataset", "augmentation=[crop,rotation]",
        "regularizer=[early_stopping,label_smoothing]",
    )  # fmt: skip
    return list(applicable(values, info["config"]))


def validation_accuracy(record: dict[str, Any]) -> float:
    """Accuracy on the validation images of the weights that are used; 0 if training has failed."""
    scores = record.get("scores", {})
    own, averaged = scores.get("validation") or {}, (scores.get("averaged") or {}).get("validation") or {}
    by_average = str(scores.get("metric")).startswith("averaged")
    used = averaged if averaged and (by_average or averaged["accuracy"] >= (own.get("accuracy") or 0)) else own
    return float(used.get("accuracy") or 0.0)


def followed(seeds: int, folder: Path, chosen: Callable[[Case], bool], expired: Callable[[], bool]) -> list[Followed]:
    """Follow the advice of all chosen cases of the first seed, as far as the time allows; what is in files is not trained."""
    found = []
    for case in (c for c in cases(1) if c.condition is not None and c.judged and chosen(c)):
        one = follow(case, seeds, lambda c: known(c, folder, expired))
        if one is not None:
            found.append(one)
    return found


def known(case: Case, folder: Path, expired: Callable[[], bool]) -> dict[str, Any] | None:
    """The records of a case; None if it has not been measured and the time is over."""
    own = folder if case.judged else folder / "followed"  # those that are only compared with lack the short trainings
    if expired() and not (own / f"{case.key}.json.gz").is_file():
        return None
    return measured(case, own)


def follow(case: Case, seeds: int, records: Callable[[Case], dict[str, Any] | None]) -> Followed | None:
    """What each treatment of a failure is worth; None if it is not one, or not all of it has been measured."""
    diagnosis = records(case)
    if diagnosis is None or (untreated := over_seeds(case, seeds, records)) is None:
        return None
    healthy = over_seeds(control(case), seeds, records)
    if healthy is None:
        return None
    differences = [own - other for own, other in zip(untreated, healthy, strict=True)]
    if not harmful(differences):
        return None
    attempts = [attempt for finding in diagnosed(diagnosis) for attempt in finding.attempt]
    result = Followed(case, attempts[0] if attempts else "", -mean(differences))
    drawn = random.Random(case.key).choice(menu(diagnosis))
    typed = dict(zip(TREATMENTS, (result.advice, drawn, f"optimizer.lr={diagnosis['info']['lr'] / 3:g}"), strict=True))
    for treatment, override in typed.items():
        if not is_override(override):
            continue
        try:
            treated = over_seeds(dataclasses.replace(case, extra=(override,)), seeds, records)
        except ConfigError:
            treated = untreated  # a command that is refused changes nothing
        if treated is None:
            return None
        result.typed[treatment] = override
        result.gains[treatment] = [after - before for after, before in zip(treated, untreated, strict=True)]
    return result


def confirmed(case: Case, record: dict[str, Any], folder: Path, expired: Callable[[], bool]) -> bool:
    """Whether a run that should be healthy is improved by what its first finding suggests, over ``SEEDS`` seeds, so that the
    finding is right; what is in files is not trained.
    """
    found = diagnosed(record)
    attempt = next((text for text in found[0].attempt if is_override(text)), "") if found else ""
    if not attempt:
        return False
    sides = [case, dataclasses.replace(case, extra=(attempt,))]
    before, after = (over_seeds(side, SEEDS, lambda c: known(c, folder, expired)) for side in sides)
    return before is not None and after is not None and significant([b - a for a, b in zip(before, after, strict=True)])


def over_seeds(case: Case, seeds: int, records: Callable[[Case], dict[str, Any] | None]) -> list[float] | None:
    """The validation accuracy with each seed; None if not all have been measured."""
    found = [records(dataclasses.replace(case, seed=seed, judged=False)) for seed in range(seeds)]
    values = [validation_accuracy(record) for record in found if record is not None]
    return values if len(values) == seeds else None


def significant(gains: Sequence[float]) -> bool:
    """Whether the gains by seed are above ``GAIN`` in the mean, and above zero by two standard errors.

    >>> significant([0.2, 0.3, 0.25]), significant([0.2, -0.1, 0.0]), significant([0.001, 0.001, 0.001])
    (True, False, False)
    """
    error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return mean(gains) > max(GAIN, 2 * error)


def treatment_rows(found: Sequence[Followed]) -> list[list[str]]:
    """How often each treatment helps and harms, of the failures for which there is an override."""
    rows = []
    for treatment in TREATMENTS:
        own = [f for f in found if is_override(f.advice)]
        gains = [f.gains[treatment] for f in own]
        better, worse = sum(map(significant, gains)), sum(significant([-g for g in gain]) for gain in gains)
        recovered = [mean(f.gains[treatment]) / f.loss for f in own]
        middle = f"{sorted(recovered)[len(recovered) // 2]:.2f}" if recovered else "-"
        rows.append([treatment, proportion(better, len(own)), proportion(worse, len(own)), middle])
    return rows


def condition_rows(found: Iterable[Followed]) -> list[list[str]]:
    """For each condition what is suggested, and in how many settings each treatment improves."""
    rows, found = [], list(found)
    for condition in CONDITIONS:
        own = [f for f in found if f.case.name == condition.name]
        if own:
            advice = dict.fromkeys(
                f"`{f.advice}`" if is_override(f.advice) else f.advice or "nothing found" for f in own
            )
            counts = [counted([f.gains[t] for f in own if t in f.gains]) for t in TREATMENTS]
            rows.append([condition.name, ", ".join(advice), *counts])
    return rows


def settings_of(found: Iterable[Followed]) -> list[str]:
    """The names of the settings, in their order."""
    return [name.replace(",", "") for name in dict.fromkeys(f.case.setting.name for f in found)]


def counted(gains: Sequence[Sequence[float]]) -> str:
    """How many of several gains are significant."""
    return f"{sum(map(significant, gains))} of {len(gains)}" if gains else "-"


def advice_report(found: Sequence[Followed], seeds: int) -> str:
    """The tables, for the settings that tuned the advice and for those held out."""
    texts = []
    for half in ("held out", "tuning"):
        own = [f for f in found if f.case.setting.half == half]
        if not own:
            continue
        settings = len(settings_of(own))
        words = sum(bool(f.advice) and not is_override(f.advice) for f in own)
        nothing = sum(not f.advice for f in own)
        texts += [
            f"### Settings: {half}",
            f"{len(own)} failures in {settings} settings ({', '.join(settings_of(own))}), {seeds} seeds each: "
            f"{len(own) - words - nothing} with an override, {words} whose remedy is none (correct the data or the program), "
            f"{nothing} without a finding.",
            markdown(HEAD, treatment_rows(own)),
            markdown(CONDITION_HEAD, condition_rows(own)),
        ]
    return "\n\n".join(texts) + "\n"
