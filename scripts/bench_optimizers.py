"""Time one step of every optimizer on the parameters of a ResNet-20, interleaved with torch's multi-tensor Adam.

python scripts/bench_optimizers.py [--rounds 200] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from trainer.activations import Activation
from trainer.architectures import ResNet
from trainer.architectures.layers import weight_layers
from trainer.config.load import load_config
from trainer.config.options import CONF
from trainer.optimizers.param_groups import parameter_groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    names = sorted(p.stem for p in Path(CONF, "optimizer").glob("*.yaml"))
    steps = {}

    def network() -> torch.nn.Module:
        model = ResNet(depth=20).build((3, 32, 32), 10, Activation()).to(options.device)
        for p in model.parameters():
            p.grad = torch.randn_like(p) * 0.01
        return model

    for name in names:
        option = load_config([f"optimizer={name}"]).optimizer
        steps[name] = option.build(parameter_groups(weight_layers(network()), option)).step
    for kind in ("Adagrad", "RMSprop", "Adam"):
        steps[f"torch {kind} foreach"] = getattr(torch.optim, kind)(network().parameters(), foreach=True).step
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if options.device != "cpu":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    low = {name: float(np.percentile(t, 10)) for name, t in times.items()}
    base = low["torch Adam foreach"]
    for name in sorted(low, key=low.__getitem__):
        print(f"{name:24}{1e6 * low[name]:9.0f} us   {low[name] / base:5.2f} x torch's foreach Adam")


if __name__ == "__main__":
    main()
