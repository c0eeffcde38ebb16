"""``job=export``: a trained network as a file that runs without this program, its preprocessing and class names inside."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import ConfigError, Problem, check
from trainer.run_dir import check_available, create_run_dir, write_json

if TYPE_CHECKING:
    import numpy as np

    from trainer.config.schema import Config
    from trainer.inference import TrainedModel


@dataclass(frozen=True)
class Export:
    """Write ``model.onnx`` or ``model.pt2`` (torch.export) of ``checkpoint``: uint8 pictures (N, C, H, W) go in, probabilities
    (N, K) come out; class names, size and colours are in the file. Batch norm is folded where ``fuse`` is on.

    The file is read back and put before ``pictures`` real pictures; where a probability differs from the network's by
    more than ``tolerance`` the job fails.
    """

    format: Literal["onnx", "torch", "both"] = "onnx"
    fuse: bool = True
    pictures: int = 16
    tolerance: float = 1e-4
    prefer: Literal["best", "last"] = "best"
    weights: Literal["auto", "model", "averaged"] = "auto"

    def __post_init__(self) -> None:
        check(
            self,
            pictures=(self.pictures >= 2, "must be >= 2"),
            tolerance=(self.tolerance > 0, "must be > 0 (a difference of probabilities)"),
        )

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        check_available(folder)
        import torch

        from trainer.architectures.fusion import fuse
        from trainer.inference import trained

        if self.format != "torch":
            needed()
        found = trained(config, self.prefer, self.weights)
        x, which = examples(config, found, self.pictures)
        create_run_dir(folder, config.tree, overrides, f"{found.precision.device}, {found.precision.name}")
        plain = found.model.to("cpu", memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        known = {"classes": list(found.info.classes), "shape": list(found.info.shape), "colours": colours(found)}
        known |= {"crop_pct": getattr(config.data, "crop", 1.0)}
        per_picture = config.data.normalize == "channel"
        with torch.inference_mode():
            expected = deployed(plain, found, per_picture)(x).numpy()
        module = deployed(fuse(copy.deepcopy(plain)) if self.fuse else plain, found, per_picture)
        written = {}
        for name in ("onnx", "torch") if self.format == "both" else (self.format,):
            write_it = to_onnx if name == "onnx" else to_torch
            path, answer = write_it(module, x, known, folder)
            difference = float(abs(answer - expected).max())
            if difference > self.tolerance:
                path.unlink()  # who looks for the file would take it for good
                text = f"differs from the network by {difference:.2g} of probability on {which}"
                raise ConfigError(Problem("job.tolerance", self.tolerance, f"{path.name} {text}", "job.fuse=false"))
            written[name] = {"file": str(path), "bytes": path.stat().st_size, "difference": difference}
            print(f"{path}: {path.stat().st_size / 2**20:.2f} MiB, at most {difference:.1e} off on {which}")
        result = {"status": "finished", "stop_reason": "exported", "checkpoint": str(found.path)}
        write_json(folder / "result.json", result | {"weights": found.weights, "checked_on": which, **written, **known})
        return 0


def needed() -> None:
    """ConfigError where the extra is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        hint = "pip install 'trainer[export]', or job.format=torch"
        raise ConfigError(Problem("job.format", "onnx", f"needs {error.name}", hint)) from None


def colours(found: TrainedModel) -> str:
    return {1: "grey", 3: "RGB"}.get(found.info.shape[0], f"{found.info.shape[0]} channels")


def deployed(model: Any, found: TrainedModel, per_picture: bool) -> Any:
    """The network with what comes before and after it: uint8 (N, C, H, W) to probabilities (N, K)."""
    import torch
    from torch import Tensor, nn

    class Deployed(nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.register_buffer("mean", 255 * torch.tensor(found.info.mean).view(1, -1, 1, 1))
            self.register_buffer("std", 255 * torch.tensor(found.info.std).view(1, -1, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = x.float()
            if per_picture:
                mean = x.mean((2, 3), keepdim=True)
                x = (x - mean) / ((x - mean) ** 2).sum((2, 3), keepdim=True).div(
                    x.shape[2] * x.shape[3] - 1
                ).sqrt().clamp_min(1.0)
            else:
                x = (x - self.mean) / self.std
            return self.model(x).softmax(1)

    return Deployed().eval()


def examples(config: Config, found: TrainedModel, count: int) -> tuple[Any, str]:
    """Pictures uint8 (N, C, H, W) to check the file with: the data's, or, where that is not there, random ones; and which."""
    import numpy as np
    import torch

    from trainer.inference import splits_for_checkpoint

    c, h, w = found.info.shape
    try:
        splits = splits_for_checkpoint(config, found.info)
        part = splits.test or splits.validation or splits.train
        step = max(1, len(part) // count)
        stacked: np.ndarray = np.stack([part.center_crop(i, h) for i in range(0, len(part), step)[:count]])
        which = f"{len(stacked)} pictures of the data"
    except ConfigError:
        stacked = np.random.default_rng(0).integers(0, 256, (count, h, w, c), np.uint8)
        which = f"{count} random pictures, because the data is not there"
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))), which


def to_onnx(module: Any, x: Any, known: dict[str, Any], folder: Path) -> tuple[Path, np.ndarray]:
    """``model.onnx``, and what onnxruntime makes of it."""
    import onnx
    import onnxruntime
    import torch

    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own workings
        program = torch.onnx.export(
            module, (x,), dynamo=True, input_names=["pictures"], output_names=["probabilities"],
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}}, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    for key, value in known.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer: Any = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    return path, answer


def to_torch(module: Any, x: Any, known: dict[str, Any], folder: Path) -> tuple[Path, np.ndarray]:
    """``model.pt2``, and what it makes of the pictures once read back."""
    import torch

    path = folder / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
        extra = {f"{key}.json": json.dumps(value) for key, value in known.items()}
        torch.export.save(program, str(path), extra_files=extra)
        again = torch.export.load(str(path)).module()
    with torch.inference_mode():
        return path, again(x).numpy()
