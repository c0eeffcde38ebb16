"""The structure: imports go down the layers, without cycles between packages or modules; files and functions stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import trainer

PACKAGE = Path(trainer.__file__).parent

# Every top-level part of the package and its layer, as in the design.
LAYERS = {
    "errors": 0, "history": 0, "columns": 0, "exit_codes": 0, "files": 0, "literal": 0, "formats": 0, "parameters": 0, "lock": 0,
    "streams": 0, "construct": 0, "interfaces": 0, "trust": 0, "yaml_files": 0, "progress": 0, "gpus": 0, "existing": 0,
    "plain": 0, "duration": 0, "interrupt": 0, "skeletons": 1, "about": 1, "settings": 0, "tree": 0, "environment": 0,
    "measurements": 0, "schedules": 1, "analysis": 1, "hardware": 1, "weight_files": 1,
    "activations": 2, "architectures": 2, "initialization": 2, "optimizers": 2, "regularizers": 2, "averaging": 2,
    "augmentation": 2, "data": 2, "tasks": 2,
    "engine": 3,
    "run_dir": 1, "records": 1, "places": 1, "flags": 1, "observers": 4, "report": 4,
    "config": 5, "api": 7, "builder": 6, "loaders": 6, "inference": 6, "checkpoint_data": 6,
    "data_constraints": 6, "search": 6, "jobs": 6,
    "renamed": 1, "synonyms": 1, "suggestions": 1, "command_words": 1,
    "instantiate": 3, "help": 6, "config_text": 6, "editor_schema": 6, "pages": 6,
    "sweep": 7, "completion": 6, "commands": 7, "cli": 7, "__main__": 7,
}  # fmt: skip


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports_of(file: Path) -> set[str]:
    """The modules of the package that a file imports, also inside functions and for types alone."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "trainer":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name in MODULES}
    return modules - {module_of(file), "trainer"}


def files() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


MODULES = {module_of(file) for file in files()}


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A path of imports that comes back to its start; empty where there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            if found := visit(other, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in graph if (found := visit(node, []))), [])


def test_every_part_has_a_layer():
    assert {part_of(file) for file in files()} == set(LAYERS)


def test_imports_go_down_the_layers_only():
    layers = {module_of(file): LAYERS[part_of(file)] for file in files()}
    upward = [(module_of(f), m) for f in files() for m in imports_of(f) if layers[m] > LAYERS[part_of(f)]]
    assert upward == []


def test_no_two_packages_import_each_other():
    graph: dict[str, set[str]] = {}
    for file in files():
        part = part_of(file)
        graph.setdefault(part, set()).update(m.split(".")[1] for m in imports_of(file) if m.split(".")[1] != part)
    assert cycle(graph) == []


def test_no_two_modules_import_each_other():
    assert cycle({module_of(file): imports_of(file) for file in files()}) == []


def test_the_lowest_layer_imports_no_large_library():
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
                assert (node.end_lineno or 0) - node.lineno <= 50, f"{file.name}: {node.name}"
