"""How directories and table cells name the training, validation and test split."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Literal

SplitName = Literal["train", "validation", "test"]
SPELLINGS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def split_name(text: str) -> SplitName | None:
    """Return the split that a name stands for, in any case; None if it is not the name of a split.

    >>> split_name("Training"), split_name("VAL"), split_name("glioma")
    ('train', 'validation', None)
    """
    return next((split for split, spellings in SPELLINGS.items() if text.strip().lower() in spellings), None)


def file_split(stem: str, directory: str) -> str | None:
    """Return the split of one of several files, the only one that its name or that of its directory contains as a word.

    >>> file_split("imagenet-train-000012", "shards"), file_split("0000", "test"), file_split("train_test", "data")
    ('train', 'test', None)
    """
    words = {split_name(word): word for word in re.split(r"[-_.\s]+", stem) if split_name(word)}
    if not words and split_name(directory):
        return directory
    return next(iter(words.values())) if len(words) == 1 else None


def class_name(text: str) -> str:
    """Return a class name in Unicode's composed form (NFC): file systems and tables store accents in either form.

    Bytes of a file name that are not UTF-8 are written as escape sequences, so that the name can be stored.

    >>> class_name("e\\u0301clair") == "\\u00e9clair"
    True
    """
    return unicodedata.normalize("NFC", os.fsencode(text).decode(errors="backslashreplace"))
