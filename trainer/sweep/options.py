"""The settings of a sweep itself, typed as ``sweep.<name>=...`` next to the overrides of its jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.parameters import option


@option
class SweepSettings:
    """What to do in a directory that contains this sweep already. Finished jobs are never run again."""

    resume: Annotated[
        Literal["unfinished", "missing", "never"],
        Field(
            description="jobs to run: unfinished = all that have not finished, failed ones again; missing = failed ones "
            "stay; never = refuse the directory"
        ),
    ] = "unfinished"
