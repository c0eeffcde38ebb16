"""The penultimate layer in two dimensions: which images the network finds similar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from trainer.architectures.layers import Parallel, find_head
from trainer.engine.view import RunView
from trainer.files import atomic_path, write_text
from trainer.literal import printable
from trainer.observers.predicted import Predicted
from trainer.report.plots import Plot
from trainer.tasks.part import Part

THUMBNAIL = 32  # pixels of an image in TensorBoard's projector
CONFIG = """embeddings {
  tensor_name: "penultimate layer"
  tensor_path: "embedding/tensors.tsv"
  metadata_path: "embedding/metadata.tsv"
  sprite { image_path: "embedding/images.png" single_image_dim: %d single_image_dim: %d }
}
"""


class Embedded:
    """What enters the last layer of a network for the first images of a split, and their targets.

    Args:
        count: How many images; 0 = none.
    """

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0
        self.features: list[Tensor] = []
        self.images: list[Tensor] = []
        self.values: list[Tensor] = []
        self.part: Part | None = None

    @property
    def complete(self) -> bool:
        """Whether there is something to draw: features of at least three images, all finite."""
        sizes = [len(values) for values in self.features]
        finite = all(bool(f.isfinite().all()) for f in self.features)
        return finite and sum(sizes) >= 3 and sizes == [len(v) for v in self.values]

    @contextmanager
    def collecting(self, model: nn.Module) -> Iterator[None]:
        """Collect the features of the images that a network is called with; of several networks side by side, none."""
        layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        if not self.count or isinstance(model, Parallel) or not layers:
            yield
            return

        def note(_: nn.Module, inputs: Sequence[Tensor]) -> None:
            if self.seen < self.count:
                values = inputs[0].detach()[: self.count - self.seen].float()
                self.features.append((values.mean((2, 3)) if values.ndim == 4 else values.flatten(1)).cpu())

        handle = find_head(model)[1].register_forward_pre_hook(note)
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            handle.remove()

    def add(self, x: Tensor, outputs: Tensor, y: Tensor, predicted: Predicted) -> None:
        """Add the images and targets of the batch that the network was called with."""
        if not self.features or self.seen >= self.count:
            return
        self.part, count = predicted.part, self.count - self.seen
        _, targets, mask = self.part.select(outputs, y)
        values = targets.argmax(1) if self.part.has_classes else targets[:, 0]
        if mask is not None:
            values = torch.where(mask[:, 0], values, -1 if self.part.has_classes else torch.nan)
        self.images.append(x[:count].cpu())
        self.values.append(values[:count].cpu())
        self.seen += len(self.images[-1])

    def plot(self, method: str) -> Plot:
        """The images as points."""
        features, values = torch.cat(self.features).double().numpy(), torch.cat(self.values).numpy()
        assert self.part is not None
        classes = self.part.classes if self.part.has_classes else ()
        if method == "umap":
            return Plot("embedding", points=umap(features), values=values, classes=classes, names=("UMAP 1", "UMAP 2"))
        points, fractions = principal_components(features)
        names = [f"principal component {i + 1}, {100 * f:.0f} % of the variance" for i, f in enumerate(fractions)]
        return Plot("embedding", points=points, values=values, classes=classes, names=names)

    def write_projector(self, view: RunView) -> None:
        """Write features, labels and images for TensorBoard's projector, in place of those that were there."""
        assert view.folder is not None
        assert self.part is not None
        folder, images = view.folder / "embedding", view.info.denormalized(torch.cat(self.images))
        features = torch.cat(self.features)
        form = "\t".join(["%.4g"] * features.shape[1])
        write_text(folder / "tensors.tsv", "\n".join(form % tuple(row) for row in features.tolist()) + "\n")
        classes, values = self.part.classes, torch.cat(self.values).tolist()
        names = [
            (printable(classes[int(v)]) if v >= 0 else "?") if self.part.has_classes else f"{v:.4g}" for v in values
        ]
        write_text(folder / "metadata.tsv", "\n".join(name.replace("\t", " ") or "?" for name in names) + "\n")
        with atomic_path(folder / "images.png") as temporary:
            temporary.write_bytes(cv2.imencode(".png", sprite(images)[..., ::-1])[1].tobytes())
        write_text(folder.parent / "projector_config.pbtxt", CONFIG % (THUMBNAIL, THUMBNAIL))


def sprite(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) in [0, 1] as thumbnails in a square of rows: uint8 (S, S, 3).

    >>> sprite(np.ones((5, 8, 8, 1))).shape
    (96, 96, 3)
    """
    side = int(np.ceil(len(images) ** 0.5))
    sheet = np.zeros((side * THUMBNAIL, side * THUMBNAIL, 3), np.uint8)
    for i, image in enumerate(images):
        small = cv2.resize(image.astype(np.float32), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        y, x = (THUMBNAIL * v for v in divmod(i, side))
        color = np.broadcast_to(small.reshape(THUMBNAIL, THUMBNAIL, -1), (THUMBNAIL, THUMBNAIL, 3))
        sheet[y : y + THUMBNAIL, x : x + THUMBNAIL] = (255 * color).round()
    return sheet


def principal_components(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project features (N, D) onto their first two principal components (N, 2); and the fraction of the variance of each.

    The sign of a component is that which makes its largest weight positive. Of a single feature the second component is 0.

    >>> points, fractions = principal_components(np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]))
    >>> points.round(2)[:, 0].tolist(), (fractions.round(2) + 0.0).tolist()
    ([-2.24, 0.0, 2.24], [1.0, 0.0])
    """
    centered = features - features.mean(0)
    _, singular, directions = np.linalg.svd(centered, full_matrices=False)
    found = min(2, len(directions))
    axes, variances = np.zeros((2, features.shape[1])), np.zeros(2)
    axes[:found], variances[:found] = directions[:found], singular[:found] ** 2
    axes *= np.where(axes[np.arange(2), np.abs(axes).argmax(1)] < 0, -1, 1)[:, None]
    return centered @ axes.T, variances / max(float((singular**2).sum()), 1e-300)


def umap(features: np.ndarray) -> np.ndarray:
    """Project features (N, D) to two dimensions by UMAP (McInnes et al. 2018, arXiv:1802.03426), always with the same seed."""
    neighbors = min(15, len(features) - 1)
    return np.asarray(import_module("umap").UMAP(n_neighbors=neighbors, random_state=0).fit_transform(features))
