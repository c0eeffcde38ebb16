"""The diagnosis of a run during training and at its end; ``trainer.analysis.diagnosis`` makes it."""

from __future__ import annotations

from typing import cast

import numpy as np

from trainer.analysis.diagnosis import diagnose, differ, needed_branches, needs_changes, needs_probe, urgent
from trainer.analysis.diagnosis.advice import finding_in_markdown, suggested
from trainer.architectures.layers import count_parameters
from trainer.data.splits import DROPPED_COLORS, OTHER_NORMALIZATION
from trainer.engine.distributed import world_size
from trainer.engine.loader import Loader
from trainer.engine.observer import Observer
from trainer.engine.probes import Needed, branch_steps
from trainer.engine.state import StateDict
from trainer.engine.view import RunView
from trainer.formats import Contribution, Result, Row, Snapshot
from trainer.measurements import DatasetInfo, Probe, SplitPixels
from trainer.observers.context import Changes, Context
from trainer.observers.duplicates import Fingerprints, count_pairs, exact_suspects, examined, near_suspects
from trainer.observers.nonfinite import first_nonfinite
from trainer.observers.options import Diagnosis
from trainer.observers.task_info import task_info
from trainer.records import read_overrides
from trainer.report.suspects import write_suspects
from trainer.run_dir import write_json
from trainer.tree import value_at

MAX_NEAR = 2_000  # images in all, up to which near duplicates are looked for; the doctor compares more of them
MAX_NEAR_SUSPECTED = 10_000  # likewise, where far fewer test images than validation images are recognized
# What the overrides that a finding suggests do not concern.
NOT_ADVISED = ("job", "observer", "output", "resume", "checkpoint", "run", "runs", "seed")


class DiagnosisObserver(Observer):
    """Adds ``findings`` to the result, writes them to ``findings.json`` and TensorBoard, and alerts to urgent ones at once.

    The loss is checked for NaN and Inf every ``every`` steps. Findings about layers need the observer ``histograms``.
    ``dataset_info.json`` holds what the diagnosis knows about data and config. Images in two splits or under two labels are
    listed in ``suspects.csv`` and drawn in ``report/suspects.png``: equal ones and, of at most ``MAX_NEAR`` images, nearly equal
    ones.

    If the curves of a finished run do not show a good fit, short trainings at other learning rates and without regularization
    tell the causes apart (``trainer.engine.probes``); they do not change the run. They take at most ``probe_fraction`` of its
    steps, or what one CPU core computes in some 20 seconds; a finding says which fraction makes those that are left out.
    """

    def __init__(self, option: Diagnosis, context: Context) -> None:
        self.every, self.probe_steps, self.probe = option.every, option.probe_steps, context.probe
        self.probe_fraction, self.initial_weights = option.probe_fraction, context.initial_weights
        self.measure_validation, self.changes = context.measure_validation, context.changes
        self.nonfinite_batches = context.nonfinite_batches
        self.initial: StateDict | None = None  # weights before the first step, from which short trainings start
        self.statistics, self.events, self.alert = context.layer_statistics, context.event_writer, context.alert
        self.nonfinite: list[Snapshot] = []  # at most one snapshot, of the step with a NaN or Inf loss
        self.alerted: set[str] = set()
        self.dataset_info: DatasetInfo = {}
        self.prints = Fingerprints({})

    def on_fit_start(self, view: RunView) -> None:
        self.prints = fingerprints_of(view)
        self.dataset_info = dataset_info(view, self.prints)
        if self.probe_steps:
            self.initial = self.initial_weights()
        if view.folder is not None:
            write_json(view.folder / "dataset_info.json", self.dataset_info)

    def on_step_end(self, view: RunView) -> None:
        if view.step % self.every or self.nonfinite or view.loss is None or bool(view.loss.isfinite()):
            return
        self.nonfinite.append({
            "step": view.step, "epoch": view.time, "phase": view.phase.name, "finite": False, "batches": self.every,
            "lr": view.lr, "first_nonfinite": first_nonfinite(view), "weights": [], "activations": [], "batch_loss": None,
            "batch_loss_std": None, "grad_norm": None,
        })  # fmt: skip
        self._alert_urgent(view)

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        self._alert_urgent(view)

    def snapshots(self) -> list[Snapshot]:
        """The snapshots of the layers, and that of a NaN or Inf loss before those of the same step."""
        return sorted([*self.nonfinite, *self.statistics.snapshots], key=lambda snapshot: snapshot["step"])

    def _alert_urgent(self, view: RunView) -> None:
        for finding in urgent(view.history.rows, self.snapshots(), self.dataset_info):
            if finding.name not in self.alerted:
                self.alerted.add(finding.name)
                self.alert(f"{finding.name}: {finding.evidence}. {suggested(finding.attempt)}")

    def _suspects(self, view: RunView, limit: int) -> DatasetInfo:
        """Write ``suspects.csv`` and ``report/suspects.png``; return what was compared and found: near duplicates among at most
        ``limit`` images.
        """
        exact, near = exact_suspects(self.prints), []
        info = DatasetInfo()
        compared = self.dataset_info.get("compared", {})
        if compared.get("images", 0) <= limit:
            images = examined(self.prints.parts, limit)
            near = near_suspects(images, self.prints)
            info = DatasetInfo(near_duplicates=count_pairs(near), compared={**compared, "near": len(images.labels)})
        if view.folder is not None and (exact or near):
            sheet = view.folder / "report" / "suspects.png"
            write_suspects(view.folder, [*exact, *near], self.prints.parts, view.info.classes, sheet)
        return info

    def _measured(self, view: RunView, info: DatasetInfo) -> DatasetInfo:
        """Measure which classes a finished run confuses with each other, and, unless the curves show a good fit, what tells the
        causes apart; of one that has diverged, whether its inputs are finite.
        """
        if info.get("status") == "diverged" and world_size() == 1:
            return DatasetInfo(nonfinite_batches=list(self.nonfinite_batches()))
        if info.get("status") != "finished" or len(view.task.parts) > 1 or world_size() > 1:
            return DatasetInfo()
        measured, found = self.measure_validation(), DatasetInfo()
        if self.probe_steps and needs_probe(view.history.rows, info):
            rows, steps = view.history.rows, branch_steps(view.step, self.probe_steps)

            def needed(scores: Probe) -> Needed:
                return needed_branches(rows, {**info, "probe": scores})

            found["probe"] = self.probe(self.initial, steps, needed, self.probe_fraction, measured)
            if needs_changes(found) and measured is not None and measured.confusions is not None:
                found["validation_changes"] = self.changes("validation")
        if measured is not None and measured.confusions is not None:
            found["confusions"] = measured.confusions
        return found

    def on_fit_end(self, view: RunView, result: Result) -> Contribution:
        difference = split_difference(view, result, self.changes)
        limit = MAX_NEAR_SUSPECTED if "pixels" in difference else MAX_NEAR
        self.dataset_info = {**self.dataset_info, **difference, **self._suspects(view, limit)}
        typed = [] if view.folder is None else read_overrides(view.folder)
        ended = DatasetInfo(status=result.get("status", "failed"), stop_reason=result.get("stop_reason", "failed"))
        info: DatasetInfo = {**self.dataset_info, **ended}
        self.dataset_info = info = {**info, **self._measured(view, info)}
        findings = [
            finding.as_dict() for finding in diagnose(view.history.rows, self.snapshots(), {**info, "typed": typed})
        ]
        if view.folder is not None:
            write_json(view.folder / "dataset_info.json", info)
            write_json(view.folder / "findings.json", findings)
            text = "\n\n".join(map(finding_in_markdown, findings)) or "no findings"
            self.events().add_text("diagnosis", text, view.step)
        return {"findings": findings}


def split_difference(view: RunView, result: Result, changes: Changes) -> DatasetInfo:
    """The accuracies on validation and test images; where they differ also the statistics of both, and what would change it."""
    scores = {"validation": result.get("validation"), "test": result.get("test")}
    found = {
        name: value for name, own in scores.items() if own is not None and (value := own.get("accuracy")) is not None
    }
    loaders = {name: loader for name, loader in view.loaders.items() if name in found}
    part = view.task.parts[0]
    if len(found) < 2 or len(view.task.parts) > 1 or part.spec.kind != "classification":
        return DatasetInfo()
    info = DatasetInfo(accuracies=found, test_fractions=class_fractions(view, loaders["test"]))
    if not part.spec.masked and differ(found, {name: loader.num_images for name, loader in loaders.items()}):
        info["pixels"] = {name: split_pixels(view, loader) for name, loader in loaders.items()}
        if world_size() == 1:
            info["changes"] = changes("test")
    return info


def split_pixels(view: RunView, loader: Loader) -> SplitPixels:
    """The statistics of the first images of a split, and the frequencies of all its classes."""
    x, _ = next(loader.batches(0))
    std, differences = float(x.std(correction=0)), x.diff(dim=-1).abs()
    roughness = float(differences.mean()) / max(std, 1e-9) if differences.numel() else 0.0
    pixels = SplitPixels(
        mean=float(x.mean()), std=std, roughness=roughness, class_fractions=class_fractions(view, loader)
    )
    if x.shape[1] > 1:
        pixels["channel_means"] = [float(channel.mean()) for channel in x.unbind(1)]
        raw = x * x.new_tensor(view.info.std).view(1, -1, 1, 1) + x.new_tensor(view.info.mean).view(1, -1, 1, 1)
        pixels["color"] = float((raw - raw.mean(1, keepdim=True)).abs().mean() / raw.std(correction=0).clamp(min=1e-9))
    return pixels


def class_fractions(view: RunView, loader: Loader) -> list[float]:
    """The frequencies of the classes of a single task in the images of a split that have a label."""
    part = view.task.parts[0]
    labels = loader.dataset.target(part.spec.target)
    counts = np.bincount(labels[labels >= 0], minlength=part.size)
    return (counts / max(counts.sum(), 1)).tolist()


def fingerprints_of(view: RunView) -> Fingerprints:
    """The fingerprints of the images of a run."""
    return Fingerprints({name: loader.dataset for name, loader in view.loaders.items()})


def dataset_info(view: RunView, prints: Fingerprints | None = None) -> DatasetInfo:
    """What the diagnosis knows about data and config."""
    prints = prints or fingerprints_of(view)
    config = view.info.config
    regularizers = config.get("regularizer")
    mixing = [
        name
        for name in ("mixup", "cutmix", "mixup_or_cutmix", "label_smoothing")
        if isinstance(regularizers, dict) and name in regularizers
    ]
    tasks = [task_info(view, part) for part in view.task.parts]
    several = len(tasks) > 1
    info = DatasetInfo(
        tasks=tasks,
        learns_weights=view.task.learns_weights,
        train=view.train.num_images,
        duplicates=prints.across_splits(),
        contradictory=prints.contradictory(),
        compared={"images": sum(map(len, prints.parts.values())), "exact": prints.compared, "near": 0},
        batch_size=view.train.batch_size,
        steps_per_epoch=len(view.train),
        parameters=count_parameters(view.model),
        lr=view.lr_option,
        pretrained=bool(value_at(config, "architecture", "weights")),
        other_normalization=OTHER_NORMALIZATION in view.notes,
        dropped_colors=DROPPED_COLORS in view.notes,
        mixed=bool(mixing),
        metric=view.metric,
        config={key: value for key, value in config.items() if key not in NOT_ADVISED},
    )
    if not several:
        info = cast(DatasetInfo, {**tasks[0], **info})
    if several:
        weights = [part.spec.weight for part in view.task.parts]
        info["guessing_loss"] = sum(w * task.get("guessing_loss", 0.0) for w, task in zip(weights, tasks, strict=True))
        info["kind"] = "several"
    if (repeated := prints.most_repeated()) is not None:
        info["repeated"], info["different"] = repeated, prints.different()
    if view.validation is not None:
        info["validation"] = view.validation.num_images
    if view.test is not None:
        info["test"] = view.test.num_images
    return info
