"""The parameters of all jobs; each job is implemented in the module of the same name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.augmentation.transforms import TTA
from trainer.config.schema import Job
from trainer.errors import ConfigError, Problem, check
from trainer.jobs import run_paths
from trainer.jobs.push import problems as push_problems
from trainer.parameters import NonNegativeInt, PositiveFloat, PositiveInt, implemented_by, option
from trainer.run_dir import find_run_dirs

if TYPE_CHECKING:
    from trainer.config.schema import Config

ONNX = ("onnx", "onnxruntime", "onnxscript")  # the extra trainer[export]
Prefer = Annotated[
    Literal["best", "last"],
    Field(description="checkpoint of a run directory to use: the one with the best metric, or the last"),
]
Weights = Annotated[
    Literal["auto", "model", "averaged"],
    Field(description="weights of the checkpoint to use; auto = averaged if at least as good by the metric of the run"),
]
MirrorTTA = Annotated[
    TTA,
    Field(
        description="test-time augmentation: average the logits over the image and its mirror image (mirror), also over "
        "both shifted by a pixel (mirror_shift)"
    ),
]


@option
class Fit(Job):
    """Train to the end, to an early stop, or to an interruption, then evaluate the best weights on the test images, as they
    are or with test-time augmentation (``tta``). Validation images are never augmented.

    The plots of the report are drawn at the end; they take half a second, so that those of the jobs of a sweep are left to
    ``job=report``, but for the best one.
    """

    trains: ClassVar[bool] = True
    tta: MirrorTTA = "none"
    plots: Annotated[
        Literal["auto", "now", "later"],
        Field(
            description="when the plots are drawn: at the end of the run (now), or by job=report (later); auto = now, in a "
            "sweep later"
        ),
    ] = "auto"

    __call__ = implemented_by("trainer.jobs.fit:fit")


@option
class Evaluate(Job):
    """The loss and all metrics of ``checkpoint`` on ``split``. The images are normalized as in its training.

    Of classes, also top-k accuracy, calibration, a table per class, the confusion matrix and the errors with the highest loss;
    of labels, a table per label with its threshold and the images with the highest loss; of numbers, the errors per number,
    predicted against true values and the images with the largest errors. Images without a label do not count.

    Writes ``result.json`` and plots; the names of several tasks are prefixes of metrics and plots. With ``task.main`` only the
    main task is evaluated.
    """

    needs_checkpoint: ClassVar[bool] = True
    split: Annotated[
        Literal["auto", "train", "validation", "test", "all"],
        Field(description="split to evaluate on; auto = test if the data has one, else validation"),
    ] = "auto"
    prefer: Prefer = "best"
    weights: Weights = "auto"
    fuse: Annotated[
        bool, Field(description="fold batch norm into the preceding layers: faster, equal up to rounding")
    ] = False
    tta: MirrorTTA = "none"
    top: Annotated[PositiveInt, Field(description="k of the top-k accuracy, of tasks with more than k classes")] = 5
    worst: Annotated[
        NonNegativeInt, Field(description="number of errors with the highest loss to draw and list, per task; 0 = none")
    ] = 24

    __call__ = implemented_by("trainer.jobs.evaluate.run:evaluate")


@option
class Predict(Job):
    """What the network predicts for each of ``images``: files, directories (searched recursively), globs, or ``-`` for one path
    per line from standard input.

    A row holds the ``top`` most probable classes with their probabilities; of labels, those whose probability reaches their
    threshold (separated by ``;``) and the probability of each; numbers in original units. The names of several tasks are
    prefixes of the columns; with ``task.main`` only the main task predicts.

    Rows go to standard output and to ``predictions.csv`` (or ``.jsonl``). Files that are not images are reported on
    standard error and skipped. Exit code 1 if no image could be read.
    """

    needs_checkpoint: ClassVar[bool] = True
    reads_data: ClassVar[bool] = False
    images: Annotated[
        tuple[str, ...] | str | None,
        Field(
            description="file, directory, glob, list [a,b] of these, or - for paths from standard input; must be given"
        ),
    ] = None
    format: Annotated[Literal["csv", "jsonl"], Field(description="jsonl = one JSON object per line")] = "csv"
    top: Annotated[PositiveInt, Field(description="number of most probable classes per image")] = 1
    prefer: Prefer = "best"
    weights: Weights = "auto"
    tta: MirrorTTA = "none"

    own_problems = implemented_by("trainer.jobs.image_paths:problems")
    __call__ = implemented_by("trainer.jobs.predict:predict")


@option
class Export(Job):
    """Write ``model.onnx`` or ``model.pt2`` (torch.export) of ``checkpoint``: uint8 images (N, C, H, W) in; out come
    probabilities (N, K) of classes or labels, or numbers in original units. Class names, image size and color format are
    stored in the file.

    The output of a single task is called ``probabilities`` or ``numbers``, the outputs of several are called like the tasks;
    ``tasks`` in the file describes them, with the thresholds of labels. With ``task.main`` the file holds the main task only.

    The file is read back and run on real images; the job fails if a probability, or a number in standard deviations of the
    training images, differs from the network's by more than ``tolerance``. ``README.md`` is its model card: scores, input and
    output, how to run it. ``push`` uploads both to the Hugging Face hub.
    """

    needs_checkpoint: ClassVar[bool] = True
    reads_data: ClassVar[bool] = False
    format: Annotated[
        Literal["onnx", "torch", "both"],
        Field(description="onnx needs pip install 'trainer[export]'; torch = torch.export, model.pt2"),
    ] = "onnx"
    fuse: Annotated[bool, Field(description="fold batch norm into the preceding layers")] = True
    images: Annotated[
        int, Field(ge=2, description="number of images of the data on which the exported file is verified")
    ] = 16
    tolerance: Annotated[
        PositiveFloat,
        Field(description="maximum allowed difference of a probability, or of a number in standard deviations"),
    ] = 1e-4
    prefer: Prefer = "best"
    weights: Weights = "auto"
    push: Annotated[
        str | None,
        Field(
            description="repository <owner>/<name> of the Hugging Face hub that gets the files, after `hf auth login`; "
            "needs pip install 'trainer[hf]'; null = none"
        ),
    ] = None
    private: Annotated[bool, Field(description="whether a repository that push creates is private")] = True

    def own_problems(self) -> list[Problem]:
        lacking = [name for name in ONNX if find_spec(name) is None] if self.format != "torch" else []
        hint = "pip install 'trainer[export]', or job.format=torch"
        return [
            *push_problems(self.push),
            *(Problem("job.format", self.format, f"needs {n}", hint) for n in lacking[:1]),
        ]

    __call__ = implemented_by("trainer.jobs.export:export")


@option
class Compare(Job):
    """Group the runs ``runs`` by config, ignoring the seed; write each group's mean ``score`` with its t-based confidence
    interval and the effect of each varied key to ``compare.md``, ``compare.png`` and ``compare.csv``.
    """

    reads: ClassVar[tuple[str, ...]] = ("runs",)
    reads_data: ClassVar[bool] = False
    score: Annotated[
        str,
        Field(
            description="dotted key of result.json such as test.accuracy, last.validation.loss; auto = the metric of the runs "
            "on test images, else on validation images"
        ),
    ] = "auto"
    confidence: Annotated[float, Field(gt=0, lt=1, description="confidence level of the intervals")] = 0.95

    __call__ = implemented_by("trainer.jobs.compare:compare")

    def problems(self, config: Config) -> list[Problem]:
        return run_paths.problems(config.runs)


@option
class Report(Job):
    """Write ``report.md``, ``report.html`` and their plots into the run directory ``run``, also of a run that was killed, or
    whose plots were left for later; of a sweep, into those of all its jobs.
    """

    reads: ClassVar[tuple[str, ...]] = ("run",)
    reads_data: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False  # it writes into another directory
    __call__ = implemented_by("trainer.jobs.report:report")

    def problems(self, config: Config) -> list[Problem]:
        try:
            find_run_dirs("run", config.run)
        except ConfigError as error:
            return list(error.problems)
        return []


@option
class Plan(Job):
    """Build everything and train nothing: number of steps, layers and their parameters, FLOPs, memory, the schedule as a plot,
    and the first ``images`` images before and after augmentation.
    """

    images: Annotated[
        PositiveInt, Field(description="number of images of the first batch to draw, before and after augmentation")
    ] = 8

    __call__ = implemented_by("trainer.jobs.plan:plan")


@option
class RangeTest(Job):
    """LR range test (Smith 2015, arXiv:1506.01186): train ``steps`` batches while the learning rate rises from ``start`` to
    ``stop``, each parameter group keeping its own ratio.

    The loss curve is in ``range_test.png``, ``range_test.json`` and TensorBoard; bounds for CLR, a peak for one-cycle and
    a constant learning rate are printed as overrides. Exit code 1 if the loss does not fall at any learning rate.
    ``optimizer.lr=auto`` and ``schedule.clr.floor=auto`` run the same test.
    """

    keeps_auto_keys: ClassVar[bool] = True
    start: Annotated[PositiveFloat, Field(description="lowest learning rate")] = 1e-6
    stop: Annotated[
        PositiveFloat, Field(description="highest learning rate, > start; the test ends earlier if the loss explodes")
    ] = 10.0
    # At most 5000, because the curve is smoothed by a matrix with a row and a column per step.
    steps: Annotated[int, Field(ge=20, le=5000, description="number of batches, one per learning rate")] = 150
    scale: Annotated[
        Literal["exponential", "linear"],
        Field(description="spacing of the learning rates: equal factors (exponential) or equal differences (linear)"),
    ] = "exponential"
    smoothing: Annotated[
        float,
        Field(
            ge=0,
            le=0.2,
            description="standard deviation of the Gaussian kernel that smooths the loss, as a fraction of the curve; "
            "0 = off",
        ),
    ] = 0.03

    def __post_init__(self) -> None:
        check(self, stop=(self.stop > self.start, "must be > job.start"))

    __call__ = implemented_by("trainer.jobs.range_test:range_test")


@option
class Doctor(Job):
    """Checks before training: is the initial loss at chance level; can the network overfit ``batches`` mini-batches without
    regularization and augmentation; which learning rates reduce the loss; are activations and gradients of reasonable
    size; is loading fast enough; does a step fit into memory; are there suspicious images or labels. ``suspects.csv`` and
    ``suspects.png`` list exact and near duplicates in two splits or with two labels, and labels that are probably wrong
    (confident learning, Northcutt et al. 2021, arXiv:1911.00068).

    Exit code 1 if a check fails. The trained weights are discarded. Source: Pedersen, "Training Convolutional Neural
    Networks, part 2" (lecture).
    """

    batches: Annotated[
        PositiveInt, Field(description="number of mini-batches that the network has to overfit; 5 to 10 are usual")
    ] = 8
    passes: Annotated[PositiveInt, Field(description="maximum number of epochs over these mini-batches")] = 100
    steps: Annotated[
        int, Field(ge=20, le=10_000, description="number of steps within which a learning rate has to reduce the loss")
    ] = 100
    folds: Annotated[
        Literal[0] | Annotated[int, Field(ge=2)],
        Field(
            description="number of folds in which the network is trained for out-of-fold predictions, which reveal wrong"
            " labels; 0 = a linear classifier makes them"
        ),
    ] = 0

    __call__ = implemented_by("trainer.jobs.doctor.run:doctor")
