"""The README's code runs, and its shown output has the form of what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_it_opens_with_exactly_two_commands() -> None:
    commands = [line for line in blocks("bash")[0].splitlines() if line.strip()]
    assert len(commands) == 2
    assert "aiocarbon demo" in commands[0]
    assert "pytest" in commands[1]


def test_the_example_prints_what_the_readme_shows(tmp_path: Path) -> None:
    example = blocks("python")[0]
    shown = blocks("text")[0].splitlines()
    environ = {**os.environ, "AIOCARBON_METERS": "simulated:250"}
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, cwd=tmp_path, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = done.stdout.splitlines()
    assert len(printed) == len(shown)
    for ours, theirs in zip(printed, shown, strict=True):
        assert re.sub(r"[\d.]+", "0", ours).split(",")[0] == re.sub(r"[\d.]+", "0", theirs).split(",")[0]


def test_the_example_is_ten_lines_of_use() -> None:
    body = blocks("python")[0].split("async def main():\n")[1]
    assert len([line for line in body.splitlines() if line.strip()]) <= 10
