"""A substitute for CUDA graphs on the CPU: it repeats the same operations on the same memory with the same numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

UNMARKED = ("native_batch_norm",)  # writes its running statistics, although its schema does not say so


class Tape(TorchDispatchMode):
    """Records every operation with its tensors. Python runs only once: a number that it computes remains as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Any, Any]] = {}  # existing memory that is written to, and a copy of it
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")  # reads a number
        kwargs = kwargs or {}
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if func._schema.is_mutable or any(name in func.__name__ for name in UNMARKED):
            for t in inputs:
                if address(t) not in self.made and address(t) not in self.before:
                    self.before[address(t)] = (t.untyped_storage(), t.untyped_storage().clone())
        out = func(*args, **kwargs)
        self.made |= {address(t) for t in tree_leaves(out) if isinstance(t, Tensor)} - {address(t) for t in inputs}
        self.operations.append((func, args, kwargs, out))
        return out


def address(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


class GraphOnCPU:
    """``trainer.engine.cuda_graph.Recorder`` for the CPU; counts the replays."""

    def __init__(self) -> None:
        self.replays = self.records = 0

    def record(self, work: Any) -> Any:
        tape, random = Tape(), torch.get_rng_state()
        self.records += 1
        try:
            with tape:
                work()
        finally:  # recording a graph does not run it
            for memory, copy in tape.before.values():
                memory.copy_(copy)
            torch.set_rng_state(random)

        def replay() -> None:
            self.replays += 1
            with torch.no_grad():
                for func, args, kwargs, out in tape.operations:
                    repeat(func, args, kwargs, out)

        return replay


def repeat(func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Repeat the operation and write its results to the memory of the first ones."""
    inputs = {address(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
    results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    new = [i for i, t in enumerate(results) if t.numel() and address(t) not in inputs]
    if not new and not func._schema.is_mutable:
        return  # a view
    repeated = [t for t in tree_leaves(func(*args, **kwargs)) if isinstance(t, Tensor)]
    for i in new:
        results[i].copy_(repeated[i])
