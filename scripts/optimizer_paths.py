"""Draw the path of each optimizer down a ravine and away from a saddle point, as PNG and GIF, and minima with weight decay.

The optimizers are the options of this program, with learning rates that suit the surfaces; the schedule is an option too.
python scripts/optimizer_paths.py [--folder docs/images] [--schedule constant] [--steps 120] [--no-gif]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from trainer.config.load import load_config
from trainer.config.options import OptionFiles
from trainer.optimizers.param_groups import parameter_groups
from trainer.schedules import Product

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.animation import FuncAnimation, PillowWriter


@dataclass(frozen=True)
class Surface:
    """A function of two variables, its start point, the region to draw, and a learning rate for each optimizer."""

    name: str
    value: Callable[[Any, Any], Any]
    start: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]
    learning_rates: dict[str, float]


LEARNING_RATES = {
    "adadelta": 30.0, "adagrad": 0.5, "adam": 0.1, "adam_uncorrected": 0.03, "adamw": 0.1, "momentum": 0.01, "muon": 0.01,
    "nesterov": 0.01, "rmsprop": 0.05, "sgd": 0.045,
}  # fmt: skip
SURFACES = [
    Surface("ravine", lambda x, y: x**2 / 2 + 20 * y**2, (-4.0, 0.9), (-4.6, 2.0), (-1.4, 1.4), {**LEARNING_RATES}),
    Surface(
        "saddle",
        lambda x, y: x**2 - y**2 + y**4 / 4,
        (-1.6, 0.01),
        (-2.0, 2.0),
        (-0.6, 2.2),
        {**LEARNING_RATES, "sgd": 0.05},
    ),
]


# A minimum away from the origin, curved ten times as much along y as along x.
CURVATURE, MINIMUM = (0.3, 3.0), (2.0, 1.5)
BOWL = Surface(
    "weight_decay",
    lambda x, y: (CURVATURE[0] * (x - MINIMUM[0]) ** 2 + CURVATURE[1] * (y - MINIMUM[1]) ** 2) / 2,
    (-0.8, 2.4),
    (-1.2, 3.2),
    (-0.6, 2.6),
    {"sgd": 0.2, "adam": 0.05, "adamw": 0.05},
)
WEIGHT_DECAYS = (("sgd", 0.0), ("sgd", 0.1), ("sgd", 1.0), ("adam", 1.0), ("adamw", 1.0))


def optimizer_path(name: str, surface: Surface, schedule: str, steps: int, weight_decay: float = 0.0) -> np.ndarray:
    """The points (steps + 1, 2) that an optimizer visits; ``weight_decay`` pulls them to the origin."""
    lr = surface.learning_rates[name]
    config = load_config([f"optimizer={name}", f"optimizer.lr={lr}", f"schedule=[{schedule}]"])
    option = config.optimizer
    multiplier = Product(tuple(config.schedule.values())).over(float(steps))
    point = torch.nn.Parameter(torch.tensor([surface.start], dtype=torch.float64))
    groups = [{**group, "weight_decay": weight_decay} for group in parameter_groups([[("point", point)]], option)]
    optimizer, points = option.build(groups), [point.detach().numpy()[0].copy()]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = option.lr * multiplier(float(step)) * group["ratio"]
        optimizer.zero_grad()
        surface.value(point[0, 0], point[0, 1]).backward()
        optimizer.step()
        points.append(point.detach().numpy()[0].copy())
    return np.array(points)


def draw(surface: Surface, paths: dict[str, np.ndarray], folder: Path, gif: bool) -> None:
    """One panel per optimizer: the whole path in the PNG, growing in the GIF."""
    columns = 5
    rows = -(-len(paths) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.1 * rows), layout="constrained", squeeze=False)
    x, y = np.meshgrid(np.linspace(*surface.x, 120), np.linspace(*surface.y, 120))
    z = surface.value(x, y)
    levels = np.quantile(z, np.linspace(0, 1, 16))
    lines = []
    for axis, (name, points) in zip(axes.flat, paths.items(), strict=False):
        axis.contour(x, y, z, levels=levels, linewidths=0.6, cmap="Greys_r")
        (line,) = axis.plot(points[:, 0], points[:, 1], ".-", markersize=3, linewidth=1, color="tab:red")
        axis.plot(*surface.start, "o", color="tab:blue", markersize=5)
        end = surface.value(*points[-1])
        axis.set(xlim=surface.x, ylim=surface.y, xticks=[], yticks=[])
        axis.set_title(f"{name}, lr {surface.learning_rates[name]:g}, final loss {end:.2g}", fontsize=8)
        lines.append((line, points))
    for axis in axes.flat[len(paths) :]:
        axis.set_visible(False)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{surface.name}.png", dpi=90)
    if gif:

        def show(frame: int) -> list[Any]:
            for line, points in lines:
                line.set_data(points[: frame + 1, 0], points[: frame + 1, 1])
            return [line for line, _ in lines]

        frames = range(0, len(next(iter(paths.values()))), 3)
        FuncAnimation(figure, show, frames=frames).save(folder / f"{surface.name}.gif", PillowWriter(fps=12), dpi=55)
    plt.close(figure)


def penalized_minimum(weight_decay: float) -> tuple[float, float]:
    """Where the bowl plus weight_decay / 2 · ‖w‖² is lowest: each coordinate of its minimum times h / (h + weight_decay), h the
    curvature (Goodfellow, Bengio and Courville 2016, Deep Learning, section 7.1.1).

    >>> penalized_minimum(0.0), penalized_minimum(0.3)[0]
    ((2.0, 1.5), 1.0)
    """
    x, y = (m * h / (h + weight_decay) for m, h in zip(MINIMUM, CURVATURE, strict=True))
    return x, y


def draw_weight_decay(folder: Path, steps: int) -> dict[str, np.ndarray]:
    """One panel per optimizer and weight decay: contours of the loss and of the penalty, the minima of the loss and of the sum,
    and the path; return the ends of the paths.
    """
    figure, axes = plt.subplots(1, len(WEIGHT_DECAYS), figsize=(13, 2.7), layout="constrained")
    x, y = np.meshgrid(np.linspace(*BOWL.x, 120), np.linspace(*BOWL.y, 120))
    ends = {}
    for axis, (name, decay) in zip(axes, WEIGHT_DECAYS, strict=True):
        points = optimizer_path(name, BOWL, "constant", steps, decay)
        ends[f"{name} {decay:g}"] = points[-1]
        axis.contour(x, y, BOWL.value(x, y), levels=np.linspace(0.05, 2.5, 8) ** 2, linewidths=0.7, colors="tab:gray")
        if decay:
            axis.contour(
                x,
                y,
                x**2 + y**2,
                levels=np.arange(0.5, 4, 0.5) ** 2,
                linewidths=0.6,
                linestyles=":",
                colors="tab:orange",
            )
        axis.plot(points[:, 0], points[:, 1], ".-", markersize=2, linewidth=0.8, color="tab:red", label="path")
        axis.plot(*MINIMUM, "o", color="tab:blue", markersize=6, label="minimum of the loss")
        axis.plot(*penalized_minimum(decay), "*", color="tab:green", markersize=10, label="minimum of loss + penalty")
        axis.axhline(0, color="black", linewidth=0.4)
        axis.axvline(0, color="black", linewidth=0.4)
        axis.set(xlim=BOWL.x, ylim=BOWL.y, xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"{name}, weight decay {decay:g}", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{BOWL.name}.png", dpi=90)
    plt.close(figure)
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    parser.add_argument("--schedule", default="constant")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--gif", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    for surface in SURFACES:
        names = OptionFiles().groups["optimizer"]
        paths = {name: optimizer_path(name, surface, arguments.schedule, arguments.steps) for name in names}
        draw(surface, paths, arguments.folder, arguments.gif)
        ends = ", ".join(f"{name} {surface.value(*points[-1]):.3g}" for name, points in paths.items())
        print(f"{surface.name}: {ends}")
    ends = draw_weight_decay(arguments.folder, 4 * arguments.steps)
    print(f"{BOWL.name}: {', '.join(f'{name} ({x:.2f}, {y:.2f})' for name, (x, y) in ends.items())}")


if __name__ == "__main__":
    main()
