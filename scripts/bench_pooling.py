"""Times a step of the CNN, which pools before it rectifies, against the customary order, in turns, over the same numbers.

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


def customary(model: nn.Sequential) -> nn.Sequential:
    """The same layers and weights, each rectifier in front of its pooling."""
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
    networks = {"pooled first": model, "customary": customary(model)}
    networks = {name: m.to(memory_format=torch.channels_last) for name, m in networks.items()}  # pyright: ignore
    x, y = torch.randn(128, 1, 28, 28), torch.randint(0, 10, (128,))
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(options.rounds + 10):
        for name, network in networks.items():
            begin = time.perf_counter()
            network.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                out = network(x)
            F.cross_entropy(out.float(), y).backward()
            times[name].append(time.perf_counter() - begin)
    gradients = [[p.grad for p in network.parameters()] for network in networks.values()]
    equal = all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))  # pyright: ignore[reportArgumentType]
    low = {name: 1e3 * np.percentile(found[10:], 10) for name, found in times.items()}
    for name, found in low.items():
        print(f"{name:14}{found:8.2f} ms{low['customary'] / found:7.2f} x")
    print(f"gradients equal bit for bit: {equal}")


if __name__ == "__main__":
    main()
