"""The settings of a run that a table of runs shows, such as the HPARAMS tab of TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.analysis.comparison import NOT_SETTINGS, OptionName, Settings, class_name, flatten
from trainer.formats import JsonObject

# By which runs are usually compared; all other settings are shown where a command sets them.
USUAL = ("data", "architecture", "optimizer", "optimizer.lr", "schedule", "batch_size", "epochs", "seed")


def hyperparameters(tree: JsonObject, set_keys: Sequence[str], option_name: OptionName = class_name) -> Settings:
    """Return the settings of a run by dotted key: first what its command sets, then ``USUAL``; other defaults are left out.

    The value of a group is the name of its option, of a list group the names of its options.

    Args:
        tree: The config as plain values.
        set_keys: The keys and groups that the command sets.
        option_name: Returns the name of the option that the node of a group describes.

    >>> optimizer = {"_target_": "trainer.optimizers.Adam", "lr": 0.1, "eps": 1e-08, "beta1": 0.9}
    >>> schedule = {"warmup": {"_target_": "trainer.schedules.Warmup", "epochs": 1.0}}
    >>> hyperparameters({"seed": 3, "optimizer": optimizer, "schedule": schedule}, ["optimizer.beta1", "seed"])
    {'optimizer.beta1': 0.9, 'seed': 3, 'optimizer': 'Adam', 'optimizer.lr': 0.1, 'schedule': 'warmup'}
    """
    settings: Settings = {}
    for key, value in tree.items():
        if key in NOT_SETTINGS:
            continue
        settings |= flatten({key: value}, option_name=option_name)
        if isinstance(value, dict) and "_target_" not in value:
            settings[key] = ", ".join(value) or "none"
    tables = [key for key in set_keys if "." in key]  # what a table sets has keys of its own
    first = [key for key in set_keys if key in settings]
    first += [name for key in tables for name in settings if name.startswith(f"{key}.")]
    return {name: settings[name] for name in (*first, *USUAL) if name in settings}
