"""Where numbers stop being numbers: the first layer of a pass whose output is not finite."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from trainer.engine.run import Run


def first_nonfinite(run: Run) -> str | None:
    """The name of the first layer, in the order of the pass of the last batch, whose weights or output hold what is no finite
    number; None where all are finite. Nothing of the model or the random numbers is changed.
    """
    import torch

    from trainer.observers.no_side_effects import no_side_effects

    found: list[str] = []
    with contextlib.ExitStack() as stack:
        for name, module in run.model.named_modules():
            if next(module.children(), None) is not None:
                continue

            def look(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                own = all(bool(p.isfinite().all()) for p in module.parameters())
                if not found and not (own and isinstance(output, torch.Tensor) and bool(output.isfinite().all())):
                    found.append(f"{name} ({type(module).__name__}{'' if own else ', in its weights'})")

            stack.callback(module.register_forward_hook(look).remove)
        stack.enter_context(no_side_effects(run))
        assert run.batch is not None
        run.model(run.batch[0][:32])
    return found[0] if found else None
