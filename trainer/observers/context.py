"""What the observers of a run share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, Protocol

from trainer.engine.changed_images import accuracies_of_changes
from trainer.engine.nonfinite_batches import nonfinite_batches
from trainer.engine.observer import Observer
from trainer.engine.probes import Needed, initial_weights, probe
from trainer.engine.run import Run
from trainer.engine.state import StateDict
from trainer.engine.used_weights import ValidationMeasures, measure_validation
from trainer.formats import Snapshot
from trainer.measurements import Probe
from trainer.observers.event_writer import LazyEventWriter
from trainer.observers.plots import Plots

Changes = Callable[[Literal["validation", "test"]], dict[str, float]]


class LayerStatistics:
    """Snapshots of the layers, in order of their steps: ``histograms`` adds them, ``diagnosis`` reads them."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []


class Context:
    """What the observers of a run share. It is created once per run and given to each observer when it is built.

    ``alert(text)`` prints an urgent message, ``event_writer()`` is TensorBoard's writer of the run, ``plots`` takes its plots,
    ``layer_statistics`` holds the snapshots of the layers, ``initial_weights()`` are a copy of them, and
    ``measure_validation()`` measures the weights that are used on the validation images, ``probe(initial, steps, needed,
    fraction, measured)`` what tells causes apart after training, ``changes(split)`` what change of the images of a split would
    let them be recognized, ``nonfinite_batches()`` how many training batches hold NaN or Inf; all leave the run as it was.
    """

    def __init__(self, run: Run, draw_later: bool = False) -> None:
        self.alert = run.alert
        self.event_writer = LazyEventWriter(run.folder, run.clock.step, run.alert)
        self.plots = Plots(self.event_writer, draw_later)
        self.layer_statistics = LayerStatistics()
        self.initial_weights = partial(initial_weights, run)
        self.measure_validation = partial(measure_validation, run)
        self.probe: Callable[
            [StateDict | None, int, Callable[[Probe], Needed], float, ValidationMeasures | None], Probe
        ] = partial(probe, run)
        self.nonfinite_batches = partial(nonfinite_batches, run)
        self.changes: Changes = partial(accuracies_of_changes, run)


class ObserverOption(Protocol):
    """An option of the group ``observer``."""

    def build(self, context: Context) -> Observer: ...


def build_observers(options: Iterable[ObserverOption | Observer], context: Context) -> list[Observer]:
    """Build the observers of a run: those that provide statistics first, and last those that read the files of others.

    Otherwise their order does not matter.

    An option that is an observer itself, as a user's own class may be, is taken as it is.
    """
    observers = [option if isinstance(option, Observer) else option.build(context) for option in options]
    return sorted(observers, key=lambda observer: (not observer.provides_statistics, observer.reads_files))
