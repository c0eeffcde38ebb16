"""Networks of torchvision: by name, with weights from an enum or a local file, fitted to the data's pictures and classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchvision
from torch import nn

from trainer.architectures.layers import ACTIVATIONS, find_head, replace
from trainer.architectures.networks import forward_once
from trainer.architectures.options import Timm, Torchvision, unknown_name
from trainer.errors import ConfigError, Problem, nearest

if TYPE_CHECKING:
    from trainer.activations import Activation


def torchvision_model(
    option: Torchvision, shape: tuple[int, int, int], num_classes: int, activation: Activation
) -> nn.Module:
    """The network of ``option`` for pictures of ``shape`` and ``num_classes``."""
    names = torchvision.models.list_models(module=torchvision.models)
    if option.name not in names:
        raise unknown_name(option.name, names)
    extra = {"aux_logits": False} if option.name in ("googlenet", "inception_v3") and option.weights is None else {}
    model = torchvision.models.get_model(option.name, weights=None, **extra)
    if option.weights is not None:
        model.load_state_dict(_weights(option))
    _fit_head(model, num_classes)
    return _fitted(model, option, shape, activation)


def timm_model(option: Timm, shape: tuple[int, int, int], num_classes: int, activation: Activation) -> nn.Module:
    """timm's network of ``option`` for pictures of ``shape`` and ``num_classes``."""
    timm = _timm()
    if not timm.is_model(option.name):
        raise unknown_name(option.name, timm.list_models())
    local = Path(option.weights).expanduser() if option.weights not in (None, "pretrained") else None
    if local is not None and not local.is_file():
        text = "is no file; pretrained downloads timm's"
        raise ConfigError(Problem("architecture.weights", option.weights, text))
    size = {"img_size": shape[1:]} if shape[1] == shape[2] else {}
    try:
        try:
            model = timm.create_model(option.name, pretrained=option.weights == "pretrained", **size)
        except TypeError:  # most convolutional networks take pictures of any size and are told none
            model = timm.create_model(option.name, pretrained=option.weights == "pretrained")
    except (OSError, RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(Problem("architecture.name", option.name, f"cannot be made: {reason}")) from None
    if local is not None:
        try:
            timm.models.load_checkpoint(model, str(local), weights_only=True)
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            problem = Problem("architecture.weights", option.weights, f"does not fit {option.name}: {reason}")
            raise ConfigError(problem) from None
    model.reset_classifier(num_classes)
    return _fitted(model, option, shape, activation)


def timm_normalization(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of a timm model's pretrained weights."""
    found = _timm().get_pretrained_cfg(name)
    return (tuple(found.mean), tuple(found.std)) if found else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise ConfigError(Problem("architecture", "timm", "is not installed", "pip install 'trainer[timm]'")) from None
    return timm


def _fitted(
    model: nn.Module, option: Torchvision | Timm, shape: tuple[int, int, int], activation: Activation
) -> nn.Module:
    """The network with a stem for the pictures' channels and, where asked, the config's activation; tried once."""
    if shape[0] != 3:
        _fit_stem(model, shape[0], option.pretrained)
    if not option.keep_activation:
        for name, module in list(model.named_modules()):
            if isinstance(module, ACTIVATIONS):
                replace(model, name, activation.build())
    try:
        forward_once(model, shape)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        text = f"cannot take pictures of {shape[1]} x {shape[2]}: {reason}"
        raise ConfigError(
            Problem("architecture.name", option.name, text, "larger pictures, or architecture=cnn")
        ) from None
    return model


def _weights(option: Torchvision) -> dict[str, torch.Tensor]:
    assert option.weights is not None
    path = Path(option.weights).expanduser()
    if path.is_file():
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            probe = torchvision.models.get_model(option.name, weights=None)
            probe.load_state_dict(state)
            return state
        except Exception as error:
            reason = str(error).splitlines()[0]
            problem = Problem("architecture.weights", option.weights, f"does not fit {option.name}: {reason}")
            raise ConfigError(problem) from None
    enum = torchvision.models.get_model_weights(option.name)
    known = [*enum.__members__, "DEFAULT"]
    if option.weights not in known:
        text = f"is no file, and no weights of {option.name}"
        hint = nearest(option.weights, known) or f"there are: {', '.join(known)}"
        raise ConfigError(Problem("architecture.weights", option.weights, text, hint))
    try:
        return enum[option.weights].get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        text = f"cannot be downloaded: {error}"
        raise ConfigError(Problem("architecture.weights", option.weights, text, "give a local file")) from None


def _fit_head(model: nn.Module, num_classes: int) -> None:
    """A new head; a non-linearity behind it goes (SqueezeNet's ReLU), because logits it cuts off learn nothing any more."""
    name, head = find_head(model)
    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    after = leaves[[n for n, _ in leaves].index(name) + 1 :]
    if after and isinstance(after[0][1], ACTIVATIONS):
        replace(model, after[0][0], nn.Identity())
    if isinstance(head, nn.Conv2d):
        new: nn.Module = nn.Conv2d(head.in_channels, num_classes, head.kernel_size, bias=head.bias is not None)  # pyright: ignore
    else:
        assert isinstance(head, nn.Linear)
        new = nn.Linear(head.in_features, num_classes)
    replace(model, name, new)


def _fit_stem(model: nn.Module, channels: int, pretrained: bool) -> None:
    """A first convolution for other than three channels; pretrained kernels are summed over the colours."""
    name, stem = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels, stem.out_channels, stem.kernel_size, stem.stride, stem.padding, stem.dilation,  # pyright: ignore
        bias=stem.bias is not None,
    )  # fmt: skip
    if pretrained:
        with torch.no_grad():
            new.weight.copy_(stem.weight.sum(1, keepdim=True).expand_as(new.weight) / channels)
            if stem.bias is not None and new.bias is not None:
                new.bias.copy_(stem.bias)
    replace(model, name, new)
