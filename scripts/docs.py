"""Writes the part of docs/<group>.md that comes from the code: every option with its equation, parameters, command.

What stands above the marker in each page is written by hand and stays.
python scripts/docs.py [--check] [--pictures]     --check: tell what is stale; --pictures: draw them anew too
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from trainer.config.instantiate import locate
from trainer.config.options import CONF, LISTS, headline, options

DOCS = Path(__file__).resolve().parents[1] / "docs"
MARKER = "<!-- Below this line scripts/docs.py writes; edit the option files and docstrings instead. -->"
PICTURED = ("schedule", "activation")
NEEDED = {  # what a command of an option does not go without
    "job=compare": "runs=outputs/<date>/<sweep>",
    "job=evaluate": "checkpoint=outputs/<date>/<run>",
    "job=export": "checkpoint=outputs/<date>/<run>",
    "job=predict": "checkpoint=outputs/<date>/<run> job.pictures=photo.jpg",
    "job=report": "run=outputs/<date>/<run>",
    "data=folder": "data.root=<folder>",
    "data=arrays": "data.path=<file>.npz",
    "initialization=pretrained": "initialization.path=outputs/<date>/<run>",
    "recipe=finetune": "initialization=pretrained initialization.path=outputs/<date>/<run>",
    "recipe=gradual": "initialization=pretrained initialization.path=outputs/<date>/<run>",
    "recipe=transfer": "initialization=pretrained initialization.path=outputs/<date>/<run>",
}


def pages() -> dict[str, str]:
    """The generated part of every group's page."""
    found = options([CONF])
    experiments = "\n".join(experiment(name, file) for name, file in found.pop("experiment").items())
    return {group: page(group, files) for group, files in found.items()} | {"experiment": experiments}


def page(group: str, files: dict[str, Path]) -> str:
    """The options of a group; one of a class that was there before tells only what it sets otherwise."""
    sections, first = [], {}
    for name, file in files.items():
        target = node_of(name, file).get("_target_")
        sections.append(section(group, name, file, first.get(target)))
        if target:
            first.setdefault(target, file)
    return "\n".join(sections)


def node_of(name: str, file: Path) -> dict[str, Any]:
    """An option's keys, of a list group or not."""
    tree = yaml.safe_load(file.read_text()) or {}
    return tree if "_target_" in tree else tree.get(name, {})


def section(group: str, name: str, file: Path, like: Path | None) -> str:
    """One option: headline, docstring, parameters, command, picture; what it has of the option ``like`` is not said again."""
    tree, node = yaml.safe_load(file.read_text()) or {}, node_of(name, file)
    lines = [f"## {name}", "", headline(file), ""]
    rows = parameters(file)
    if like is not None:
        known = parameters(like)
        rows = [row for row in rows if row not in known]
        lines += [f"The keys are those of [{like.stem}](#{like.stem}){', with:' if rows else '.'}", ""]
    elif "_target_" in node:
        text = inspect.getdoc(locate(node["_target_"])) or ""
        text = text.split("\n\n>>>")[0]
        lines += [text, ""]
    command = f"train '{group}=[{name}]'" if group in LISTS and name != "none" else f"train {group}={name}"
    if "defaults" in tree and group in LISTS:
        command = f"train {group}={name}"
    if group == "engine" and name == "ddp":
        command = "torchrun --nproc-per-node 2 -m trainer engine=ddp"
    shell = ["```sh", f"{command} {NEEDED.get(f'{group}={name}', '')}".rstrip(), "```", ""]
    if rows:
        prefix = f"{group}." if "_target_" in tree else f"{group}.{name}."
        table = ["| key | value | meaning |", "|---|---|---|"]
        table += [f"| `{prefix}{key}` | `{value}` | {meaning} |" for key, value, meaning in rows] + [""]
        lines += [*table, *shell] if like else [*shell, *table]
    else:
        lines += shell
    if (DOCS / "pictures" / group / f"{name}.png").exists():
        lines += [f"![{name}](pictures/{group}/{name}.png)", ""]
    return "\n".join(lines)


def experiment(name: str, file: Path) -> str:
    """One experiment: headline, what its header says of it, its command, and its file."""
    head, _, body = file.read_text().removeprefix("# @package _global_\n").partition("\ndefaults:")
    words = " ".join(line.removeprefix("#").strip() for line in head.splitlines()[1:])
    found = dict(
        re.findall(r"(source|claim|expected|command|cost): (.*?)(?= (?:source|claim|expected|command|cost): |$)", words)
    )
    said = [f"- **{key}**: {found[key]}" for key in ("source", "claim", "expected", "cost")]
    config = ["```yaml", f"defaults:{body}".rstrip(), "```", ""]
    return "\n".join([f"## {name}", "", headline(file), "", *said, "", "```sh", found["command"], "```", "", *config])


def parameters(file: Path) -> list[tuple[str, str, str]]:
    """Key, value and comment of each line of an option file that has all three."""
    pattern = re.compile(r"^\s*(\w+):\s+(.*?)\s{2}# (.*)$")
    found = [match.groups() for line in file.read_text().splitlines() if (match := pattern.match(line))]
    return [(key, value, meaning.replace("|", "\\|")) for key, value, meaning in found]


def written(group: str, generated: str) -> str:
    """The page as it should be: what stands by hand, the marker, what is generated."""
    file = DOCS / f"{group}.md"
    by_hand = file.read_text().split(MARKER)[0].rstrip() if file.exists() else f"# {group}"
    return f"{by_hand}\n\n{MARKER}\n\n{generated.rstrip()}\n"


def draw(group: str, name: str, plot: Callable[[Any], None]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 2.4), layout="constrained")
    plot(axes)
    axes.grid(alpha=0.3)
    path = DOCS / "pictures" / group / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw_schedules() -> None:
    """Every schedule over 20 epochs, from its option file; plateau on a history made up for it."""
    from trainer.config.compose import compose
    from trainer.config.schema import resolve
    from trainer.history import History
    from trainer.schedules import Plateau, curve

    for name in options([CONF])["schedule"]:
        config = resolve(compose([f"schedule=[{name}]", "epochs=20"]))
        schedule = config.schedule[name].over(20.0)

        def plot(axes: Any, schedule: Any = schedule) -> None:
            if isinstance(schedule, Plateau):
                losses = [max(1 - 0.12 * i, 0.4) for i in range(20)]
                rows = [{"validation_loss": value} for value in losses]
                axes.plot(range(21), [1, *losses], color="tab:orange", alpha=0.6, label="validation loss")
                values = [schedule(t, History(rows[:t])) for t in range(21)]
                axes.step(range(21), values, where="post", label="multiplier")
                axes.legend(frameon=False, fontsize=8)
            else:
                axes.plot(*curve(schedule, 20.0, 801))
                momenta = [schedule.momentum_at(t / 10) for t in range(201)]
                if momenta[0] is not None:
                    axes.plot([t / 10 for t in range(201)], momenta, "--", label="momentum")
                    axes.legend(frameon=False, fontsize=8)
            axes.set(xlabel="epoch", ylabel="multiplier", ylim=(-0.03, 1.05))

        draw("schedule", name, plot)


def draw_activations() -> None:
    """Every activation and its derivative, from its option file."""
    import torch

    from trainer.config.compose import compose
    from trainer.config.schema import resolve

    for name in options([CONF])["activation"]:
        module = resolve(compose([f"activation={name}"])).activation.build()
        x = torch.linspace(-4, 4, 401, requires_grad=True)
        y = module(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        curves = [t.detach().numpy() for t in (x, y, slope)]

        def plot(axes: Any, curves: Any = curves) -> None:
            axes.plot(curves[0], curves[1], label="value")
            axes.plot(curves[0], curves[2], "--", label="derivative")
            axes.set(ylim=(-1.5, 3))
            axes.legend(frameon=False, fontsize=8)

        draw("activation", name, plot)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pictures", action="store_true")
    given = parser.parse_args()
    if given.pictures:
        draw_schedules()
        draw_activations()
    stale = []
    for group, generated in pages().items():
        file, text = DOCS / f"{group}.md", written(group, generated)
        if not file.exists() or file.read_text() != text:
            stale.append(file.name)
            if not given.check:
                file.write_text(text)
    if given.check and stale:
        print(f"stale: {', '.join(stale)}; run python scripts/docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
