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
    assert sum(code_lines(file.read_text()) for file in FRONT_END) <= 1220


def test_any_is_used_where_nothing_is_known_only():
    names = (t for file in PACKAGE.rglob("*.py") for t in tokens(file.read_text()) if t.type == tokenize.NAME)
    assert sum(token.string == "Any" for token in names) <= 220
