"""The README's code runs, and its shown output has the form of what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_it_opens_with_exactly_two_commands() -> None:
    commands = [line for line in blocks("bash")[0].splitlines() if line.strip()]
    assert len(commands) == 2
    assert "aiocarbon demo" in commands[0]
    assert "pytest" in commands[1]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["the ten lines", "the budget", "the spans"])
def test_the_examples_print_what_the_readme_shows(tmp_path: Path, which: int) -> None:
    example = blocks("python")[which]
    shown = blocks("text")[which].splitlines()
    environ = {**os.environ, "AIOCARBON_METERS": "simulated:250"}
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, cwd=tmp_path, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = done.stdout.splitlines()
    assert len(printed) == len(shown)
    for ours, theirs in zip(printed, shown, strict=True):
        assert form(ours) == form(theirs)


def form(line: str) -> str:
    """A line up to its first comma or colon, with all numbers alike."""
    return re.split(r"[,:] ", re.sub(r"[\d.]+(e-?\d+)?", "0", line))[0]


def test_the_example_is_ten_lines_of_use() -> None:
    body = blocks("python")[0].split("async def main():\n")[1]
    assert len([line for line in body.splitlines() if line.strip()]) <= 10
