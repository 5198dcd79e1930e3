"""The helper stays small: a lesson must be readable without reading it.

The part of runner and classroom holds what both stand on, too: versions, errors, noise, records.
"""

import ast
import io
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "xpuqlib"
SHARED = ("__init__", "__main__", "cli", "compiled", "environment", "errors", "exercises", "names",
          "noise", "record")  # fmt: skip
RUNNER = [*(PACKAGE / f"{name}.py" for name in SHARED), *(PACKAGE / "runner").glob("*.py"),
          *(PACKAGE / "classroom").glob("*.py")]  # fmt: skip
TEACHING = [path for path in PACKAGE.glob("*.py") if path not in RUNNER]
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
            tokenize.ENDMARKER}  # fmt: skip


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank lines, no comments, no docstrings."""
    source = path.read_text(encoding="utf-8")
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize("path", [*TEACHING, *RUNNER], ids=lambda path: path.name)
def test_no_module_is_over_300_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("part", [TEACHING, RUNNER], ids=["teaching", "runner"])
def test_each_part_is_at_most_1500_lines_of_code(part):
    assert 100 < sum(code_lines(path) for path in part) <= 1500
