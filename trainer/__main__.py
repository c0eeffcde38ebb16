"""``python -m trainer`` is ``train``."""

import sys

from trainer.exit_codes import INTERRUPTED


def main() -> int:
    """Run ``train``; return the exit code. Ctrl-C may also come while the program is loaded."""
    try:
        from trainer.cli import main as program
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    return program()


if __name__ == "__main__":
    sys.exit(main())
