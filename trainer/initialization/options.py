"""Options of the initialization."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainer.existing import Existing
from trainer.parameters import PositiveFloat, implemented_by, option


@option(kw_only=False)
class Initialization:
    """Weights drawn by ``rule``; biases are 0, and the bias of the head predicts best without the image.

    That is the log prior of the classes, so that the initial loss is about the entropy of their frequencies. The rules:

    - ``kaiming_normal``, ``kaiming_uniform``: variance gain²/inputs (He et al. 2015, arXiv:1502.01852)
    - ``xavier_normal``, ``xavier_uniform``: variance 2·gain²/(inputs + outputs) (Glorot & Bengio 2010)
    - ``auto``: ``kaiming_normal`` for ReLU-like activations, ``xavier_uniform`` for the others
    - ``orthogonal``: orthogonal matrices times the gain (Saxe et al. 2013, arXiv:1312.6120)
    - ``normal``: standard deviation ``std``; ``zeros``: all 0; ``torch``: the defaults of torch's layers
    - ``lsuv``: ``orthogonal``, then each layer is scaled until the variance of its output on a batch is 1 (Mishkin & Matas
      2015, arXiv:1511.06422)
    - ``whitening``: ``auto``, but the filters of the first layer are the principal directions of the patches of a batch and
      their negatives, scaled to outputs of variance 1 (Page 2019; Jordan 2024, arXiv:2404.00498)

    With ``identity`` each convolution, except for the first, that has at least as many outputs as inputs copies its inputs to
    its first outputs; the weights of its other outputs are drawn by ``rule`` (Zagoruyko & Komodakis 2017, arXiv:1706.00388).
    """

    rule: Annotated[
        Literal[
            "auto", "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "orthogonal", "normal", "zeros",
            "torch", "lsuv", "whitening",
        ],
        Field(description="distribution of the weights"),
    ] = "auto"  # fmt: skip
    std: Annotated[PositiveFloat, Field(description="standard deviation of the weights, for rule normal")] = 0.01
    identity: Annotated[
        bool, Field(description="initialize convolutions with at least as many outputs as inputs as the identity")
    ] = False

    @property
    def needs_batch(self) -> bool:
        """Whether ``apply`` needs a batch of images."""
        return self.rule in ("lsuv", "whitening")

    apply = implemented_by("trainer.initialization.schemes:initialize")


@option
class Pretrained:
    """The weights of another run of the same architecture; the head is new, for other classes, or copied as well.

    ``data.normalize=pretrained`` normalizes the images as in that run.
    """

    path: Annotated[str, Field(description="run directory or checkpoint file"), Existing("file or directory")]
    prefer: Annotated[Literal["best", "last"], Field(description="checkpoint of a run directory to use")] = "best"
    head: Annotated[
        Literal["new", "same"], Field(description="last layer: new = initialized, for other classes, same = copied")
    ] = "new"
    needs_batch: ClassVar[bool] = False
