"""Construction of torch's optimizers, in their fused form where it exists, and of those of ``trainer.optimizers.rules``."""

from __future__ import annotations

import torch

from trainer.optimizers import options, rules

Groups = list[options.ParamGroup]


def sgd(option: options.SGD, groups: Groups) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=option.lr, fused=True)


def momentum(option: options.Momentum, groups: Groups) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=option.lr, momentum=option.momentum, nesterov=option.nesterov, fused=True)


def adam(option: options.Adam, groups: Groups) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=option.lr, betas=option.betas, eps=option.eps, fused=True)


def adamw(option: options.AdamW, groups: Groups) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=option.lr, betas=option.betas, eps=option.eps, fused=True)


def adam_uncorrected(option: options.AdamUncorrected, groups: Groups) -> torch.optim.Optimizer:
    return rules.AdamUncorrected(groups, lr=option.lr, betas=option.betas, eps=option.eps)


def adadelta(option: options.Adadelta, groups: Groups) -> torch.optim.Optimizer:
    return torch.optim.Adadelta(groups, lr=option.lr, rho=option.rho, eps=option.eps)


def adagrad(option: options.Adagrad, groups: Groups) -> torch.optim.Optimizer:
    if option.epsilon_inside_root:
        return rules.Adagrad(groups, lr=option.lr, eps=option.eps)
    return torch.optim.Adagrad(groups, lr=option.lr, eps=option.eps, foreach=True)


def rmsprop(option: options.RMSprop, groups: Groups) -> torch.optim.Optimizer:
    if option.epsilon_inside_root:
        return rules.RMSprop(groups, lr=option.lr, gamma=option.gamma, eps=option.eps)
    return torch.optim.RMSprop(groups, lr=option.lr, alpha=option.gamma, eps=option.eps, foreach=True)


def muon(option: options.Muon, groups: Groups) -> torch.optim.Optimizer:
    return rules.Muon(groups, lr=option.lr, momentum=option.momentum, steps=option.steps)
