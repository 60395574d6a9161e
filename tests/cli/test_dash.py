"""`aiocarbon dash` as a program: it says where it is, Ctrl-C ends it, and what cannot be is told in a word."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from aiocarbon.cli.main import main


def started(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "aiocarbon", "dash", str(folder), "--port", "0"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, next(word for word in line.split() if word.startswith("http://"))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_it_serves_until_ctrl_c_with_a_page_open(tmp_path: Path) -> None:
    process, address = started(tmp_path / "runs")
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"aiocarbon" in answer.read()
        with urllib.request.urlopen(f"{address}events", timeout=30) as page:
            assert page.readline().startswith(b"event")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert err == ""


def test_a_taken_port_is_a_failure_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["dash", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 1
    assert "--port 0 takes a free one" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["x", "-1", "65536", "", "1.5"])
def test_what_is_no_port_is_refused(tmp_path: Path, port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dash", str(tmp_path), f"--port={port}"]) == 2
    assert "is no port: expected 0 to 65535" in capsys.readouterr().err


def test_a_file_is_no_folder_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").touch()
    assert main(["dash", str(tmp_path / "x")]) == 2
    assert "is no folder" in capsys.readouterr().err
