"""Options of the optimizers: the peak learning rate and the parameters of each update rule.

Notation: w weights, g gradient, v velocity, m and G running means of g and g². All operations are elementwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from trainer.errors import ConfigError, Problem
from trainer.parameters import NonNegativeFloat, PositiveFloat, PositiveInt, SearchSpace, implemented_by, option
from trainer.plain import constructing

if TYPE_CHECKING:
    import torch

    from trainer.schedules import Schedule


LearningRate = Annotated[
    PositiveFloat,
    Field(description="peak learning rate, multiplied by the schedule; auto = suggested by an LR range test"),
]
WeightDecay = Annotated[NonNegativeFloat, Field(description="weight decay; 0 = off")]
MomentumCoefficient = Annotated[
    float, Field(gt=0, lt=1, description="momentum coefficient: fraction of the velocity kept at each step")
]
# Default search spaces: where good values lie for small networks and batches of 64 to 512 images, and half a decade beyond
# (AlgoPerf, arXiv:2306.07179, Appendix D; Tuning Playbook). The learning rate of a momentum method is divided by 1 − momentum.
MomentumLR = Annotated[LearningRate, SearchSpace("log(1e-3,3)")]
AdaptiveLR = Annotated[LearningRate, SearchSpace("log(1e-4,3e-2)")]
CoupledDecay = Annotated[WeightDecay, SearchSpace("log(1e-6,1e-2)")]
DecoupledDecay = Annotated[WeightDecay, SearchSpace("log(1e-3,1)")]
AdaptiveDecay = Annotated[WeightDecay, SearchSpace("log(1e-7,1e-3)")]
SearchedMomentum = Annotated[MomentumCoefficient, SearchSpace("1-log(0.01,0.3)", by_default=False)]
DecayRate = Annotated[float, Field(ge=0, lt=1)]
EpsilonInsideRoot = Annotated[
    bool, Field(description="true = g / sqrt(G + eps); false = g / (sqrt(G) + eps), as in torch")
]


ParamGroup = dict[str, Any]  # as torch's optimizers take and hold it; ``param_groups.parameter_groups`` describes it


@option
class Optimizer:
    """The parameters that all optimizers share."""

    lr: LearningRate = 0.1
    weight_decay: WeightDecay = 0.0
    decay_all: Annotated[bool, Field(description="apply weight decay to biases and normalization parameters too")] = (
        False
    )
    clip_norm: Annotated[
        NonNegativeFloat,
        Field(description="clip the gradient to this global norm (torch.nn.utils.clip_grad_norm_); 0 = off"),
    ] = 0.0
    layer_decay: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="layer-wise learning rate decay: ratio of each layer's learning rate to the next layer's; 1 = off",
        ),
    ] = 1.0
    bias_lr_mult: Annotated[
        PositiveFloat,
        Field(description="learning rate of biases, also in normalization layers, relative to that of weights"),
    ] = 1.0

    @property
    def momentum_key(self) -> Literal["momentum", "betas"] | None:
        """The key of torch's parameter groups that holds the momentum (``betas``: its first element), None if there is none."""
        return None

    def kind(self, dimensions: int, is_head: bool) -> tuple[str, float]:
        """Return the name of the update rule for a parameter, and its learning rate relative to that of its layer."""
        return "", 1.0

    def build(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """Return the optimizer of the given parameter groups (see ``param_groups.parameter_groups``)."""
        raise NotImplementedError


@option
class SGD(Optimizer):
    """Stochastic gradient descent: w ← w − lr·g (Robbins & Monro 1951)."""

    lr: Annotated[LearningRate, SearchSpace("log(1e-2,10)")] = 0.1
    weight_decay: CoupledDecay = 0.0

    build = implemented_by("trainer.optimizers.build:sgd")


@option
class Momentum(Optimizer):
    """SGD with momentum: v ← momentum·v + g; w ← w − lr·v (Polyak 1964)."""

    lr: MomentumLR = 0.05
    momentum: SearchedMomentum = 0.9
    weight_decay: CoupledDecay = 5e-4
    nesterov: ClassVar[bool] = False

    @property
    def momentum_key(self) -> Literal["momentum", "betas"] | None:
        return "momentum"

    build = implemented_by("trainer.optimizers.build:momentum")


@option
class Nesterov(Momentum):
    """Momentum with the gradient at the look-ahead point w − lr·momentum·v (Nesterov 1983).

    As in torch, the weights that are stored are those of the look-ahead point: v ← momentum·v + g; w ← w − lr·(g + momentum·v).
    """

    nesterov: ClassVar[bool] = True


@option
class Adam(Optimizer):
    """Adam (Kingma & Ba 2014, arXiv:1412.6980): steps scaled by bias-corrected moments of the gradient.

    m ← β₁·m + (1 − β₁)·g; G ← β₂·G + (1 − β₂)·g²; w ← w − lr·m̂/(√Ĝ + eps), with m̂ = m/(1 − β₁ᵗ) and Ĝ = G/(1 − β₂ᵗ).
    """

    lr: AdaptiveLR = 0.001
    weight_decay: AdaptiveDecay = 0.0
    betas: Annotated[
        tuple[DecayRate, DecayRate], Field(description="decay rates of the running means of g and of g^2")
    ] = (0.9, 0.999)
    eps: Annotated[PositiveFloat, Field(description="term added to the denominator for numerical stability")] = 1e-8

    @property
    def momentum_key(self) -> Literal["momentum", "betas"] | None:
        return "betas"

    build = implemented_by("trainer.optimizers.build:adam")


@option
class AdamW(Adam):
    """Adam with decoupled weight decay: w ← w − lr·weight_decay·w in addition (Loshchilov & Hutter 2017, arXiv:1711.05101)."""

    lr: AdaptiveLR = 0.001
    weight_decay: DecoupledDecay = 0.01

    build = implemented_by("trainer.optimizers.build:adamw")


@option
class AdamUncorrected(Adam):
    """Adam without bias correction, and with eps inside the root.

    m ← β₁·m + (1 − β₁)·g; G ← β₂·G + (1 − β₂)·g²; w ← w − lr·m/√(G + eps). The first steps are (1 − β₁)/√(1 − β₂) times as
    long as Adam's, about 3.2 times with the default betas. Source: "almost Adam" of Pedersen, "Training Convolutional Neural
    Networks, part 2" (lecture).
    """

    build = implemented_by("trainer.optimizers.build:adam_uncorrected")


@option
class Adadelta(Optimizer):
    """Adadelta: steps scaled by the ratio of running means of squared steps and gradients (Zeiler 2012, arXiv:1212.5701).

    G ← rho·G + (1 − rho)·g²; Δ = g·√(D + eps)/√(G + eps); D ← rho·D + (1 − rho)·Δ²; w ← w − lr·Δ.
    """

    lr: Annotated[LearningRate, SearchSpace("log(1e-2,10)")] = 1.0
    weight_decay: CoupledDecay = 0.0
    rho: Annotated[DecayRate, Field(description="decay rate of the running means of squared gradients and steps")] = 0.9
    eps: Annotated[PositiveFloat, Field(description="added to both running means, inside the roots")] = 1e-6

    build = implemented_by("trainer.optimizers.build:adadelta")


@option
class Adagrad(Optimizer):
    """Adagrad: steps scaled by the sum of squared gradients (Duchi et al. 2011).

    G ← G + g²; w ← w − lr·g/√(G + eps), or w ← w − lr·g/(√G + eps) if not epsilon_inside_root.
    """

    lr: Annotated[LearningRate, SearchSpace("log(1e-3,0.3)")] = 0.01
    weight_decay: CoupledDecay = 0.0
    eps: Annotated[PositiveFloat, Field(description="added to the sum of squares G, or to its root")] = 1e-8
    epsilon_inside_root: EpsilonInsideRoot = True

    build = implemented_by("trainer.optimizers.build:adagrad")


@option
class RMSprop(Optimizer):
    """RMSprop: steps scaled by the running mean of squared gradients (Hinton 2012, Coursera lecture 6e).

    G ← gamma·G + (1 − gamma)·g²; w ← w − lr·g/√(G + eps), or w ← w − lr·g/(√G + eps) if not epsilon_inside_root.
    """

    lr: AdaptiveLR = 0.001
    weight_decay: AdaptiveDecay = 0.0
    gamma: Annotated[DecayRate, Field(description="decay rate of the running mean of squared gradients")] = 0.9
    eps: Annotated[PositiveFloat, Field(description="added to the mean of squares G, or to its root")] = 1e-8
    epsilon_inside_root: EpsilonInsideRoot = True

    build = implemented_by("trainer.optimizers.build:rmsprop")


@option
class Muon(Optimizer):
    """Muon: momentum whose matrix is orthogonalized by Newton-Schulz iteration (Jordan 2024).

    The rule applies to matrices and convolution kernels except those of the last layer; biases, norms and the last layer are
    updated by Nesterov momentum with the learning rate rest·lr. Equations: ``trainer.optimizers.rules.Muon``.
    """

    lr: Annotated[LearningRate, SearchSpace("log(1e-3,1)")] = 0.02
    weight_decay: CoupledDecay = 0.0
    momentum: SearchedMomentum = 0.95
    steps: Annotated[PositiveInt, Field(description="Newton-Schulz iterations")] = 5
    rest: Annotated[
        PositiveFloat,
        Field(description="learning rate of biases, normalization layers and the last layer, relative to lr"),
    ] = 1.0

    @property
    def momentum_key(self) -> Literal["momentum", "betas"] | None:
        return "momentum"

    def kind(self, dimensions: int, is_head: bool) -> tuple[str, float]:
        return ("rest", self.rest) if is_head or dimensions < 2 else ("matrix", 1.0)

    build = implemented_by("trainer.optimizers.build:muon")


@option
class ExternalOptimizer(Optimizer):
    """An optimizer class with torch's interface that is not one of ours, with the arguments given in the config."""

    # All parameters are keywords, which pyright does not see through ``option``.
    target: Callable[..., Any]  # pyright: ignore[reportGeneralTypeIssues]
    arguments: dict[str, Any]  # pyright: ignore[reportGeneralTypeIssues]

    @classmethod
    def wrap(cls, target: Callable[..., Any], arguments: dict[str, Any]) -> ExternalOptimizer:
        """Return the option for a class; ``lr`` (required) and ``weight_decay`` are taken from its arguments.

        Raises:
            ConfigError: ``lr`` or ``weight_decay`` is missing or out of range.
        """
        if "lr" not in arguments:
            text = "must be given: it is the peak learning rate, which the schedule multiplies"
            raise ConfigError(Problem("optimizer.lr", None, text))
        lr, weight_decay = arguments["lr"], arguments.get("weight_decay", 0.0)
        problems = []
        if not (_is_number(lr) and lr > 0):
            problems.append(Problem("optimizer.lr", lr, "must be a number > 0"))
        if not (_is_number(weight_decay) and weight_decay >= 0):
            problems.append(Problem("optimizer.weight_decay", weight_decay, "must be a number >= 0"))
        if problems:
            raise ConfigError(*problems)
        return cls(lr=float(lr), weight_decay=float(weight_decay), target=target, arguments=arguments)

    @property
    def momentum_key(self) -> Literal["momentum", "betas"] | None:
        names = inspect.signature(self.target).parameters
        return "momentum" if "momentum" in names else "betas" if "betas" in names else None

    def build(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        with constructing("optimizer", self.target, self.arguments):
            return self.target(groups, **self.arguments)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def schedule_problems(schedules: Mapping[str, Schedule], option: object) -> list[Problem]:
    """Return why the schedules of a config, by their names, cannot be combined with its optimizer.

    Of a third-party optimizer this is only known once it is built.

    >>> from trainer.schedules import Constant, OneCycle
    >>> schedule_problems({"constant": Constant()}, SGD()), schedule_problems({"one_cycle": OneCycle()}, Momentum())
    ([], [])
    >>> schedule_problems({"one_cycle": OneCycle()}, SGD())[0].text
    'one_cycle moves the momentum, and this optimizer has none: use optimizer=momentum, or schedule=cosine'
    """
    moving = [name for name, schedule in schedules.items() if any(f.moves_momentum for f in schedule.factors())]
    if not moving or not isinstance(option, Optimizer) or option.momentum_key is not None:
        return []
    text = f"{moving[0]} moves the momentum, and this optimizer has none: use optimizer=momentum, or schedule=cosine"
    return [Problem("schedule", list(schedules), text)]
