"""``job=export``: a trained network as a file that runs without this program, with preprocessing and class names."""

from __future__ import annotations

import json
import math
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainer.architectures.fusion import fuse
from trainer.checkpoint_data import data_option, splits_for_checkpoint
from trainer.data import FileDataset
from trainer.data.targets import NOUNS
from trainer.errors import ConfigError, Problem
from trainer.exit_codes import FAILED, FINISHED
from trainer.files import atomic_path, write_text
from trainer.formats import JsonObject
from trainer.inference import TrainedModel, trained
from trainer.jobs.model_card import model_card
from trainer.jobs.push import FILES, NotPushed, push
from trainer.literal import print_literal
from trainer.progress import activity
from trainer.run_dir import check_available, create_run_dir, write_json
from trainer.tasks.multilabel import LabelsPart
from trainer.tasks.part import Part
from trainer.tasks.restrict import on_device

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Export

COLORS = {1: "grey", 3: "RGB"}  # by number of channels, as the exported file names them


def export(option: Export, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Export``."""
    check_available(run_dir)
    checkpoint = trained(config, option.prefer, option.weights)
    info, precision = checkpoint.info, checkpoint.precision
    x, source = example_images(config, checkpoint, option.images)
    model = checkpoint.model.to("cpu", memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    deployed = fuse(model) if option.fuse else model
    data = data_option(config, info)
    create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    tasks = checkpoint.task
    single = tasks.option is None and tasks.parts[0].has_classes
    metadata: JsonObject = {
        **({"classes": list(tasks.classes)} if single else {"tasks": [described(part) for part in tasks.parts]}),
        "shape": list(info.shape),
        "colours": COLORS.get(info.shape[0], f"{info.shape[0]} channels"),
        "crop_pct": data.crop if isinstance(data, FileDataset) else 1.0,
        "interpolation": data.resizing if isinstance(data, FileDataset) else "bilinear",
    }
    per_image = config.data.normalize == "channel"
    with activity("computing predictions to compare with"), torch.inference_mode():
        expected = arrays(Deployed(model, checkpoint, per_image).eval()(x))
    module = Deployed(deployed, checkpoint, per_image).eval()
    files = {}
    for name in ("onnx", "torch") if option.format == "both" else (option.format,):
        with activity(f"writing and checking model.{'onnx' if name == 'onnx' else 'pt2'}"):
            path, outputs = (to_onnx if name == "onnx" else to_torch)(module, x, metadata, run_dir)
        difference, output = largest_difference(tasks.parts, outputs, expected)
        if not difference <= option.tolerance:
            path.unlink()  # so that nobody uses it
            text = f"{path.name} differs from the network by {difference:.2g} in {output} on {source}"
            raise ConfigError(Problem("job.tolerance", option.tolerance, text, "job.fuse=false"))
        files[name] = {"file": str(path), "bytes": path.stat().st_size, "difference": difference}
        print_literal(f"{path}: {path.stat().st_size / 2**20:.2f} MiB, largest difference {difference:.1e} on {source}")
    result: JsonObject = {"status": "finished", "stop_reason": "exported", "checkpoint": str(checkpoint.path)}
    result |= {"weights": checkpoint.weights, "checked_on": source, **files, **metadata}
    kind = tasks.parts[0].spec.kind
    of_run = checkpoint.path.parent.parent if checkpoint.path.parent.name == "checkpoints" else checkpoint.path.parent
    name = option.push or of_run.resolve().name
    choice = (option.prefer, checkpoint.weights)
    write_text(run_dir / "README.md", model_card(name, of_run, info.config, result, kind, choice))
    code = FINISHED if option.push is None else pushed(option.push, option.private, run_dir, result)
    write_json(run_dir / "result.json", result)
    return code


def pushed(repository: str, private: bool, run_dir: Path, result: JsonObject) -> int:
    """Push an export, note its address in the result, and return the exit code; on failure print how to do it later."""
    try:
        with activity(f"pushing to {repository}"):
            result["pushed"] = push(run_dir, repository, private)
    except NotPushed as error:
        command = f"hf upload {repository} {shlex.quote(str(run_dir))} --include {' '.join(FILES)}"
        print_literal(
            f"error: {run_dir} is complete, but was not pushed: {error}\n  push it with: {command}", file=sys.stderr
        )
        return FAILED
    print_literal(f"pushed to {result['pushed']}")
    return FINISHED


def output_name(part: Part) -> str:
    """Return the name of the output of a task: the task, or of a single one what it is."""
    return part.name or ("numbers" if part.link == "identity" else "probabilities")


def described(part: Part) -> JsonObject:
    """Return what the file says about the output of a task."""
    kind = part.spec.kind
    about: JsonObject = {"output": output_name(part), "target": part.spec.target, "kind": kind}
    about[NOUNS[kind]] = list(part.classes)
    if isinstance(part, LabelsPart):
        about["thresholds"] = list(part.thresholds)
    return about


def arrays(outputs: Tensor | dict[str, Tensor]) -> list[np.ndarray]:
    """Return the outputs of the network, one for each task."""
    return [output.numpy() for output in ([outputs] if isinstance(outputs, Tensor) else outputs.values())]


def largest_difference(
    parts: Sequence[Part], outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> tuple[float, str]:
    """Return the largest difference of a probability, or of a number in standard deviations, and the name of its output."""
    differences = []
    for part, output, value in zip(parts, outputs, expected, strict=True):
        scale = np.array(part.spec.std) if part.link == "identity" else 1.0
        differences.append((float((abs(output - value) / scale).max()), output_name(part)))
    return max(differences, key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0])


class Deployed(nn.Module):
    """A network with its preprocessing: uint8 (N, C, H, W) to the predictions (N, K) of each task.

    These are probabilities of classes and labels, and numbers in original units.

    Args:
        model: The network, in evaluation mode.
        checkpoint: Where it comes from, for the normalization and the tasks.
        per_image: Whether each channel of an image is normalized by its own mean and standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, checkpoint: TrainedModel, per_image: bool) -> None:
        super().__init__()
        self.model, self.per_image = model, per_image
        self.parts = on_device(checkpoint.task, "cpu").parts
        self.register_buffer("mean", 255 * torch.tensor(checkpoint.info.mean).view(1, -1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(checkpoint.info.std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        x = x.float()
        if self.per_image:
            centered = x - x.mean((2, 3), keepdim=True)
            variance = (centered**2).sum((2, 3), keepdim=True).div(x.shape[2] * x.shape[3] - 1)
            x = centered / variance.sqrt().clamp_min(1.0)
        else:
            x = (x - self.mean) / self.std
        outputs = self.model(x)
        predictions = {output_name(part): part.predict(part.own(outputs)) for part in self.parts}
        return predictions if len(predictions) > 1 else next(iter(predictions.values()))


def example_images(config: Config, checkpoint: TrainedModel, count: int) -> tuple[Tensor, str]:
    """Return images uint8 (N, C, H, W) to check the file with, and what they are: the data's, or random ones without data."""
    c, h, w = checkpoint.info.shape
    try:
        splits = splits_for_checkpoint(config, checkpoint)
        images = splits.test or splits.validation or splits.train
        step = max(1, len(images) // count)
        array: np.ndarray = np.stack([images.center_crop(i, h) for i in range(0, len(images), step)[:count]])
        source = f"{len(array)} images of the data"
    except ConfigError:
        array = np.random.default_rng(0).integers(0, 256, (count, h, w, c), np.uint8)
        source = f"{count} random images, because the data is not available"
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2))), source


def to_onnx(module: Deployed, x: Tensor, metadata: JsonObject, run_dir: Path) -> tuple[Path, list[np.ndarray]]:
    """Write ``model.onnx``; return its path and what onnxruntime computes with it."""
    import onnx
    import onnxruntime

    path = run_dir / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own internals
        program = torch.onnx.export(
            module,
            (x,),
            dynamo=True,
            input_names=["images"],
            output_names=[output_name(part) for part in module.parts],
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        onnx.save(model, str(temporary))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return path, [np.asarray(output) for output in outputs]


def to_torch(module: Deployed, x: Tensor, metadata: JsonObject, run_dir: Path) -> tuple[Path, list[np.ndarray]]:
    """Write ``model.pt2``; return its path and what it computes once read back."""
    path = run_dir / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
        extra = {f"{key}.json": json.dumps(value) for key, value in metadata.items()}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.export.save(program, file, extra_files=extra)
        loaded = torch.export.load(str(path)).module()
    with torch.inference_mode():
        return path, arrays(loaded(x))
