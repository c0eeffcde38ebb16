"""What a network looks at and what it finds similar: Grad-CAM against class activation maps, embeddings against scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import result_of
from sklearn.decomposition import PCA
from torch import Tensor, nn

from trainer.analysis.filters import effective_number, roughness
from trainer.observers.embedding import principal_components, umap
from trainer.observers.grad_cam import grad_cam
from trainer.tasks.build import assembled
from trainer.tasks.options import Classification
from trainer.tasks.spec import PartSpec

SMALL = ("data=fake", "data.size=8", "data.count=120", "data.num_classes=3", "epochs=1", "batch_size=32")


def classes(count: int) -> Any:
    spec = PartSpec("", "label", "classification", tuple("abcdefgh"[:count]))
    return assembled([(Classification(), spec)], torch.device("cpu"))[0]


class Pooled(nn.Module):
    """Convolution, ReLU in place, mean over the pixels, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.mark.parametrize("frozen", [False, True])
def test_grad_cam_of_a_pooled_network_is_its_class_activation_map(frozen):
    torch.manual_seed(0)
    model, x, labels = Pooled(), torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 1])
    model.requires_grad_(not frozen)
    heats = grad_cam(model, classes(4), x, labels, labels.flip(0))
    assert heats is not None
    with torch.no_grad():
        maps = model.eval().features(x)
    for heat, own in zip(heats, (labels, labels.flip(0)), strict=True):
        expected = torch.relu((model.head.weight[own][:, :, None, None] * maps).sum(1)).detach()
        assert torch.allclose(heat, expected / expected.amax((1, 2), keepdim=True).clamp_min(1e-12), atol=1e-5)


def test_grad_cam_leaves_the_network_as_it_was():
    model, x = Pooled().train(), torch.randn(2, 3, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert grad_cam(model, classes(4), x, torch.tensor([0, 1])) is not None
    assert model.training
    assert all((value == before[name]).all() for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_without_feature_maps_has_no_grad_cam():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    assert grad_cam(model, classes(4), torch.randn(2, 3, 2, 2), torch.tensor([0, 1])) is None


def test_the_principal_components_are_those_of_scikit_learn_up_to_the_sign():
    features = np.random.default_rng(0).normal(size=(40, 7)) @ np.diag([5, 3, 1, 1, 1, 1, 1])
    points, fractions = principal_components(features)
    oracle = PCA(2).fit(features)
    assert np.allclose(np.abs(points), np.abs(oracle.transform(features)))
    assert np.allclose(fractions, oracle.explained_variance_ratio_)


def test_filters_are_rough_before_training_and_smooth_where_the_images_are():
    """A linear network on images that are sums of two smooth patterns learns smooth filters; noise stays noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:7, :7] / 6
    patterns = np.stack([np.sin(np.pi * x), np.cos(np.pi * y)])
    start = rng.normal(size=(16, 7, 7, 1))
    learned = np.einsum("nk,khw->nhw", rng.normal(size=(16, 2)), patterns)[..., None]
    assert roughness(start) == pytest.approx(1, abs=0.1)
    assert roughness(learned) < 0.2
    assert roughness(1000 * learned + 5) == pytest.approx(roughness(learned))
    assert effective_number(start) > 10
    assert effective_number(learned) <= 2 + 1e-9
    assert np.isnan(roughness(np.ones((2, 3, 3, 1))))


def test_umap_gets_the_features_and_a_fixed_seed(monkeypatch):
    import sys
    import types

    made: list[dict[str, Any]] = []

    class UMAP:
        def __init__(self, **arguments: Any) -> None:
            made.append(arguments)

        def fit_transform(self, features: np.ndarray) -> np.ndarray:
            return features[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    features = np.random.default_rng(0).normal(size=(5, 3))
    assert (umap(features) == features[:, :2]).all()
    assert made == [{"n_neighbors": 4, "random_state": 0}]


def test_umap_without_its_library_is_an_error_before_training(train, monkeypatch):
    monkeypatch.setattr("trainer.observers.options.find_spec", lambda name: None)
    code, _, err = train(*SMALL, "observer=[predictions]", "observer.predictions.embedding=umap", "output=u")
    assert code == 2
    assert "observer.predictions.embedding = 'umap': needs umap-learn, which is not installed" in err
    assert not Path("u").exists()


def test_a_run_shows_the_evidence_for_its_errors_and_its_penultimate_layer(train):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    observers = "observer=[predictions,filters,report,history_file]"
    code, _, err = train(
        *SMALL, "architecture.widths=[4,8]", observers, "observer.predictions.embedded=8", "output=cnn"
    )
    assert code == 0, err
    assert "left out" not in err
    assert (Path("cnn/report/grad_cam.png")).is_file()
    assert 0 < result_of("cnn")["filters"]["roughness"] < 2
    assert "of 4 filters are different in form" in Path("cnn/report.md").read_text()
    assert "Evidence for the errors" in Path("cnn/report.md").read_text()
    config = text_format.Parse(Path("cnn/projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings[0]
    tensors = np.loadtxt(Path("cnn") / config.tensor_path)
    labels = (Path("cnn") / config.metadata_path).read_text().splitlines()
    assert tensors.shape == (8, 8), "the last layer of the network has 8 inputs"
    assert len(labels) == 8
    assert (Path("cnn") / config.sprite.image_path).is_file()


def test_the_report_of_a_network_without_feature_maps_says_so(train):
    words = ("architecture=mlp", "architecture.widths=[4]", "observer=[predictions,report,history_file]")
    assert train(*SMALL, *words, "observer.predictions.embedding=none", "output=mlp")[0] == 0
    assert not Path("mlp/report/grad_cam.png").exists()
    assert not Path("mlp/projector_config.pbtxt").exists()
    assert "no Grad-CAM: the network has no feature maps" in Path("mlp/report.md").read_text()
