"""Data sets of the user as options of the config: arrays, directories, tables."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from trainer.data.label_columns import label_columns
from trainer.data.options import Dataset, FileDataset, ResizedSize, WithoutTestSplit
from trainer.data.splits import RawSplits
from trainer.data.targets import Known
from trainer.existing import Existing
from trainer.parameters import implemented_by, option


@option
class OwnData(Dataset):
    """Data of the user, which may be new to a trained network."""

    @property
    def place(self) -> dict[str, str | None]:
        """Where the data is, by key."""
        return {key: vars(self).get(key) for key in ("path", "root")}

    def read_known(self, known: Known) -> RawSplits:
        """Read data for a network that knows some classes: see ``trainer.data.load.load_known``."""
        raise NotImplementedError


@option
class Arrays(OwnData):
    """An ``.npz`` file with x_train, y_train and, optionally, x_test, y_test.

    The images are uint8 (N, H, W) or (N, H, W, C). What y is follows from its dtype and shape: integers (N,) from 0 on are
    classes, integers or bool (N, K) of zeros and ones are labels (``task=multilabel``), floating-point numbers (N,) or (N, T)
    are numbers (``task=regression``). For several targets there is one pair of arrays each, y_<name>_train and
    y_<name>_test, and <name> is the name of the target. NaN, or -1 of integers, stands for a missing value; classes can be
    missing where there are several targets. y_names or y_<name>_names (K,) name the classes, labels or numbers, which are
    numbered otherwise. A file written by ``numpy.savez`` is memory-mapped; one written by ``numpy.savez_compressed`` is read
    into memory.
    """

    path: Annotated[
        str,
        Field(
            description=".npz file with x_train, y_train, x_test, y_test; x is uint8 (N, H, W) or (N, H, W, C); of several"
            " targets y_<name>_train, y_<name>_test"
        ),
        Existing("file"),
    ]
    read = implemented_by("trainer.data.npz:read_npz")
    read_known = implemented_by("trainer.data.npz:read_npz")


@option
class OwnImages(FileDataset, WithoutTestSplit, OwnData):
    """Images of the user."""

    size: ResizedSize = 64
    channels: Annotated[Literal[1, 3], Field(description="1 = grayscale, 3 = RGB")] = 3


@option
class Folder(OwnImages):
    """Image files in one directory per class, or in such directories below train, val and test.

    Names of splits are recognized in any case: train, training; val, valid, validation, dev; test, testing. A directory that
    can be read in two ways is refused, with both. Images are recognized by the ending of their names (.jpg, .png, .tif, .gif,
    .webp, .avif and others); hidden directories are left out; linked ones are followed once. Directories within a class
    belong to it. ``root`` may be an uncompressed tar archive of such a directory, made by ``tar -cf images.tar -C images .``:
    its images are read at random from where they lie in it.
    """

    root: Annotated[
        str,
        Field(
            description="directory with one directory per class, or with such directories in train, val and test; or a .tar"
            " archive of it"
        ),
        Existing("directory"),
    ]
    splits: Annotated[
        Literal["auto", "none"] | dict[Literal["train", "validation", "test"], str],
        Field(
            description="auto = recognized by their names, none = each directory is a class, {train: path, test: path} ="
            " directories relative to root"
        ),
    ] = "auto"
    read = implemented_by("trainer.data.folder:read_folder")
    read_known = implemented_by("trainer.data.folder:read_folder")


@option
class Table(OwnImages):
    """Images in a table with one row per image and one or several columns of labels.

    The table is a CSV, TSV or Parquet file with the paths of image files, or it holds the images themselves: a data set of
    Hugging Face ``datasets``, as ``save_to_disk`` writes it or as Parquet files, or WebDataset shards, uncompressed tar
    archives in which ``0001.jpg`` and ``0001.cls`` or ``0001.json`` are a row. The splits are those of the data set, or the
    word train, val or test in the names of the files. Such images are read at random from where they lie; those in Parquet
    files are copied to $TRAINER_CACHE first.

    ``labels=species`` is a column of class names; they are text, whatever they look like, and are sorted. A row without a
    label is an error, except in the test split, where it is left out. Several targets are a list of such columns,
    ``[species,habitat]``, or a table that gives each its kind, ``{species:classification,weight:regression,tags:multilabel}``:

    - ``classification``: class names
    - ``regression``: numbers; ``{position:{kind:regression,columns:[x,y]}}`` for several
    - ``multilabel``: ``{tags:{kind:multilabel,delimiter:'|'}}`` is a cell of names (by default separated by ``;``),
      ``{attributes:{kind:multilabel,columns:[smiling,male]}}`` are columns of zeros and ones

    An empty cell is a missing value; in a cell of names ``empty:none`` makes it an image without labels. ``classes:[..]``
    lists class names in an order of their own. Random splits keep the classes of the first target that has some in
    proportion. Image paths without their ending are completed if one image file has that name.
    """

    path: Annotated[
        str,
        Field(
            description="table with a header, .csv or .tsv, or one that may hold the images: .parquet, a directory of datasets"
            " (both need trainer[hf]), .tar shards"
        ),
        Existing("file"),
    ]
    images: Annotated[
        str,
        Field(
            description="column with the images or the paths of their files; auto = path, or the only one with images"
        ),
    ] = "auto"
    labels: Annotated[
        str | tuple[str, ...] | dict[str, Any],
        Field(description="column with the class of each image, a list of them, or a kind or columns for each target"),
    ] = "label"
    split: Annotated[
        str,
        Field(
            description="column that says train, val or test; auto = the splits of the data set, else the column named split,"
            " if there is one; none = all rows are split at random"
        ),
    ] = "auto"
    root: Annotated[
        str | None,
        Field(description="folder that image paths are relative to; null = that of the table"),
        Existing("directory"),
    ] = None
    read = implemented_by("trainer.data.table:read")
    read_known = implemented_by("trainer.data.table:read")

    def __post_init__(self) -> None:
        label_columns(self.labels)
