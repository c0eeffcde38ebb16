"""Commands that are words: ``train new-option``, and those of completion in the shell."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.completion import candidates, completion_script
from trainer.config.options import option_files
from trainer.skeletons import new_option


def run_command(arguments: Sequence[str]) -> None:
    """Run ``new-option <group> <name>``, ``completion <shell>`` or ``complete <word>``."""
    command, rest = arguments[0], arguments[1:]
    if command == "new-option":
        new_option(rest)
    elif command == "completion":
        print(completion_script(rest))
    else:
        print("\n".join(candidates(rest[0] if rest else "", option_files([]))))
