"""What is recorded of a trial that has failed."""

from __future__ import annotations

import traceback
from pathlib import Path

from trainer.errors import ConfigError, is_out_of_memory, memory_text
from trainer.files import write_text
from trainer.search.trial import Outcome


def failure(error: Exception, file: Path) -> Outcome:
    """Return the outcome of a trial that has failed; of what must be a bug, ours or in a class of the user, the traceback is
    written to ``file``.
    """
    if isinstance(error, ConfigError):
        return Outcome("failed", error=str(error))
    if is_out_of_memory(error):
        return Outcome("failed", error=memory_text(error))
    write_text(file, "".join(traceback.format_exception(error)))
    return Outcome("failed", error=f"{type(error).__name__}: {error}")
