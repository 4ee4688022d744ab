"""Write the reference pages that follow from the code: settings and commands.

`python tools/reference.py` writes them; `--check` exits 1 when a page is out of date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import typer

from hilum.cli import app
from hilum.sections import CHECKOUT
from hilum.settings import Settings, rows

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"


def settings_page() -> str:
    """docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made by `tools/reference.py`; `hilum settings` shows the values in force.",
        "",
        "A setting comes from the environment, else `hilum.toml` in the working folder (or the",
        "file that `HILUM_SETTINGS` names), else it has its default. A name that is not known is",
        "an error.",
        "",
        "| setting | environment | default | meaning |",
        "|---|---|---|---|",
    ]
    for row in rows(Settings.model_construct()):
        default = row.default.replace(str(CHECKOUT), "(checkout)")
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{row.name}` | `{row.variable}` | {shown} | {row.description} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """docs/reference/commands.md."""
    root = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "Made by `tools/reference.py` from the help texts. Every command takes `--help`, and",
        "`--data FOLDER` where it works on a data folder (default: `HILUM_DATA`, else `./var`).",
        "",
    ]
    for path, command in _commands(root, "hilum"):
        lines += [f"## {path}", "", (command.help or "").strip(), ""]
        for parameter in command.params:
            if parameter.name in ("help", "data"):
                continue
            text = getattr(parameter, "help", None) or ""
            name = " / ".join(parameter.opts) if parameter.opts[0].startswith("-") else "ARGUMENT"
            name = str(parameter.name).upper() if name == "ARGUMENT" else name
            lines.append(f"- `{name}` {text}".rstrip())
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _commands(command: Any, path: str) -> list[tuple[str, Any]]:
    names = getattr(command, "commands", None)
    if names is None:
        return [(path, command)]
    return [found for name, child in names.items() for found in _commands(child, f"{path} {name}")]


PAGES = {"settings.md": settings_page, "commands.md": commands_page}


def main() -> int:
    """Write or check. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if check and (not path.is_file() or path.read_text() != text):
            stale.append(name)
        elif not check:
            path.write_text(text)
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run python tools/reference.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
