"""Train image classifiers from composable configs: ``train optimizer=adam schedule=clr``."""

__version__ = "0.1.0"
