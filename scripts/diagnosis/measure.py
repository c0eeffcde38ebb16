"""Train what is to be diagnosed, and keep its records."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from diagnosis.conditions import CONDITIONS, HEALTHY, PRETRAINED, Condition
from diagnosis.settings import SETTINGS, Setting, present, shape_splits
from trainer.analysis.diagnosis import needed_branches, needs_changes
from trainer.builder import build, load_splits
from trainer.config.load import load_config
from trainer.engine import checkpoint
from trainer.engine.changed_images import accuracies_of_changes
from trainer.engine.checkpoint import saved_info
from trainer.engine.evaluation import best_weights
from trainer.engine.loop import fit
from trainer.engine.probes import branch_steps, probe
from trainer.engine.state import snapshot
from trainer.engine.view import RunView
from trainer.jobs.auto_keys import resolve
from trainer.jobs.fit import summary
from trainer.observers import Diagnosis, Histograms
from trainer.observers.context import Context, build_observers
from trainer.run_dir import json_safe

PROBE_STEPS, PROBE_FRACTION = 100, 0.1  # as observer.diagnosis.probe_steps and probe_fraction


@dataclass(frozen=True)
class Case:
    """A run of the benchmark: a setting, with a condition or a healthy variation, and a seed."""

    setting: Setting
    name: str
    seed: int
    overrides: tuple[str, ...]
    condition: Condition | None = None
    extra: tuple[str, ...] = field(default=())  # a suggestion that is followed
    judged: bool = True  # whether it is diagnosed; otherwise it is only compared with

    @property
    def key(self) -> str:
        """The name of its file."""
        text = "__".join((self.setting.name, self.name, *self.extra, str(self.seed)))
        return re.sub(r"[^\w.=\[\]-]+", "-", text)


def cases(seeds: int, settings: Sequence[Setting] = SETTINGS) -> list[Case]:
    """All runs: conditions and their controls with several seeds, healthy variations with one."""
    found: dict[str, Case] = {}
    for seed in range(seeds):
        for setting in filter(present, settings):
            for condition in CONDITIONS:
                if any(part in setting.name for part in condition.skip):
                    continue
                case = Case(setting, condition.name, seed, condition.change(setting), condition)
                for added in (case, control(case)):
                    found.setdefault(added.key, added)
            for name, variation in HEALTHY.items():
                if seed == 0:
                    case = Case(setting, name, seed, variation(setting))
                    found.setdefault(case.key, case)
    return list(found.values())


def control(case: Case) -> Case:
    """The healthy config that a condition is compared with."""
    assert case.condition is not None
    overrides = case.condition.control(case.setting)
    name = "control " + " ".join(overrides) if overrides else "plain"
    return Case(case.setting, name, case.seed, overrides, judged=not overrides)


def typed(case: Case) -> list[str]:
    """The overrides of a case. One that chooses another option replaces the parameters of the former one."""
    words = list(case.setting.overrides)
    for override in (*case.overrides, *case.extra):
        key, _, value = override.partition("=")
        kept = [f"{key}.{name}." for name in value.strip("[]").split(",")] if value.startswith("[") else []
        if "." not in key:
            words = [o for o in words if not o.startswith((f"{key}=", f"{key}.")) or o.startswith(tuple(kept))]
        words.append(override)
    return words


def pretrained(setting: Setting, folder: Path) -> Path:
    """A checkpoint of the healthy config of a setting, with another seed; it is trained if there is none in the folder."""
    path = folder / "pretrained" / f"{re.sub(r'[^a-z0-9]+', '-', setting.name)}.pt"
    if not path.is_file():
        run = build(load_config([*setting.overrides, "seed=100"]))
        fit(run, [])
        with best_weights(run):
            content = {
                "format": checkpoint.FORMAT,
                "info": saved_info(run.info),
                "row": {},
                "model": snapshot(run.model),
            }
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save({**content, "averaged": None}, path)  # pyright: ignore
    return path


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Train a case; return history, snapshots, dataset info and scores. Pretrained weights are kept in ``folder``."""
    started = time.perf_counter()
    words = [f"initialization.path={pretrained(case.setting, folder)}" if o == PRETRAINED else o for o in typed(case)]
    config = load_config([*words, f"seed={case.seed}"])
    splits = shape_splits() if case.setting.data == ("shapes",) else load_splits(config)
    if case.setting.test and splits.test is not None:
        splits = dataclasses.replace(splits, test=splits.test.subset(np.arange(case.setting.test)))
    if case.condition and case.condition.splits:
        splits = case.condition.splits(splits, case.seed)
    config = resolve(config, splits)
    run = build(config, splits=splits)
    if case.condition and case.condition.model:
        case.condition.model(run.model)
    if case.condition and case.condition.run:
        case.condition.run(run)
    initial = snapshot(run.model)
    histograms, diagnosis = build_observers([Histograms(), Diagnosis(probe_steps=0)], Context(run))
    fit(run, [histograms, diagnosis])
    scores, status = summary(run), "diverged" if run.diverged else "finished"
    for observer in (histograms, diagnosis):
        observer.on_fit_end(RunView(run), {"status": status, **scores})  # pyright: ignore
    info = {**diagnosis.dataset_info, "status": status}  # pyright: ignore
    if case.judged and not run.diverged:
        rows, steps = list(run.history), branch_steps(run.total_steps, PROBE_STEPS)
        info["probe"] = probe(
            run, initial, steps, lambda scores: needed_branches(rows, {**info, "probe": scores}), PROBE_FRACTION
        )
        if needs_changes(info):
            info["validation_changes"] = accuracies_of_changes(run, "validation")
    return {
        "rows": list(run.history), "snapshots": diagnosis.snapshots(), "info": info,  # pyright: ignore
        "scores": scores, "seconds": time.perf_counter() - started,
    }  # fmt: skip


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """The records of a case, from its file if it has been measured."""
    path = folder / f"{case.key}.json.gz"
    if path.is_file():
        return json.loads(gzip.decompress(path.read_bytes()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = json.loads(json.dumps(json_safe(measure(case, folder))))
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(gzip.compress(json.dumps(record).encode(), mtime=0))
    temporary.replace(path)
    return record


def measured_all(chosen: list[Case], seeds: int, folder: Path, workers: int) -> Iterator[tuple[Case, dict[str, Any]]]:
    """The records of cases, in their order, by so many processes."""
    if workers == 1:
        yield from ((case, measured(case, folder)) for case in chosen)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from zip(chosen, pool.map(partial(_measured_key, seeds, folder), [c.key for c in chosen]), strict=True)


def _measured_key(seeds: int, folder: Path, key: str) -> dict[str, Any]:
    return measured(_cases_by_key(seeds)[key], folder)  # the functions of a case cannot be sent to a process


@lru_cache
def _cases_by_key(seeds: int) -> dict[str, Case]:
    return {case.key: case for case in cases(seeds)}


def score(record: dict[str, Any]) -> float:
    """Accuracy on the test images of the weights that are used: the averaged ones if as good on the validation images."""
    scores = record["scores"]
    averaged = scores.get("averaged")
    used = scores
    if averaged and (averaged["validation"]["accuracy"] or 0) >= (scores["validation"]["accuracy"] or 0):
        used = averaged
    test = used.get("test") or {}
    return float(test.get("accuracy") or 0.0)
