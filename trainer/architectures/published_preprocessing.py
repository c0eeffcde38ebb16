"""The preprocessing of the weights that torchvision and timm publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.architectures.preprocessing import IMAGENET, Preprocessing

if TYPE_CHECKING:
    from trainer.architectures.options import Timm, Torchvision


def torchvision_preprocessing(option: Torchvision) -> Preprocessing | None:
    """Return the preprocessing of torchvision's weights; None without weights.

    A local file is recognized by the name under which torchvision publishes it; otherwise the first weights of the network
    are assumed.
    """
    import torchvision

    if option.weights is None:
        return None
    try:
        published = torchvision.models.get_model_weights(option.name)
    except ValueError:  # an unknown name, which building the network reports
        return Preprocessing(IMAGENET, 0.875, "bilinear", 224)
    file = Path(option.weights).name
    by_file = next((w for w in published if Path(w.url).name == file), None)
    chosen = published.__members__.get(option.weights) or by_file
    notes: tuple[str, ...] = ()
    if option.weights == "DEFAULT":
        chosen = published["DEFAULT"]
    if chosen is None:
        chosen = next(iter(published))
        notes = (f"{file} is not a name of torchvision: the preprocessing is that of {chosen.name}",)
    preset: Any = chosen.transforms()
    mode = "bicubic" if preset.interpolation.value == "bicubic" else "bilinear"
    size, resized = preset.crop_size[0], preset.resize_size[0]
    return Preprocessing((tuple(preset.mean), tuple(preset.std)), size / resized, mode, size, notes)


def timm_preprocessing(option: Timm) -> Preprocessing | None:
    """Return the preprocessing of timm's weights, also for a local file of the network; None without weights."""
    from trainer.architectures.pretrained import import_timm

    if not option.pretrained:
        return None
    config = import_timm().get_pretrained_cfg(option.name)
    if config is None:
        return Preprocessing(IMAGENET, 0.875, "bicubic", 224)
    mode = "bicubic" if config.interpolation in ("bicubic", "lanczos", "random") else "bilinear"
    notes = (
        (f"the weights were trained with {config.interpolation} interpolation",) if mode != config.interpolation else ()
    )
    if config.crop_mode != "center":
        notes += (f"the weights were evaluated with crop_mode={config.crop_mode}; the central crop is taken",)
    return Preprocessing((tuple(config.mean), tuple(config.std)), config.crop_pct, mode, config.input_size[1], notes)
