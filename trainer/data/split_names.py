"""How directories and table cells name the training, validation and test split."""

from __future__ import annotations

import os
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


def class_name(text: str) -> str:
    """Return a class name in Unicode's composed form (NFC): file systems and tables store accents in either form.

    Bytes of a file name that are not UTF-8 are written as escape sequences, so that the name can be stored.

    >>> class_name("e\\u0301clair") == "\\u00e9clair"
    True
    """
    return unicodedata.normalize("NFC", os.fsencode(text).decode(errors="backslashreplace"))
