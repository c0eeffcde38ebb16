"""Completion in the shell: ``eval "$(train completion bash)"``, and what it completes a word with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.errors import ConfigError, Problem, nearest
from trainer.flags import FLAGS
from trainer.tree import is_table

# Each asks `train complete <word>`, which prints a candidate per line. For bash the sign = ends a word.
SCRIPTS = {
    "bash": """
_train() {
    local word="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n'
    word="${word##* }"
    COMPREPLY=($(train complete "$word"))
    [[ $word == *=* ]] && COMPREPLY=("${COMPREPLY[@]#*=}")
    [[ ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _train train
""",
    "zsh": """
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_train() {
    local -a candidates=("${(@f)$(train complete "$PREFIX")}")
    compadd -S '' -- $candidates || _files
}
compdef _train train
""",
    "fish": """
complete -c train -a '(train complete (commandline -ct))'
""",
}


def completion_script(shells: Sequence[str]) -> str:
    """Return the script that a shell evaluates."""
    if len(shells) != 1 or shells[0] not in SCRIPTS:
        given = " ".join(shells)
        text = f"must be one of {', '.join(SCRIPTS)}"
        raise ConfigError(
            Problem("completion", given, text, nearest(given, SCRIPTS) or 'eval "$(train completion bash)"')
        )
    return SCRIPTS[shells[0]].strip()


def candidates(word: str, files: OptionFiles) -> Iterator[str]:
    """Yield what a word can be completed with: groups and settings, the options of a group, the keys of its options.

    >>> from trainer.config.options import option_files
    >>> files = option_files([])
    >>> list(candidates("optimizer=ada", files)), list(candidates("ep", files))
    (['optimizer=adadelta', 'optimizer=adagrad', 'optimizer=adam', 'optimizer=adam_uncorrected', 'optimizer=adamw'], ['epochs='])
    >>> list(candidates("schedule.warmup.e", files)), list(candidates("optimizer.beta", files))
    (['schedule.warmup.epochs='], ['optimizer.betas='])
    """
    group, sign, _ = word.partition("=")
    if sign:
        found = [f"{group}={option}" for option in files.groups.get(group, ())]
    elif "." in word:
        group = word.partition(".")[0]
        found = sorted(set(_keys(group, files))) if group in (*SINGLE, *LISTS) else []
    elif word.startswith("-"):
        found = list(FLAGS)
    else:
        found = [*(f"{key}=" for key in files.settings), *(f"{group}=" for group in files.groups)]
        found += [f"{word}."] if word in files.groups else []
    yield from (text for text in found if text.startswith(word))


def _keys(group: str, files: OptionFiles) -> Iterator[str]:
    """The keys of the options of a group."""
    for option in files.groups[group]:
        keys = files.keys(group, [option])
        tables = {f"{group}.{name}": value for name, value in keys.items() if group in LISTS and is_table(value)}
        for prefix, below in (tables or {group: keys}).items():
            yield from (f"{prefix}.{name}=" for name in below if not name.startswith("_") and name != "defaults")
