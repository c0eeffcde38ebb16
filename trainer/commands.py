"""Commands that are words: ``train new-option``, ``docs``, ``schema``, and those of completion in the shell."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trainer.completion import candidates, completion_script
from trainer.config.options import option_files
from trainer.editor_schema import editor_schema
from trainer.errors import ConfigError, Problem
from trainer.pages import show_page
from trainer.skeletons import new_option

USAGE = {
    "new-option": "train new-option <group> <name> --dir <directory>     write a first version of an option of your own",
    "docs": "train docs [<page> | <option>]     show a page of the docs, such as train docs optimizer, or list them",
    "schema": "train schema > schema.json     print the JSON schema with which editors complete and check option files",
    "completion": 'eval "$(train completion bash)"     complete words in bash or zsh; in fish: train completion fish | source',
}


def run_command(arguments: Sequence[str]) -> None:
    """Run ``new-option <group> <name>``, ``docs <page>``, ``schema``, ``completion <shell>`` or ``complete <word>``."""
    command, rest = arguments[0], arguments[1:]
    if command in USAGE and {"--help", "-h"} & set(rest):
        print(USAGE[command])
    elif command == "new-option":
        new_option(rest)
    elif command == "completion":
        print(completion_script(rest))
    elif command == "docs":
        show_page(rest, option_files([]))
    elif command == "schema":
        if rest:
            raise ConfigError(Problem("schema", " ".join(rest), "takes no arguments", "train schema > schema.json"))
        print(json.dumps(editor_schema(option_files([]))))
    else:
        print("\n".join(candidates(rest[0] if rest else "", option_files([]))))
