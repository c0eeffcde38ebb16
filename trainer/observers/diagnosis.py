"""The diagnosis of a run during training and at its end; ``trainer.analysis.diagnosis`` makes it."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np

from trainer.analysis.diagnosis import diagnose, urgent
from trainer.data.images import ImageArray, ImageFiles
from trainer.data.sources import length
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.errors import quoted
from trainer.formats import Contribution, DatasetInfo, FindingContent, Result, Row, Snapshot, value_at
from trainer.literal import code_span, markdown_literal
from trainer.observers.context import Context
from trainer.observers.nonfinite import first_nonfinite
from trainer.observers.options import Diagnosis
from trainer.observers.task_info import task_info
from trainer.run_dir import write_json

MAX_FILES = 20_000  # of a split, whose digests are computed
MAX_BYTES = 2**21  # of a file that is read for its digest
Fingerprint = tuple[int, bytes | str]  # the size of a file, and its digest or path


class DiagnosisObserver(Observer):
    """Adds ``findings`` to the result, writes them to ``findings.json`` and TensorBoard, and alerts to urgent ones at once.

    The loss is checked for NaN and Inf every ``every`` steps. Findings about layers need the observer ``histograms``.
    ``dataset_info.json`` holds what the diagnosis knows about data and config.
    """

    def __init__(self, option: Diagnosis, context: Context) -> None:
        self.every = option.every
        self.statistics, self.writers, self.alert = context.layer_statistics, context.event_writers, context.alert
        self.nonfinite: list[Snapshot] = []  # at most one snapshot, of the step with a NaN or Inf loss
        self.alerted: set[str] = set()
        self.dataset_info: DatasetInfo = {}

    def on_fit_start(self, view: RunView) -> None:
        self.dataset_info = dataset_info(view)
        if view.folder is not None:
            write_json(view.folder / "dataset_info.json", self.dataset_info)

    def on_step_end(self, view: RunView) -> None:
        if view.step % self.every or self.nonfinite or view.loss is None or bool(view.loss.isfinite()):
            return
        self.nonfinite.append({
            "step": view.step, "epoch": view.time, "phase": view.phase.name, "finite": False, "batches": self.every,
            "first_nonfinite": first_nonfinite(view), "weights": [], "activations": [], "batch_loss": None,
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
                self.alert(f"{finding.name}: {finding.evidence}; try {quoted(' or '.join(finding.attempt))}")

    def on_fit_end(self, view: RunView, result: Result) -> Contribution:
        info: DatasetInfo = {**self.dataset_info, "status": result.get("status", "failed")}
        findings = [finding.as_dict() for finding in diagnose(view.history.rows, self.snapshots(), info)]
        if view.folder is not None:
            write_json(view.folder / "dataset_info.json", info)
            write_json(view.folder / "findings.json", findings)
            text = "\n\n".join(map(markdown, findings)) or "no findings"
            self.writers("train").add_text("diagnosis", text, view.step)
        return {"findings": findings}


def markdown(finding: FindingContent) -> str:
    """A finding as a paragraph of Markdown."""
    attempt = f" Try: {', '.join(code_span(quoted(text)) for text in finding['attempt'])}" if finding["attempt"] else ""
    return f"**{finding['name']}** ({finding['kind']}): {markdown_literal(finding['evidence'])}. {finding['meaning']}{attempt}"


def dataset_info(view: RunView) -> DatasetInfo:
    """What the diagnosis knows about data and config."""
    config = view.info.config
    regularizers = config.get("regularizer")
    mixing = [
        name
        for name in ("mixup", "cutmix", "label_smoothing")
        if isinstance(regularizers, dict) and name in regularizers
    ]
    tasks = [task_info(view, part) for part in view.task.parts]
    several = len(tasks) > 1
    info = DatasetInfo(
        tasks=tasks,
        learns_weights=view.task.learns_weights,
        train=view.train.num_images,
        duplicates=duplicates({name: loader.dataset for name, loader in view.loaders.items()}),
        batch_size=view.train.batch_size,
        steps_per_epoch=len(view.train),
        lr=view.lr_option,
        pretrained=bool(value_at(config, "architecture", "weights")),
        mixed=bool(mixing),
        metric=view.metric,
    )
    if not several:
        info = cast(DatasetInfo, {**tasks[0], **info})
    if several:
        weights = [part.spec.weight for part in view.task.parts]
        info["guessing_loss"] = sum(w * task.get("guessing_loss", 0.0) for w, task in zip(weights, tasks, strict=True))
        info["kind"] = "several"
    if view.validation is not None:
        info["validation"] = view.validation.num_images
    if view.test is not None:
        info["test"] = view.test.num_images
    return info


def duplicates(splits: dict[str, ImageArray | ImageFiles]) -> dict[str, int]:
    """How many images of one split are also in another, byte for byte: ``train/validation`` counts validation images."""
    keys = {name: fingerprints(images) for name, images in splits.items()}
    pairs = [("train", "validation"), ("train", "test"), ("validation", "test")]
    sets = {name: set(values) for name, values in keys.items()}
    return {f"{a}/{b}": sum(key in sets[a] for key in keys[b]) for a, b in pairs if a in keys and b in keys}


def fingerprints(images: ImageArray | ImageFiles) -> list[bytes] | list[Fingerprint]:
    """A key per image, equal for equal bytes: a digest; for large files, size and path."""
    if isinstance(images, ImageArray):
        rows = np.ascontiguousarray(images.images).reshape(len(images.images), -1)
        return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    keys: list[Fingerprint] = []
    for path in images.paths[:MAX_FILES]:
        size = length(path)
        small = 0 < size <= MAX_BYTES
        keys.append((size, hashlib.blake2b(path.read_bytes(), digest_size=16).digest() if small else str(path)))
    return keys
