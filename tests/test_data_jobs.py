"""Jobs that train on parts of the data: learning curves against scipy, bias and variance against simulated networks."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import QUIET, result_of
from scipy.optimize import curve_fit

from trainer.analysis.bias_variance import COMPONENTS, decomposition
from trainer.analysis.learning_curve import learning_curve, power_law, sizes_of

TINY = (
    "data=fake", "data.size=8", "data.count=200", "data.num_classes=2", "architecture=mlp", "architecture.widths=[4]",
    "batch_size=32", "epochs=1", "regularizer=[]", QUIET,
)  # fmt: skip
CURVE = ("job=learning_curve", *TINY, "job.sizes=4", "job.seeds=2")
PARTS = ("job=bias_variance", *TINY, "job.sets=2")


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.02, 2.0, 0.5), (0.0, 1.5, 0.35), (0.1, 30.0, 1.2)])
def test_a_power_law_is_recovered_as_by_scipy(floor, scale, exponent):
    sizes = sizes_of(3200, 6)
    noise = np.random.default_rng(0).normal(1, 0.002, 6)
    errors = (floor + scale * np.array(sizes, float) ** -exponent) * noise
    law = power_law(sizes, errors.tolist())

    def model(n: np.ndarray, *parameters: float) -> np.ndarray:
        return parameters[0] + parameters[1] * n ** -parameters[2]

    found, _ = curve_fit(
        model, np.array(sizes, float), errors, p0=(floor, scale, exponent), sigma=errors, bounds=(0, [1, 1e3, 3])
    )
    assert law.at(6400) == pytest.approx(float(model(np.array([6400.0]), *found)[0]), rel=0.02)


def test_the_extrapolation_of_noise_is_uncertain_and_that_of_a_clear_law_is_not():
    sizes, rng = sizes_of(1600, 5), np.random.default_rng(1)
    means = [2.0 * n**-0.5 for n in sizes]
    clear = learning_curve(sizes, [[m * f for f in (0.98, 1.0, 1.02)] for m in means])
    assert clear.worth == "yes"
    assert clear.low < 2.0 * 3200**-0.5 < clear.high
    blurred = learning_curve(sizes, [(m * rng.uniform(0.4, 1.6, 3)).tolist() for m in means])
    assert blurred.high - blurred.low > 3 * (clear.high - clear.low)
    jump = learning_curve(sizes, [[0.5, 0.5], [0.49, 0.5], [0.49, 0.49], [0.48, 0.49], [0.1, 0.11]])
    assert not jump.foreseen
    assert jump.worth == "unclear"


def test_bias_and_variances_are_those_that_networks_were_simulated_with():
    rng = np.random.default_rng(0)
    images, outputs, bias, data, seed = 40, 3, 0.3, 0.2, 0.1
    targets = np.zeros((images, outputs))
    by_set = rng.normal(0, data, (200, 1, images, outputs))
    predictions = targets + bias + by_set + rng.normal(0, seed, (200, 4, images, outputs))
    found = decomposition(predictions, targets)
    expected = {"bias": bias**2, "data": data**2, "seed": seed**2}
    for name in COMPONENTS:
        assert found.components[name].mean == pytest.approx(outputs * expected[name], rel=0.05)
    assert sum(found.components[name].mean for name in COMPONENTS) == pytest.approx(found.error)
    assert (found.largest, found.distinct) == ("bias", True)


def test_targets_that_are_unknown_do_not_count():
    rng = np.random.default_rng(0)
    predictions, targets = rng.normal(size=(3, 2, 10, 2)), np.zeros((10, 2))
    known = np.ones((10, 2), bool)
    known[5:] = False
    targets[5:] = 100
    found, alone = decomposition(predictions, targets, known), decomposition(predictions[:, :, :5], targets[:5])
    assert found.error == pytest.approx(alone.error)
    assert found.components["seed"].half == pytest.approx(alone.components["seed"].half)


def test_a_learning_curve_has_the_scores_of_its_networks(train):
    code, out, err = train(*CURVE, "output=c")
    assert code == 0, err
    rows = list(csv.DictReader(Path("c/learning_curve.csv").read_text().splitlines()))
    sizes = [int(row["images"]) for row in rows]
    assert sizes == [n for n in sizes_of(max(sizes), 4) for _ in range(2)]
    for row in rows:
        network = Path("c") / f"size_{row['images']}_seed_{row['seed']}"
        assert float(row["test_accuracy"]) == result_of(network)["test"]["accuracy"]
    smallest, largest = (json_lines(f"c/size_{n}_seed_0/history.jsonl") for n in (sizes[0], sizes[-1]))
    assert smallest[-1]["step"] == pytest.approx(largest[-1]["step"], abs=2), "all sizes have the same number of steps"
    assert result_of("c")["worth"] in ("yes", "little", "unclear")
    assert "More data" in out or "cannot be told" in out
    assert (Path("c") / "learning_curve.png").is_file()
    code, out, _ = train("resume=c")
    assert (code, out.strip()) == (0, "there is nothing to resume: the learning curve is complete")
    assert (
        "is complete; not used, another output takes them: epochs, seed" in train("resume=c", "epochs=9", "seed=1")[1]
    )


def test_bias_and_variance_are_those_of_the_saved_networks(train):
    code, out, err = train(*PARTS, "output=b")
    assert code == 0, err
    result = result_of("b")
    assert sum(result[name]["value"] for name in COMPONENTS) == pytest.approx(result["error"])
    scores = []
    for folder in sorted(Path("b").glob("set_*")):
        assert train("job=evaluate", f"checkpoint={folder}", "job.split=test", f"output=e/{folder.name}")[0] == 0
        scores.append(1 - result_of(f"e/{folder.name}")["test"]["accuracy"])
    shown = re.search(r"wrong class for ([\d.]+) % of the images", out)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(100 * np.mean(scores), abs=0.006)


@pytest.mark.slow
@pytest.mark.parametrize("command", [CURVE, PARTS], ids=["learning curve", "bias and variance"])
def test_an_interrupted_comparison_continues_and_trains_no_network_twice(command, train, monkeypatch):
    import trainer.jobs.several as several

    trained: list[str] = []

    def counted(run: Any, *arguments: Any, real=several.train_and_evaluate, **named: Any) -> Any:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(run.folder.name)
        return real(run, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(several, "train_and_evaluate", counted)
        assert train(*command, "output=run")[0] == 130
    first = {name: (Path("run") / name / "checkpoints" / "last.pt").read_bytes() for name in trained}
    code, _, err = train(*command, "optimizer.lr=0.3", "output=run")
    assert code == 2
    assert "optimizer.lr" in err
    code, _, err = train(*command, "output=run")
    assert code == 0, err
    assert all((Path("run") / name / "checkpoints" / "last.pt").read_bytes() == old for name, old in first.items())
    assert train(*command, "output=whole")[0] == 0
    ours, theirs = result_of("run"), result_of("whole")
    assert {k: v for k, v in ours.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("job=learning_curve", "job.sizes=12", *TINY), "job.sizes = 12: would begin with"),
        (("job=learning_curve", "job.sizes=2", *TINY), "must be"),
        (("job=bias_variance", "job.fraction=0.01", *TINY), "job.fraction = 0.01: leaves"),
        (("job=bias_variance", "data=mnist5k_multitask", "task=multitask"), "task.main="),
    ],
)
def test_wrong_uses_of_these_jobs_are_errors(overrides, message, train):
    code, _, err = train(*overrides, "output=wrong")
    assert code == 2
    assert message in err
    assert not Path("wrong").exists()


def json_lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
