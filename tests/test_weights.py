"""Weights as people have them are loaded whatever holds them; preprocessing follows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import load
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainer.architectures.options import Timm, Torchvision
from trainer.architectures.state_dicts import fit, why_other_network
from trainer.config.load import load_config
from trainer.data.decode import resize, resize_and_center_crop
from trainer.errors import ConfigError, first_line
from trainer.weight_files import read_weight_file


def network(classes: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, classes))


def ema(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value + 1 for name, value in state.items()}


def with_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


STATE = network().state_dict()
AVERAGED = AveragedModel(network()).state_dict()
FORMS: dict[str, tuple[object, str]] = {
    "bare": (STATE, ""),
    "model": ({"model": STATE, "optimizer": {"state": {0: {"m": torch.ones(4)}}}}, "from model"),
    "state_dict": ({"state_dict": STATE, "epoch": 3}, "from state_dict"),
    "deep": ({"a": {"b": {"net": STATE}}}, "from a.b.net"),
    "data parallel": (with_prefix(STATE, "module."), "without the prefix module."),
    "compiled": (with_prefix(STATE, "_orig_mod."), "without the prefix _orig_mod."),
    "both": (
        {"state_dict": with_prefix(STATE, "module._orig_mod.")},
        "from state_dict, without the prefix module._orig_mod.",
    ),
    "backbone": (with_prefix(STATE, "backbone.") | {"decoder.weight": torch.ones(2)}, "without the prefix backbone."),
    "lightning": ({"state_dict": with_prefix(STATE, "model.encoder.")}, "without the prefix model.encoder."),
    "averaged model": (AVERAGED, "without the prefix module."),
    "our own": ({"format": 1, "info": {}, "state": {"model": STATE, "averaged": None}}, "from state.model"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_state_dict_is_found_and_its_prefix_removed(form):
    content, said = FORMS[form]
    shapes = {name: tuple(value.shape) for name, value in STATE.items()}
    fitted = fit(content, shapes)
    assert why_other_network(fitted, shapes, ()) is None
    assert all(torch.equal(fitted.weights[name], value) for name, value in STATE.items())
    assert fitted.notes[0].startswith(f"weights: {len(STATE)} of {len(STATE)} loaded")
    assert said in fitted.notes[0]


@pytest.mark.parametrize(
    "names", [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("state.model", "state.averaged")]
)
def test_of_several_state_dicts_the_averaged_one_is_taken_and_the_other_named(names):
    plain, averaged = names
    content: dict = {}
    for name, state in ((plain, STATE), (averaged, ema(STATE))):
        node = content
        for part in name.split(".")[:-1]:
            node = node.setdefault(part, {})
        node[name.split(".")[-1]] = state
    fitted = fit(content, {name: tuple(value.shape) for name, value in STATE.items()})
    assert torch.equal(fitted.weights["0.weight"], STATE["0.weight"] + 1)
    assert f"from {averaged}, not from {plain}" in fitted.notes[0]


def test_another_head_and_weights_without_a_place_are_skipped_and_named():
    shapes = {name: tuple(value.shape) for name, value in network(7).state_dict().items()}
    head = ("3.weight", "3.bias")
    fitted = fit(with_prefix(STATE, "module.") | {"module.projector.weight": torch.ones(3)}, shapes, head)
    assert set(fitted.weights) == set(shapes) - set(head)
    assert not fitted.missing
    assert "skipped 3.weight (5 x 16), 3.bias (5) of another head" in fitted.notes[1]
    assert "skipped projector.weight, which the network does not have" in fitted.notes[2]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda s: {k: v for k, v in s.items() if k != "1.running_mean"},
            "1 of 9 weights do not fit: 1.running_mean is missing",
        ),
        (lambda s: s | {"0.weight": torch.ones(4, 1, 3, 3)}, "0.weight is 4 x 1 x 3 x 3 instead of 4 x 3 x 3 x 3"),
        (lambda s: {}, "9 of 9 weights do not fit"),
        (lambda s: {k: v for k, v in s.items() if "num_batches" not in k}, None),
    ],
)
def test_what_lacks_weights_is_another_network(change: Callable, expected):
    shapes = {name: tuple(value.shape) for name, value in STATE.items()}
    reason = why_other_network(fit(change(dict(STATE)), shapes), shapes, ())
    assert reason == expected or (expected is not None and reason is not None and expected in reason)


def test_safetensors_and_files_with_more_than_weights(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(STATE, tmp_path / "a.safetensors")
    assert all(torch.equal(v, STATE[k]) for k, v in read_weight_file(tmp_path / "a.safetensors", "k").items())
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-9])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_weight_file(tmp_path / "b.safetensors", "k")
    torch.save(network(), tmp_path / "whole.pt")
    with pytest.raises(ConfigError, match=r"contains more than weights.*\n.*state_dict"):
        read_weight_file(tmp_path / "whole.pt", "k")


def test_an_error_of_load_state_dict_keeps_its_reason():
    with pytest.raises(RuntimeError) as error:
        network().load_state_dict({"other": torch.ones(1)})
    assert first_line(error.value).startswith("Error(s) in loading state_dict for Sequential: Missing key(s)")
    assert len(first_line(error.value)) <= 300


def write_images(root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng([i, ord(name)]).integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")


RUN = (
    "data=folder", "data.root=d", "data.size=32", "epochs=1", "batch_size=4", "regularizer=[]", "device=cpu", "precision=float32",
    "observer=[console,checkpoint]", "optimizer.lr=1e-20",
)  # fmt: skip
NETWORKS = {"torchvision": "shufflenet_v2_x0_5", "timm": "test_resnet"}


def published(library: str) -> nn.Module:
    torch.manual_seed(3)
    if library == "torchvision":
        return torchvision.models.get_model(NETWORKS[library], weights=None, num_classes=11)
    return pytest.importorskip("timm").create_model(NETWORKS[library], pretrained=False, num_classes=11)


@pytest.mark.parametrize("library", NETWORKS)
def test_a_run_starts_from_a_file_with_another_head_and_a_prefix(library, train, tmp_path):
    write_images(tmp_path / "d")
    state = published(library).state_dict()
    torch.save({"epoch": 1, "model": with_prefix(state, "module.")}, tmp_path / "w(1).pth")
    code, out, err = train(
        *RUN, f"architecture={library}", f"architecture.name={NETWORKS[library]}", "architecture.weights=w(1).pth", "output=run",
        "initialization=torch",
    )  # fmt: skip
    assert code == 0, err
    assert "from model, without the prefix module." in out
    assert "of another head, which is replaced" in out
    assert "warning: the pretrained weights were trained with another normalization" in out
    trained = load("run")["state"]["model"]
    first = next(name for name, value in state.items() if value.ndim == 4)
    assert torch.allclose(trained[first], state[first], atol=1e-6)
    code, _, err = train(
        *RUN, f"architecture={library}", "architecture.name=resnet18", "architecture.weights=w(1).pth", "output=other"
    )
    assert code == 2
    assert "weights do not fit" in err


def test_the_preprocessing_is_that_of_torchvisions_weights():
    from torchvision.transforms.functional import InterpolationMode

    for name in ("squeezenet1_0", "resnet50", "vit_b_16", "efficientnet_v2_s", "swin_t", "regnet_y_400mf"):
        for weights in torchvision.models.get_model_weights(name):
            expected = weights.transforms()
            for given in (weights.name, f"/some/where/{Path(weights.url).name}"):
                found = Torchvision(name=name, weights=given).preprocessing()
                assert found.normalization == (tuple(expected.mean), tuple(expected.std))
                assert round(found.size / found.crop_pct) == expected.resize_size[0]
                assert found.size == expected.crop_size[0]
                assert (found.interpolation == "bicubic") == (expected.interpolation is InterpolationMode.BICUBIC)
    assert Torchvision(name="resnet50").preprocessing() is None
    assert "is not a name of torchvision" in Torchvision(name="resnet50", weights="mine.pth").preprocessing().notes[0]


def test_the_preprocessing_is_that_of_timms_weights():
    timm = pytest.importorskip("timm")
    for name in (
        "resnet50.a1_in1k",
        "resnet50.tv_in1k",
        "vit_base_patch16_224.augreg_in21k_ft_in1k",
        "convnext_tiny.in12k_ft_in1k",
    ):
        config = timm.get_pretrained_cfg(name)
        found = Timm(name=name, weights="pretrained").preprocessing()
        assert found.normalization == (tuple(config.mean), tuple(config.std))
        assert (found.crop_pct, found.size) == (config.crop_pct, config.input_size[1])
        assert found.interpolation == config.interpolation
    assert Timm(name="resnet50").preprocessing() is None


def test_bicubic_resizing_is_torchvisions():
    from torchvision.transforms import v2

    image = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    expected = v2.functional.resize(
        torch.from_numpy(image).permute(2, 0, 1), [33, 22], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
    )
    assert torch.equal(torch.from_numpy(resize(image, (33, 22), "bicubic")).permute(2, 0, 1), expected)


def test_a_run_prepares_its_images_as_the_weights_need_and_its_checkpoint_keeps_that(train, tmp_path):
    write_images(tmp_path / "d")
    pytest.importorskip("timm")
    torch.save(published("timm").state_dict(), tmp_path / "w.pth")
    code, out, err = train(
        *RUN, "architecture=timm", "architecture.name=test_resnet.r160_in1k", "architecture.weights=w.pth", "output=run",
        "data.normalize=pretrained",
    )  # fmt: skip
    assert code == 0, err
    expected = Timm(name="test_resnet.r160_in1k", weights="w.pth").preprocessing()
    assert f"crop 32 (the weights: {expected.size})" in out
    info = load("run")["info"]
    assert tuple(info["mean"]) == expected.normalization[0]
    assert (info["data"]["crop_pct"], info["data"]["interpolation"]) == (expected.crop_pct, expected.interpolation)
    (tmp_path / "w.pth").unlink()
    for job in (("job=evaluate",), ("job=predict", "job.images=d"), ("job=export", "job.format=torch")):
        code, _, err = train(*job, "checkpoint=run", f"output={job[0][4:]}")
        assert code == 0, err


def test_a_run_predicts_with_the_resizing_of_its_training(monkeypatch, tmp_path):
    from trainer.jobs.predict import read_image

    write_images(tmp_path / "d")
    path = tmp_path / "d" / "a" / "0.png"
    pixels = np.array(Image.open(path))
    expected = resize_and_center_crop(pixels, 16, 0.9, "bicubic")
    assert np.array_equal(read_image(path, (3, 16, 16), 0.9, "bicubic"), expected)
    assert not np.array_equal(read_image(path, (3, 16, 16), 0.9), expected)


def test_gray_images_get_the_mean_of_the_statistics_of_pretrained_weights(train, tmp_path):
    """It was a traceback."""
    write_images(tmp_path / "d")
    torch.save(published("torchvision").state_dict(), tmp_path / "w.pth")
    code, _, err = train(
        *RUN, "architecture=torchvision", f"architecture.name={NETWORKS['torchvision']}", "architecture.weights=w.pth",
        "output=run", "data.normalize=pretrained", "data.channels=1",
    )  # fmt: skip
    assert code == 0, err
    assert load("run")["info"]["mean"] == pytest.approx([(0.485 + 0.456 + 0.406) / 3])


def test_a_file_of_a_known_network_gives_the_defaults_of_the_config():
    config = load_config(["architecture=torchvision", "architecture.name=squeezenet1_0", "architecture.weights=x.pth"])
    found = config.architecture.preprocessing()
    assert (found.crop_pct, found.interpolation, found.size) == (0.875, "bilinear", 224)
