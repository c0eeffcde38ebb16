"""Wide residual network (Zagoruyko & Komodakis 2016, arXiv:1605.07146)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainer.architectures.layers import GlobalAveragePool, conv_2d, norm_activation

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import Shape, WideResNet


class PreActivationResidual(nn.Module):
    """x + branch(before(x)), or shortcut(before(x)) + branch(before(x)) where the block changes the shape."""

    def __init__(self, before: nn.Module, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.before, self.branch, self.shortcut = before, branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        activated = self.before(x)
        around = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(activated)
        return around + self.branch(activated)


def wide_resnet(option: WideResNet, shape: Shape, num_classes: int, activation: Activation) -> nn.Sequential:
    """Pre-activation blocks in three stages, with dropout between the two convolutions of a block."""
    layers: list[nn.Module] = [conv_2d(option, shape[0], 16, 3)]
    channels = 16
    for stage, base_width in enumerate((16, 32, 64)):
        width = base_width * option.widen_factor
        for i in range((option.depth - 4) // 6):
            stride = 2 if i == 0 and stage > 0 else 1
            branch = nn.Sequential(
                conv_2d(option, channels, width, 3, stride),
                *norm_activation(option, width, activation),
                *([nn.Dropout(option.dropout)] if option.dropout else []),
                conv_2d(option, width, width, 3),
            )
            same_shape = channels == width and stride == 1
            layers.append(
                PreActivationResidual(
                    before=nn.Sequential(*norm_activation(option, channels, activation)),
                    branch=branch,
                    shortcut=nn.Identity() if same_shape else conv_2d(option, channels, width, 1, stride),
                )
            )
            channels = width
    layers += norm_activation(option, channels, activation)
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(channels, num_classes))
