"""The diagnosis of a run while it lasts and at its end: ``trainer.analysis.diagnosis`` finds, this asks and tells."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import check
from trainer.observers import Observer
from trainer.run_dir import write_json

if TYPE_CHECKING:
    from trainer.engine.run import Run


@dataclass
class Diagnosis(Observer):
    """Writes ``facts.json`` at the beginning and ``findings.json`` at the end, puts findings into the result and on TensorBoard;
    what cannot wait, such as a loss that is no number, is said at once. ``every`` is in steps: then the loss is looked at.
    """

    every: int = 50

    def __post_init__(self) -> None:
        check(self, every=(self.every >= 1, "must be >= 1 step"))

    def on_fit_start(self, run: Run) -> None:
        self.said: set[str] = set()
        run.facts.update(dataset_info(run))
        if run.folder is not None:
            write_json(run.folder / "facts.json", run.facts)

    def on_step_end(self, run: Run) -> None:
        if run.clock.step % self.every or "NaN or Inf loss" in self.said or run.loss is None or bool(run.loss.isfinite()):
            return
        from trainer.observers.nonfinite import first_nonfinite

        where = first_nonfinite(run)
        run.snapshots.append({
            "step": run.clock.step, "epoch": run.time, "phase": run.phase.name, "finite": False, "batches": self.every,
            "first_nonfinite": where, "weights": [], "activations": [], "batch_loss": None, "batch_loss_std": None,
            "grad_norm": None,
        })  # fmt: skip
        self._say_urgent(run)

    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None:
        self._say_urgent(run)

    def _say_urgent(self, run: Run) -> None:
        from trainer.analysis.diagnosis import urgent

        for finding in urgent(run.history.rows, run.snapshots, run.facts):
            if finding.name not in self.said:
                self.said.add(finding.name)
                run.news.append(f"{finding.name}: {finding.evidence}; try {' or '.join(finding.attempt)}")

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        from trainer.analysis.diagnosis import diagnose

        facts = run.facts | {"status": result.get("status")}
        findings = [f.as_dict() for f in diagnose(run.history.rows, run.snapshots, facts)]
        result["findings"] = findings
        if run.folder is None:
            return
        write_json(run.folder / "facts.json", facts)
        write_json(run.folder / "findings.json", findings)
        from trainer.observers.event_writer import writer

        text = "\n\n".join(
            f"**{f['name']}** ({f['kind']}): {f['evidence']}. {f['meaning']}"
            + (f" Try: {', '.join(f'`{a}`' for a in f['attempt'])}" if f["attempt"] else "")
            for f in findings
        )
        writer(run, "train").add_text("diagnosis", text or "nothing was found", run.clock.step)


def dataset_info(run: Run) -> dict[str, Any]:
    """What the diagnosis asks about the data and the run."""
    parts = {name: getattr(run, name) for name in ("train", "validation", "test") if getattr(run, name) is not None}
    labels = run.train.pictures.labels  # pyright: ignore[reportAttributeAccessIssue]
    counted = Counter(int(label) for label in labels)
    counts = [counted.get(i, 0) for i in range(len(run.info.classes))]
    shares = [c / max(len(labels), 1) for c in counts]
    tree = run.info.config
    return {
        "classes": list(run.info.classes),
        "class_counts": counts,
        "prior_entropy": -sum(p * math.log(p) for p in shares if p),
        **{name: part.num_images for name, part in parts.items()},
        "duplicates": duplicates({name: part.pictures for name, part in parts.items()}),
        "batch_size": run.train.batch_size,
        "steps_per_epoch": len(run.train),
        "lr": run.optimizer_option.lr,
        "pretrained": bool((tree.get("architecture") or {}).get("weights")),
        "mixed": any(name in ("mixup", "cutmix", "label_smoothing") for name in tree.get("regularizer") or {}),
        "metric": run.metric,
    }


def duplicates(parts: dict[str, Any]) -> dict[str, int]:
    """How many pictures of validation and test are in the training part, byte for byte, and of test in validation."""
    prints = {name: fingerprints(pictures) for name, pictures in parts.items()}
    pairs = [
        (a, b)
        for a, b in (("train", "validation"), ("train", "test"), ("validation", "test"))
        if a in parts and b in parts
    ]
    known = {name: set(found) for name, found in prints.items()}
    return {f"{a}/{b}": sum(p in known[a] for p in prints[b]) for a, b in pairs}


def fingerprints(pictures: Any) -> list[Any]:
    """A key per picture, equal where the bytes are; of files the size and a digest, made only of files up to 2 MB."""
    import hashlib

    import numpy as np

    if hasattr(pictures, "images"):
        flat = np.ascontiguousarray(pictures.images).reshape(len(pictures.images), -1)
        return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in flat]
    found = []
    for path in pictures.paths[:20_000]:
        size = path.stat().st_size if path.is_file() else 0
        small = 0 < size <= 2**21
        found.append(
            (size, hashlib.blake2b(path.read_bytes(), digest_size=16).digest()) if small else (size, str(path))
        )
    return found
