"""The option of ``job=search``."""

from __future__ import annotations

from typing import ClassVar

from trainer.config.schema import Job
from trainer.parameters import implemented_by, option
from trainer.search.options import SearchSettings


@option
class Search(SearchSettings, Job):
    """Search hyperparameters in stages, from short trials in the whole space to long ones in a small part of it.

    ``space`` names config keys: ``log(a,b)``, ``uniform(a,b)``, ``int(a,b)``, ``log_int(a,b)``, ``1-log(a,b)`` (log scale
    of 1 − value), ``choice(a,b,...)``, or ``default``; a group takes a choice of its options. Without it, every parameter
    that declares a space is searched. In each stage the config as typed is the first trial. The best ``keep`` of a stage are
    repeated in the next one, whose space is narrowed around them; a space whose best value lies near its border is
    extended. The best of the last stage are repeated with other seeds, the same for all; the best mean wins unless it
    cannot be told from that of the config as typed. ``experiment=<run directory>/best`` trains the winner.

    The same command again continues a search, or helps one that is running. Sources: Tuning Playbook (Google); Pedersen,
    "Training Convolutional Neural Networks, part 2" (lecture), steps 4 to 6.
    """

    continues: ClassVar[bool] = True
    exclusive: ClassVar[bool] = False  # several processes share it

    problems = implemented_by("trainer.search.problems:problems")
    __call__ = implemented_by("trainer.jobs.search:search")
