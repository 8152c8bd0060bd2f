"""Every `millrace …` that a document or a message tells people to type is a command, and its options are options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import typer

from libs.cli.app import app

ROOT: Final = Path(__file__).parents[3]
PLACES: Final = ("*.md", "docs/**/*.md", "services/**/*.md", "services/**/*.py", "libs/**/*.py", "deploy/**/*.yaml")
QUOTED: Final = re.compile(r"`millrace ([^`\n]+)`")
TYPED: Final = re.compile(r"^millrace ([^#\n]+)", re.MULTILINE)  # In a block of commands.
MILLRACE: Final[object] = typer.main.get_command(app)


def named() -> Iterator[tuple[str, str]]:
    """Where a command is named, and what follows its `millrace`."""
    for pattern in PLACES:
        for path in sorted(ROOT.glob(pattern)):
            text = path.read_text()
            lines = QUOTED.findall(text) + (TYPED.findall(text) if path.suffix == ".md" else [])
            for line in lines:
                for part in line.partition(" | ")[0].split("; "):
                    yield str(path.relative_to(ROOT)), part.removeprefix("millrace ").strip()


def wrong_in(line: str) -> str:
    """The first word of a line that the command would not know; empty if there is none."""
    command, skips = MILLRACE, False
    for word in (each.rstrip(".,;:)") for each in line.split()):
        below = getattr(command, "commands", {})
        if skips or not re.fullmatch(r"--?[a-z-]+|[a-z][a-z-]*", word):
            skips = False
        elif word.startswith("--"):
            if word not in {"--help", *_options(command), *_options(MILLRACE)}:
                return word
            skips = command is MILLRACE
        elif word in below:
            command = below[word]
        elif below and not getattr(command, "invoke_without_command", False):
            return word
    return ""


def _options(command: object) -> set[str]:
    return {name for each in getattr(command, "params", ()) for name in (*each.opts, *each.secondary_opts)}


def test_what_people_are_told_to_type_is_there() -> None:
    found = list(named())

    assert len(found) > 100
    assert [f"{where}: millrace {line}: {wrong}" for where, line in found if (wrong := wrong_in(line))] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("--profile operator tenants list", ""),
        ("endpoints create hello --model m --wait", ""),
        ("usage --by day", ""),
        ("usage --cost", "--cost"),
        ("tenants set … --budget N", "set"),
        ("endpoint get hello", "endpoint"),
    ],
)
def test_a_command_or_an_option_that_is_none_is_seen(line: str, wrong: str) -> None:
    assert wrong_in(line) == wrong
