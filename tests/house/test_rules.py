"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRAWERS = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
MODULE_LINES = 400
FUNCTION_LINES = 40


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


MODULES = tracked("*.py")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_module_is_longer_than_a_reader_can_hold():
    long = {name(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > MODULE_LINES}

    assert not long


def test_no_function_is_longer_than_a_screen():
    long = []
    for path in MODULES:
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if not body:
                    continue
                length = (body[-1].end_lineno or 0) - body[0].lineno + 1
                # "long:" and a reason beside the def allows it.
                if length > FUNCTION_LINES and "# long:" not in lines[node.lineno - 1]:
                    long.append(f"{name(path)}:{node.lineno} {node.name} {length}")

    assert not long


def test_no_module_is_a_drawer():
    assert not [name(p) for p in MODULES if p.stem in DRAWERS]


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "raise NotImplementedError"])
def test_nothing_is_left_open_in_the_code(word):
    this = Path(__file__)
    assert not [name(p) for p in MODULES if p != this and word in p.read_text()]


def test_no_machine_path_and_no_scratch_folder_is_named():
    words = ("/work" + "/", "../" + "shared", "/tmp" + "/w/")
    texts = tracked("*.py", "*.md", "*.java", "*.sh", "*.yml", "*.toml", "Makefile", "*.json")

    found = [f"{name(p)}: {w}" for p in texts for w in words if w in p.read_text(errors="replace")]

    assert not found


def test_nothing_large_is_in_the_repository():
    limit = 5 * 1024 * 1024
    assert not {name(p): p.stat().st_size for p in tracked() if p.stat().st_size > limit}
