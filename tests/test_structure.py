"""The size of the code: what may only shrink."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import trainer

PACKAGE = Path(trainer.__file__).parent
FRONT_END = [*sorted((PACKAGE / "config").glob("*.py")), PACKAGE / "cli.py"]
NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def tokens(text: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(text).readline))


def code_lines(text: str) -> int:
    """The number of lines that hold code: without docstrings, comments and blank lines."""
    lines = {line for t in tokens(text) if t.type not in NOT_CODE for line in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def test_lines_of_code_are_counted_without_docstrings_comments_and_blank_lines():
    text = '"""Two\nlines."""\n\n# why\nx = """a\nb"""  # here\n\n\ndef f():\n    """One."""\n    return (\n        1\n    )\n'
    assert code_lines(text) == 2 + 1 + 3


def test_the_front_end_does_not_grow():
    assert sum(code_lines(file.read_text()) for file in FRONT_END) < 1000


def test_any_is_used_where_nothing_is_known_only():
    names = (t for file in PACKAGE.rglob("*.py") for t in tokens(file.read_text()) if t.type == tokenize.NAME)
    assert sum(token.string == "Any" for token in names) <= 81


# Imported late on purpose: extras, and large libraries that only some commands need.
LATE = {
    "cmaes", "huggingface_hub", "matplotlib", "mlflow", "mlxtend", "onnx", "onnxruntime", "onnxscript", "optuna",
    "pandas", "pyarrow", "safetensors", "scipy", "sklearn", "sqlalchemy", "timm", "wandb",
}  # fmt: skip


def late_imports(text: str) -> list[str]:
    """The modules that a file imports inside functions."""
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {node for function in functions for node in ast.walk(function)}
    modules = [[n.module or ""] for n in inside if isinstance(n, ast.ImportFrom)]
    modules += [[alias.name for alias in n.names] for n in inside if isinstance(n, ast.Import)]
    return sorted(name for names in modules for name in names)


def test_imports_inside_functions_are_counted_once_and_without_those_at_the_top():
    text = "import a\ndef f():\n    import b, c.d\n    def g():\n        from e.f import h\n    return g\n"
    assert late_imports(text) == ["b", "c.d", "e.f"]


def test_imports_inside_functions_are_those_of_large_libraries():
    late = [name for file in PACKAGE.rglob("*.py") for name in late_imports(file.read_text())]
    assert sum(name.partition(".")[0] not in LATE for name in late) <= 49
