"""What the ledger of a search holds, as JSON values."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from trainer.formats import Json, JsonObject

Kind = Literal["log", "uniform", "int", "log_int", "1-log", "choice"]
Origin = Literal["default", "planned", "kept", "extension", "finalist"]


class LimitsRecord(TypedDict):
    """The limits that the declaration of a key sets."""

    low: float
    high: float
    low_open: bool
    high_open: bool


class DistributionRecord(TypedDict):
    """A distribution; ``choices`` is empty unless its kind is ``choice``."""

    kind: Kind
    low: float
    high: float
    choices: list[Json]
    limits: LimitsRecord


class DimensionRecord(TypedDict):
    """A dimension of the space."""

    name: str
    key: str
    distribution: DistributionRecord
    group: str
    option: str


class EntryRecord(TypedDict):
    """A trial to be run; ``point`` is None where a sampler chooses it once the trial begins."""

    index: int
    origin: Origin
    point: JsonObject | None
    seed: int
    candidate: int


class PlanRecord(TypedDict):
    """The plan of a stage, or of an extension of it."""

    space: list[DimensionRecord]
    entries: list[EntryRecord]
    extended: list[str]


class FinalRecord(PlanRecord):
    """The plan of the repetitions, with the points of the finalists and the number of seeds in all."""

    points: list[JsonObject]
    seeds: NotRequired[int]


class Details(TypedDict):
    """What is known of a finished trial besides its score and its learning curve."""

    loss: NotRequired[float]  # on the validation images at the best epoch
    test: NotRequired[dict[str, float]]  # metrics on the test images with the weights of the best epoch
    error: NotRequired[str]


class OutcomeRecord(Details):
    """How a trial ended; that of a trial whose process ended has no curve."""

    state: str
    curve: NotRequired[list[float]]
    epochs: NotRequired[list[float]]
    seconds: NotRequired[float]


class Claim(TypedDict):
    """The worker that runs a trial."""

    worker: str
    place: str  # the directory of the search on one machine
    pid: int
    time: NotRequired[float]  # when it was claimed, in seconds since 1970
