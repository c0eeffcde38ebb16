"""Networks of torchvision and timm: by name, with or without pretrained weights, adapted to the images and classes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import torchvision
from torch import Tensor, nn

from trainer.architectures.layers import ACTIVATIONS, find_head, forward_once, replace_module
from trainer.architectures.state_dicts import fit, why_other_network
from trainer.errors import ConfigError, Problem, first_line, nearest
from trainer.weight_files import read_weight_file

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import PublishedArchitecture, Shape, Timm, Torchvision


def torchvision_model(option: Torchvision, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
    """Return the network of torchvision for images of ``shape`` and ``num_classes`` classes.

    Raises:
        ConfigError: The name is unknown, the weights are unknown or do not fit, or the images are too small.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if option.name not in names:
        raise _unknown_name(option, names)
    extra = {"aux_logits": False} if option.name in ("googlenet", "inception_v3") and option.weights is None else {}
    model = torchvision.models.get_model(option.name, weights=None, **extra)
    notes: tuple[str, ...] = ()
    if option.weights is not None and Path(option.weights).expanduser().is_file():
        # A second network draws random numbers, without which a seed would no longer give the results of earlier releases.
        torchvision.models.get_model(option.name, weights=None)
        notes = load_file(model, Path(option.weights).expanduser(), option.name)
    elif option.weights is not None:
        model.load_state_dict(_torchvision_weights(option))
    _replace_head(model, num_classes)
    return with_notes(_adapt(model, option, shape, activation), notes)


def load_file(model: nn.Module, path: Path, name: str) -> tuple[str, ...]:
    """Load a local file of weights into a model, the head if it fits; return what was loaded and what was skipped.

    Raises:
        ConfigError: The file cannot be read, or lacks weights of the network.
    """
    head_name = find_head(model)[0]
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    head = tuple(key for key in shapes if key.startswith(f"{head_name}."))
    fitted = fit(read_weight_file(path, "architecture.weights"), shapes, head)
    if reason := why_other_network(fitted, shapes, head):
        hint = f"the file must hold the weights of {name}: architecture.name=..."
        raise ConfigError(Problem("architecture.weights", str(path), f"does not fit {name}: {reason}", hint))
    model.load_state_dict(fitted.weights, strict=False)
    return fitted.notes


def with_notes(model: nn.Module, notes: tuple[str, ...]) -> nn.Module:
    """Attach notes about its weights to a network, for the first lines of the run."""
    model.notes = notes  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    return model


def timm_model(option: Timm, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
    """Return the network of timm for images of ``shape`` and ``num_classes`` classes.

    Raises:
        ConfigError: timm is not installed, or as for :func:`torchvision_model`.
    """
    timm = import_timm()
    if not timm.is_model(option.name):
        raise _unknown_name(option, timm.list_models())
    file = None if option.weights in (None, "pretrained") else Path(option.weights).expanduser()
    if file is not None and not file.is_file():
        text = "is not a file, nor pretrained (the weights that timm downloads)"
        raise ConfigError(Problem("architecture.weights", option.weights, text))
    model = _create_timm_model(timm, option, shape)
    notes = load_file(model, file, option.name) if file is not None else ()
    model.reset_classifier(num_classes)
    return with_notes(_adapt(model, option, shape, activation), notes)


def _unknown_name(option: PublishedArchitecture, names: list[str]) -> ConfigError:
    hint = nearest(option.name, names) or f"available: {', '.join(names[:12])}, ..."
    return ConfigError(Problem("architecture.name", option.name, "is not the name of a model", hint))


def import_timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise ConfigError(Problem("architecture", "timm", "is not installed", "pip install 'trainer[timm]'")) from None
    return timm


def _create_timm_model(timm: ModuleType, option: Timm, shape: Shape) -> Any:
    pretrained = option.weights == "pretrained"
    size = {"img_size": shape[1:]} if shape[1] == shape[2] else {}
    try:
        try:
            return timm.create_model(option.name, pretrained=pretrained, **size)
        except TypeError:  # most convolutional networks accept images of any size and have no such argument
            return timm.create_model(option.name, pretrained=pretrained)
    except (OSError, RuntimeError, AssertionError) as error:
        problem = Problem("architecture.name", option.name, f"cannot be created: {first_line(error)}")
        raise ConfigError(problem) from None


def _torchvision_weights(option: Torchvision) -> dict[str, Tensor]:
    """Return the state dict of published weights."""
    assert option.weights is not None
    published = torchvision.models.get_model_weights(option.name)
    names = [*published.__members__, "DEFAULT"]
    if option.weights not in names:
        text = f"is neither a file nor the name of weights of {option.name}"
        hint = nearest(option.weights, names) or f"available: {', '.join(names)}"
        raise ConfigError(Problem("architecture.weights", option.weights, text, hint))
    try:
        return published[option.weights].get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        text = f"cannot be downloaded: {error}"
        raise ConfigError(Problem("architecture.weights", option.weights, text, "give a local file")) from None


def _adapt(model: nn.Module, option: PublishedArchitecture, shape: Shape, activation: Activation) -> nn.Module:
    """Adapt the stem to the channels of the images and, if requested, replace the activations; check that images fit."""
    if shape[0] != 3:
        _replace_stem(model, shape[0], option.pretrained)
    if not option.keep_activation:
        for name, module in list(model.named_modules()):
            if isinstance(module, ACTIVATIONS):
                replace_module(model, name, activation.build())
    try:
        forward_once(model, shape)
    except (RuntimeError, ValueError, AssertionError) as error:
        text = f"does not accept images of {shape[1]} x {shape[2]}: {first_line(error)}"
        hint = "larger images, or architecture=cnn"
        raise ConfigError(Problem("architecture.name", option.name, text, hint)) from None
    return model


def _replace_head(model: nn.Module, num_classes: int) -> None:
    """Replace the last layer. An activation after it (SqueezeNet's ReLU) is removed: logits it clips receive no gradient."""
    name, head = find_head(model)
    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    after = leaves[[n for n, _ in leaves].index(name) + 1 :]
    if after and isinstance(after[0][1], ACTIVATIONS):
        replace_module(model, after[0][0], nn.Identity())
    if isinstance(head, nn.Conv2d):
        new: nn.Module = nn.Conv2d(head.in_channels, num_classes, head.kernel_size, bias=head.bias is not None)  # pyright: ignore
    else:
        new = nn.Linear(head.in_features, num_classes)
    replace_module(model, name, new)


def _replace_stem(model: nn.Module, channels: int, pretrained: bool) -> None:
    """Replace the first convolution by one for ``channels`` channels; pretrained kernels are summed over red, green, blue."""
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
    replace_module(model, name, new)
