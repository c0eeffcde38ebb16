"""``python -m trainer`` is ``train``."""

import sys

from trainer.exit_codes import INTERRUPTED

try:  # Ctrl-C may also come while the program is loaded
    from trainer.cli import main
except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
    sys.exit(INTERRUPTED)

if __name__ == "__main__":
    sys.exit(main())
