"""Time a step of the CNN, which pools before the activation, against the usual order with the same numbers, interleaved.

python scripts/bench_pooling.py [--rounds 150] [--threads 2]
"""

from __future__ import annotations

import argparse
import copy
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from trainer.activations import Activation
from trainer.architectures import CNN
from trainer.hardware import keep_freed_memory


def usual_order(model: nn.Sequential) -> nn.Sequential:
    """The same layers and weights, each activation before its pooling."""
    layers = list(copy.deepcopy(model))
    for i, layer in enumerate(tuple(layers)):
        if isinstance(layer, nn.MaxPool2d):
            layers[i], layers[i + 1] = layers[i + 1], layer
    return nn.Sequential(*layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = CNN(widths=(32, 64)).build((1, 28, 28), 10, Activation("relu"))
    assert isinstance(model, nn.Sequential)
    networks = {"pooling first": model, "activation first": usual_order(model)}
    networks = {name: m.to(memory_format=torch.channels_last) for name, m in networks.items()}  # pyright: ignore
    x, y = torch.randn(128, 1, 28, 28), torch.randint(0, 10, (128,))
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(options.rounds + 10):
        for name, network in networks.items():
            start = time.perf_counter()
            network.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                out = network(x)
            F.cross_entropy(out.float(), y).backward()
            times[name].append(time.perf_counter() - start)
    gradients = [[p.grad for p in network.parameters()] for network in networks.values()]
    equal = all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))  # pyright: ignore[reportArgumentType]
    low = {name: 1e3 * np.percentile(seconds[10:], 10) for name, seconds in times.items()}
    for name, milliseconds in low.items():
        print(f"{name:18}{milliseconds:8.2f} ms{low['activation first'] / milliseconds:7.2f} x")
    print(f"gradients equal bit for bit: {equal}")


if __name__ == "__main__":
    main()
