"""The exit codes of ``train``."""

from __future__ import annotations

FINISHED = 0
FAILED = 1
WRONG_COMMAND = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
