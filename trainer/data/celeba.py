"""CelebA (Liu et al. 2015, arXiv:1411.7766) from the files that torchvision reads: attributes, landmarks and people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from trainer.data.images import ImageFiles
from trainer.data.inventory import Inventory, Skipped, shortened
from trainer.data.options import CelebA
from trainer.data.readable import check_readable, image_files
from trainer.data.splits import RawSplits
from trainer.data.stratified import hold_out_test
from trainer.data.targets import Target
from trainer.errors import ConfigError, Problem

IMAGES, PARTITION = "img_align_celeba", "list_eval_partition.txt"
YES_OR_NO = ("no", "yes")
LANDMARKS = tuple(
    f"{name}_{axis}" for name in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
BY_PERSON = "identity is a target with data.splits=random only: the official splits have different people"
SOURCE = "mmlab.ie.cuhk.edu.hk/projects/CelebA.html, or torchvision.datasets.CelebA(root, download=True) with gdown"
NAMED = 5  # files that an error names


class _Values(NamedTuple):
    data: Tensor


class _Dataset(Protocol):
    """What torchvision's data set has: names of the files, and one row for each of them."""

    filename: Sequence[str]
    attr_names: Sequence[str]
    attr: Tensor
    landmarks_align: Tensor
    identity: Tensor

    def _load_csv(self, filename: str) -> _Values: ...


def read_celeba(option: CelebA) -> RawSplits:
    """Read the names and targets of the images; the images themselves are decoded when they are used."""
    base = Path(option.root).expanduser() / datasets.CelebA.base_folder
    check_files(base)
    dataset = cast(_Dataset, datasets.CelebA(str(base.parent), split="all"))
    partition: np.ndarray = dataset._load_csv(PARTITION).data[:, 0].numpy()
    targets, columns = _targets(dataset)
    labels, people = np.zeros(len(partition), np.int64), ()
    if option.splits == "random":
        names, labels = np.unique(dataset.identity[:, 0].numpy(), return_inverse=True)
        people = tuple(map(str, names.tolist()))
        targets, columns["identity"] = (*targets, Target("identity", "classification", people)), labels
    files = image_files(option, [base / IMAGES / name for name in dataset.filename], labels, columns)
    present, skipped = _present(files, base / IMAGES)
    readable, corrupt = check_readable(files.subset(np.flatnonzero(present)), base / IMAGES)
    kept = np.flatnonzero(present)[readable]
    files, partition = files.subset(kept), partition[kept]
    notes = (str(Inventory(len(files), (*skipped, *corrupt))),)
    if option.splits == "random":
        result = hold_out_test(option, files, people)
        return result._replace(notes=(*notes, *result.notes), targets=targets)
    train, validation, test = (files.subset(np.flatnonzero(partition == part)) for part in range(3))
    return RawSplits(train, validation or None, test or None, (), (*notes, BY_PERSON), targets)


def check_files(base: Path) -> None:
    """Refuse a directory without all files that torchvision reads, or with others than the published ones."""
    names = {name: md5 for _, md5, name in datasets.CelebA.file_list if name.endswith(".txt")}
    missing = [name for name in names if not (base / name).is_file()]
    if not (base / IMAGES).is_dir():
        packed = (base / f"{IMAGES}.zip").is_file()
        missing.append(f"{IMAGES}/ (unpack {IMAGES}.zip there)" if packed else f"{IMAGES}/ (from {IMAGES}.zip)")
    if missing:
        text = f"does not contain CelebA: {base} lacks {', '.join(missing)}"
        raise ConfigError(Problem("data.root", str(base.parent), text, f"download them from {SOURCE}"))
    changed = [name for name, md5 in names.items() if not check_integrity(str(base / name), md5)]
    if changed:
        text = f"does not contain CelebA as it was published: the checksum of {', '.join(changed)} differs"
        hint = f"download again from {SOURCE}; a data set of your own in a table: data=table"
        raise ConfigError(Problem("data.root", str(base.parent), text, hint))


def _targets(dataset: _Dataset) -> tuple[tuple[Target, ...], dict[str, np.ndarray]]:
    """The targets of all images, and their values by name."""
    names = tuple(name for name in dataset.attr_names if name)  # lines of the file may end in a space
    attributes = dataset.attr.numpy()
    targets = (
        Target("attributes", "multilabel", names),
        *(Target(name, "classification", YES_OR_NO) for name in names),
        Target("landmarks", "regression", LANDMARKS),
    )
    columns = {name: attributes[:, i] for i, name in enumerate(names)}
    columns |= {"attributes": attributes.astype(np.float32), "landmarks": dataset.landmarks_align.numpy().astype(float)}
    return targets, columns


def _present(files: ImageFiles, directory: Path) -> tuple[np.ndarray, list[Skipped]]:
    """Whether each image file exists, and those that do not; ConfigError about these unless they are to be left out."""
    names = set(os.listdir(directory))
    present = np.array([path.name in names for path in files.paths], bool)
    missing = [path.name for path, there in zip(files.paths, present, strict=True) if not there]
    if missing and files.on_error == "raise":
        text = f"{len(missing):,} of {len(files):,} images are missing: {shortened(missing, NAMED)}"
        hint = f"unpack {IMAGES}.zip again, or leave them out: data.on_error=skip"
        raise ConfigError(Problem("data.root", str(directory), text, hint))
    return present, [Skipped(name, "without a file", named=True) for name in missing]
