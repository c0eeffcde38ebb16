"""The structure: an import goes down the layers only, no two parts need each other, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import trainer

PACKAGE = Path(trainer.__file__).parent

# Every top-level part of the package and its layer, as in the design.
LAYERS = {
    "errors": 0, "history": 0, "exit_codes": 0, "files": 0, "parameters": 0,
    "schedules": 1, "analysis": 1, "hardware": 1,
    "activations": 2, "architectures": 2, "initialization": 2, "optimizers": 2, "regularizers": 2, "averaging": 2,
    "augmentation": 2, "data": 2,
    "engine": 3,
    "run_dir": 4, "observers": 4, "report": 4,
    "config": 5, "api": 7, "builder": 6, "inference": 6, "jobs": 6,
    "sweep": 7, "cli": 7, "__main__": 7,
}  # fmt: skip


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(file: Path) -> set[str]:
    """The parts a file imports, also inside functions and for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("trainer.")}
    return found & LAYERS.keys()


def arrows() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in files():
        part = part_of(file)
        found.setdefault(part, set()).update(imports_of(file) - {part})
    return found


def files() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


def test_every_part_has_a_layer():
    assert {part_of(file) for file in files()} == set(LAYERS)


def test_imports_go_down_the_layers_only():
    upward = [(a, b) for a, parts in arrows().items() for b in parts if LAYERS[b] > LAYERS[a]]
    assert not upward


def test_no_two_parts_need_each_other():
    graph, done, path = arrows(), set(), []

    def visit(part: str) -> None:
        assert part not in path, f"a circle: {' -> '.join([*path, part])}"
        if part in done:
            return
        path.append(part)
        for other in graph[part]:
            visit(other)
        path.pop()
        done.add(part)

    for part in graph:
        visit(part)


def test_the_lowest_layer_needs_nothing_but_python():
    names = ", ".join(f"trainer.{part}" for part, layer in LAYERS.items() if layer == 0)
    code = (
        f"import sys, {names}; print([m for m in ('torch', 'numpy', 'omegaconf', 'hydra', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_and_functions_stay_small():
    for file in files():
        text = file.read_text()
        assert len(text.splitlines()) <= 300, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 60, f"{file.name}: {node.name}"
