"""Every option of a group as one sweep on real digits, as a user would try them all."""

from __future__ import annotations

import pytest
from conftest import result_of

# Stochastic depth needs a residual network; what flips is refused on digits, which is what is told.
BESIDE = {"regularizer": ["architecture=resnet20", "architecture.depth=8"]}
FLIPS = {"flip", "vertical_flip", "cifar", "imagenet"}
GROUPS = (
    "optimizer", "schedule", "regularizer", "averaging", "activation", "initialization", "architecture", "augmentation",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_a_sweep_over_a_whole_group_ends_without_a_failure(group, train, tmp_path):
    words = [
        "-m",
        f"{group}=glob(*)",
        "epochs=0.05",
        "data.limit=640",
        "observer=[jsonl]",
        "output=all",
        *BESIDE.get(group, []),
    ]
    code, out, err = train(*words)
    from trainer.compose import CONF, options

    names = set(options([CONF])[group])
    finished = [f.parent for f in tmp_path.glob("all/*/result.json") if result_of(f.parent)["status"] == "finished"]
    done = {folder.name.split(f"{group}=")[1].split(",")[0] for folder in finished}
    refused = FLIPS if group == "augmentation" else set()
    assert done == names - refused, out + err

    assert code == (1 if refused else 0)
    assert (out + err).count("a flip changes the class") >= len(refused)
