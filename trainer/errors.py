"""Errors that a user can act on: which key, which value, what is allowed, what to type."""

from __future__ import annotations

import errno
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from trainer.environment import launched_rank
from trainer.literal import printable_lines

GRACE = 2.0  # seconds for rank 0 to print an error: torchrun ends all processes as soon as one has exited
# In errors of torch (its allocators, CUDA, cuBLAS, cuDNN, oneDNN), of C++ and of OpenCV.
NO_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "bad_alloc", "Insufficient memory",
    "Cannot allocate memory",
)  # fmt: skip

SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ESTALE}
LOST_PEER = ("Connection reset by peer", "Connection closed by peer")  # in errors of gloo


@dataclass(frozen=True)
class Problem:
    """One error in a command or a config."""

    key: str  # dotted, as typed on the command line; empty where no single key is at fault
    value: object  # as typed; None where there is none
    text: str  # what is allowed; a whole sentence where `key` is empty
    hint: str = ""  # the nearest name, or what to type instead
    where: str = ""  # the option file that defines the key

    @property
    def group(self) -> str:
        """The group or setting at fault: the first part of the key."""
        return self.key.partition(".")[0]

    def __str__(self) -> str:
        text = quoted(self.text)
        value = list(cast("tuple[object, ...]", self.value)) if isinstance(self.value, tuple) else self.value
        try:
            place = self.key if value is None else f"{self.key} = {value!r}"
        except ValueError:  # Python does not write integers of more than 4300 digits
            place = f"{self.key} = <an integer of thousands of digits>"
        lines = [f"{place}: {text}" if self.key else text]
        if self.hint:
            lines.append(f"  {quoted(self.hint)}")
        if self.where:
            lines.append(f"  see {self.where}")
        return "\n".join(lines)


class ConfigError(ValueError):
    """All errors of a command or a config; printed without a traceback, exit code 2.

    Of several processes that train together each finds the same errors, and rank 0 prints them; set
    ``of_one_process`` for an error that only one process has met.
    """

    of_one_process = False

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = [p if isinstance(p, Problem) else Problem("", None, p) for p in problems]
        super().__init__("\n".join(map(str, self.problems)))


def print_errors(error: ConfigError) -> None:
    """Print all errors to stderr; of several processes that find the same ones, rank 0 does."""
    if launched_rank() != 0 and not error.of_one_process:
        time.sleep(GRACE)
        return
    if len(error.problems) > 1:
        print(f"{len(error.problems)} errors in the command:", file=sys.stderr)
    print(printable_lines("\n".join(str(problem) for problem in error.problems)), file=sys.stderr)


@contextmanager
def paths_of(words: Sequence[str]) -> Iterator[None]:
    """Answer a path that the system finds too long by the word of the command that holds it.

    >>> with paths_of(["resume=" + 300 * "x"]):
    ...     Path(300 * "x").exists()
    Traceback (most recent call last):
    trainer.errors.ConfigError: resume: the path 'xxxxxxxxxxxx...' is too long: at most 255 bytes for a name, 4095 in all
    """
    try:
        yield
    except OSError as error:
        path = str(error.filename)
        longest = max(Path(path).parts, key=len, default="")
        found = [w for w in words if len(w) > 255 and (longest in w or w.rpartition("=")[2].rstrip("/") in path)]
        if error.errno != errno.ENAMETOOLONG or not found:
            raise
        key, _, value = found[0].rpartition("=")
        text = f"the path '{value[:12]}...' is too long: at most 255 bytes for a name, 4095 in all"
        raise ConfigError(Problem(key, None, text)) from None


def is_of_the_system(error: Exception) -> bool:
    """Whether an error is one of a file, of a disk, or of another process of the run, not a bug.

    >>> is_of_the_system(RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer."))
    True
    >>> is_of_the_system(RuntimeError("size mismatch")), is_of_the_system(OSError(28, "No space left on device"))
    (False, True)
    """
    return (isinstance(error, OSError) and (error.filename is not None or error.errno in SYSTEM)) or _lost_peer(error)


def _lost_peer(error: Exception) -> bool:
    """Whether a process that trains together with this one has ended."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in LOST_PEER)


def print_failure(error: Exception) -> None:
    """Print an error of memory or of the system, and its notes, to stderr; raise any other again, which is a bug."""
    if not is_out_of_memory(error) and not is_of_the_system(error):
        raise error
    text = memory_text(error) if is_out_of_memory(error) else str(error)
    if _lost_peer(error):
        text = f"another process of this run has ended: {first_line(error)}"
    print(*map(printable_lines, (f"error: {text}", *getattr(error, "__notes__", ()))), sep="\n  ", file=sys.stderr)


class WriteError(OSError):
    """A file that cannot be written, such as on a full disk; printed without a traceback, exit code 1."""

    def __init__(self, path: Path, error: OSError | str) -> None:
        reason = error if isinstance(error, str) else error.strerror or str(error)
        super().__init__(None if isinstance(error, str) else error.errno, reason, str(path))
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} cannot be written: {self.reason}"


class OutOfMemory(RuntimeError):
    """Memory that could not be allocated; printed without a traceback, exit code 1.

    Args:
        what: What did not fit.
        reason: The first line of the error of the library that asked for the memory.
        hint: What to do.
        override: What to type with it, if that is known; empty if not.
    """

    def __init__(self, what: str, reason: str, hint: str, override: str = "") -> None:
        self.hint, self.override = hint, override
        super().__init__(f"{what} did not fit ({reason})")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated, on a CPU or a GPU, by whatever library.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    (True, True)
    >>> is_out_of_memory(RuntimeError("size mismatch")), is_out_of_memory(KeyError("out of memory"))
    (False, False)
    """
    if isinstance(error, MemoryError | OutOfMemory) or type(error).__name__ == "OutOfMemoryError":  # that of torch
        return True
    named = isinstance(error, RuntimeError) or type(error).__module__ == "cv2"
    return named and any(text in str(error) for text in NO_MEMORY)


def memory_text(error: BaseException) -> str:
    """Return the error of memory that could not be allocated, with what to do.

    >>> print(memory_text(MemoryError("Unable to allocate 7 GiB")))
    out of memory: Unable to allocate 7 GiB
      a smaller batch_size, data.size, data.limit or network needs less, and so does data.loading=streaming
    """
    hint = "a smaller batch_size, data.size, data.limit or network needs less, and so does data.loading=streaming"
    hint = error.hint if isinstance(error, OutOfMemory) else hint
    return f"out of memory: {memory_reason(error)}\n  {quoted(hint)}"


def memory_reason(error: BaseException) -> str:
    """Return the first line of an error of memory, without the place in torch's source.

    >>> memory_reason(RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"))
    "DefaultCPUAllocator: can't allocate memory"
    """
    return re.sub(r"^\[enforce fail at [^]]*\] (err == 0\. )?", "", first_line(error))


def shrunk_text(micro_batch: int) -> str:
    """Return the statement that a run has used smaller micro-batches than configured."""
    return f"a step did not fit into memory: from then on micro_batch={micro_batch} (engine.on_oom=shrink)"


def check(option: object, **rules: tuple[bool, str]) -> None:
    """Raise a ``ConfigError`` with one problem for each rule that does not hold.

    For rules that involve several parameters; the range of a single one is part of its declaration. Call it in
    ``__post_init__``. The place of the option in the config is put in front of the key later.

    >>> from types import SimpleNamespace
    >>> check(SimpleNamespace(low=2.0, high=1.0), low=(False, "must be less than high"))
    Traceback (most recent call last):
    trainer.errors.ConfigError: low = 2.0: must be less than high
    """
    problems = [Problem(key, getattr(option, key), text) for key, (holds, text) in rules.items() if not holds]
    if problems:
        raise ConfigError(*problems)


def quoted(text: str) -> str:
    """Return a sentence with the overrides in it that have brackets in quotes, as bash, zsh and fish need them.

    >>> quoted("try schedule=[warmup,cosine] or optimizer.lr=0.1")
    "try 'schedule=[warmup,cosine]' or optimizer.lr=0.1"
    """
    return re.sub(r"""(?<![\w.'"])[\w.]+=[\[{(][^\s'"]*[\]})]""", r"'\g<0>'", text)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the most similar of the allowed names as a question, or the empty string.

    >>> nearest("optimzer", ["optimizer", "schedule"])
    "did you mean 'optimizer'?"
    >>> nearest("learning_rate", ["lr", "momentum"])
    "did you mean 'lr'?"
    """
    match = most_similar(name, names)
    return f"did you mean {match!r}?" if match else ""


def most_similar(name: str, names: Iterable[str]) -> str | None:
    """Return the most similar of the allowed names; None where none is similar enough to be meant.

    Similar is a name with few letters mistyped, one that begins with the other or ends with it as a word, and an
    abbreviation by initials.

    >>> most_similar("adm", ["adam", "sgd"]), most_similar("SGD", ["adam", "sgd"]), most_similar("list", ["mnist"])
    ('adam', 'sgd', None)
    >>> most_similar("cos", ["cosine"]), most_similar("workers", ["num_workers"]), most_similar("wd", ["weight_decay"])
    ('cosine', 'num_workers', 'weight_decay')
    """
    lower = {n.lower(): n for n in names}
    name = name.lower()
    close = get_close_matches(name, lower, n=5, cutoff=0.6)
    matches = [n for n in close if edits(name, n) <= max(min(len(name), len(n)) > 1, min(len(name), len(n)) // 3)]
    matches = matches or [n for n in sorted(lower, key=len) if _abbreviates(name, n) or _abbreviates(n, name)]
    return lower[matches[0]] if matches else None


def edits(a: str, b: str) -> int:
    """Return how many letters must be added, removed, replaced, or swapped with the next one, to make one name the other.

    >>> edits("sdg", "sgd"), edits("optimzer", "optimizer"), edits("init", "mnist")
    (1, 1, 2)
    """
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other)))
            if i > 1 < j and letter == b[j - 2] and a[i - 2] == other:
                row[j] = min(row[j], before[j - 2] + 1)
        before, last = last, row
    return last[-1]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has no message.

    A line that ends with a colon, as those of ``load_state_dict``, is completed by the next lines, up to 300 characters.

    >>> first_line(RuntimeError("size mismatch\\n  in layer 3")), first_line(EOFError())
    ('size mismatch', 'EOFError')
    >>> first_line(RuntimeError("Error(s) in loading:\\n\\tMissing key(s): a.\\n\\tUnexpected key(s): b."))
    'Error(s) in loading: Missing key(s): a. Unexpected key(s): b.'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if not lines[0].rstrip().endswith(":"):
        return lines[0]
    text = " ".join(" ".join(lines).split())
    return text if len(text) <= 300 else f"{text[:297]}..."


def _abbreviates(short: str, name: str) -> bool:
    """Whether a name is the beginning, the last words or the initials of another."""
    initials = "".join(word[0] for word in name.split("_") if word)
    return len(short) > 1 and (
        initials == short or name.endswith(f"_{short}") or (len(short) > 2 and name.startswith(short))
    )
