"""Train image classifiers from composable configs: ``train optimizer=adam schedule=clr``."""

import sys

if not sys.flags.safe_path and getattr(sys, "argv", [""])[0] == "-m":
    # `python -m trainer` would import everything from the working directory first: a file yaml.py among somebody's images
    # would run. Nothing is imported before this line. Where the package itself lies there, the directory comes last.
    here = sys.path.pop(0)
    if __file__.startswith(here):
        sys.path.append(here)
    del here

TYPE_CHECKING = False  # as type checkers know it; the module typing would have to be imported
if TYPE_CHECKING:
    from trainer.api import FinishedRun, Predictor, build, evaluate, fit, load_config, load_run
    from trainer.trust import allow

__version__ = "0.1.0"
__all__ = ["FinishedRun", "Predictor", "allow", "build", "evaluate", "fit", "load_config", "load_run"]


def __getattr__(name: str) -> object:
    """Import the Python API at first use, so that the command line answers without torch."""
    if name not in __all__:
        raise AttributeError(f"module 'trainer' has no attribute {name!r}")
    from trainer import api

    return getattr(api, name)
