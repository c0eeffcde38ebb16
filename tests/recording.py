"""What stands for a CUDA graph on the CPU: it repeats the same operations on the same memory with the same numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

UNMARKED = ("native_batch_norm",)  # writes its running statistics, which its schema does not tell


class Tape(TorchDispatchMode):
    """Notes every operation with its tensors. Python runs once: a number that it computes stays what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Any, Any]] = {}  # memory that was there and is written to, and a copy of it
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")  # Python asks for a number
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if func._schema.is_mutable or any(name in func.__name__ for name in UNMARKED):
            for t in given:
                if place(t) not in self.made and place(t) not in self.before:
                    self.before[place(t)] = (t.untyped_storage(), t.untyped_storage().clone())
        out = func(*args, **kwargs)
        self.made |= {place(t) for t in tree_leaves(out) if isinstance(t, Tensor)} - {place(t) for t in given}
        self.operations.append((func, args, kwargs, out))
        return out


def place(t: Tensor) -> int:
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
        finally:  # a graph is recorded without being done
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
    """The operation again, its results to where the first ones lie."""
    given = {place(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
    results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    fresh = [i for i, t in enumerate(results) if t.numel() and place(t) not in given]
    if not fresh and not func._schema.is_mutable:
        return  # a view
    again = [t for t in tree_leaves(func(*args, **kwargs)) if isinstance(t, Tensor)]
    for i in fresh:
        results[i].copy_(again[i])
