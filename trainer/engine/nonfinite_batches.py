"""Whether training images are NaN or Inf when the network gets them."""

from __future__ import annotations

import contextlib
from itertools import islice

from trainer.engine.lr_range_test import restored
from trainer.engine.run import Run

LIMIT = 500  # batches that are examined, at most


def nonfinite_batches(run: Run) -> tuple[int, int]:
    """Return how many training batches of an epoch hold NaN or Inf after augmentation and regularizers, and of how many.

    At most ``LIMIT`` are examined; the run is as before.
    """
    wrong = examined = 0
    with restored(run), contextlib.closing(run.train.batches(0)) as batches:
        for x, y in islice(batches, LIMIT):
            images = run.regularizer.batch(x, y)[0] if run.regularizer.acts_on_batch else x
            wrong += not bool(images.isfinite().all())
            examined += 1
    return wrong, examined
