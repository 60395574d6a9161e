"""`aiocarbon run --budget-*`: units, refusals, and the command ended by SIGTERM, then SIGKILL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiocarbon.budget import Budget
from aiocarbon.cli.main import main
from aiocarbon.cli.options import make_parser, run_options

WATTS = ["--no-journal", "--meters", "simulated:250", "--pue", "1", "--intensity", "100", "--interval-s", "0.02"]


def budget(*words: str) -> Budget | None:
    found: Any = run_options(make_parser().parse_args(["run", *words]), ["true"]).settings.get("budget")
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--budget-co2eq", "500g"], Budget(co2eq_g=500.0)),
        (["--budget-co2eq", "1.5 kg"], Budget(co2eq_g=1500.0)),
        (["--budget-co2eq", "2t"], Budget(co2eq_g=2e6)),
        (["--budget-energy", "800Wh"], Budget(energy_kwh=0.8)),
        (["--budget-energy", "2kWh"], Budget(energy_kwh=2.0)),
        (["--budget-energy", "1.2 MWh"], Budget(energy_kwh=1200.0)),
        (["--budget-time", "30s"], Budget(duration_s=30.0)),
        (["--budget-time", "90min"], Budget(duration_s=5400.0)),
        (["--budget-time", "3h", "--budget-co2eq", "1g"], Budget(co2eq_g=1.0, duration_s=10800.0)),
        (["--budget-time", "1.5d"], Budget(duration_s=129600.0)),
    ],
)
def test_limits_with_their_units(words: list[str], expected: Budget | None) -> None:
    assert budget(*words) == expected


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (["--budget-co2eq", "500"], "g, kg or t"),
        (["--budget-co2eq", "500 lb"], "g, kg or t"),
        (["--budget-co2eq", "-1g"], "g, kg or t"),
        (["--budget-co2eq", "0g"], "g, kg or t"),
        (["--budget-co2eq", "nan g"], "g, kg or t"),
        (["--budget-energy", "2"], "Wh, kWh or MWh"),
        (["--budget-energy", "2 kwh"], "Wh, kWh or MWh"),
        (["--budget-energy", "2 J"], "Wh, kWh or MWh"),
        (["--budget-energy", "infkWh"], "Wh, kWh or MWh"),
        (["--budget-time", "3"], "s, min, h, d"),
        (["--budget-time", "3 m"], "s, min, h, d"),
        (["--budget-time", "0s"], "s, min, h, d"),
        (["--budget-time", ""], "s, min, h, d"),
        (["--budget-time", "3h", "--budget", "duration_s=5"], "--budget-time say the same"),
    ],
)
def test_bad_limits_are_refused_with_the_list(
    words: list[str], listed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    joined = [f"{words[0]}={words[1]}", *words[2:]]  # a value may begin with "-"
    assert main(["run", *joined, "--", "true"]) == 2
    assert listed in capsys.readouterr().err


def run(folder: Path, *words: str, command: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    file = folder / "report.json"
    arguments = ["run", *WATTS, "--json", str(file), *words, "--", sys.executable, "-c", command]
    done = subprocess.run(
        [sys.executable, "-m", "aiocarbon", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=folder,
        check=False,
    )
    return done, json.loads(file.read_text())


@pytest.mark.parametrize(
    "limit", [("--budget-time", "0.2s"), ("--budget-energy", "0.01Wh"), ("--budget-co2eq", "0.001g")]
)
def test_a_command_beyond_its_limit_is_asked_to_end_and_exits_with_124(tmp_path: Path, limit: tuple[str, str]) -> None:
    polite = (
        "import signal, sys, time; signal.signal(15, lambda *_: (print('asked', flush=True), sys.exit(3)));"
        "time.sleep(60)"
    )
    done, report = run(tmp_path, *limit, command=polite)
    assert done.returncode == 124
    assert done.stdout == "asked\n"
    assert "aiocarbon: the command was ended: the " in done.stderr
    assert report["is_final"]
    assert any("budget" in warning and "is used up" in warning for warning in report["warnings"])


def test_a_command_within_its_limits_keeps_its_own_exit_code(tmp_path: Path) -> None:
    done, report = run(tmp_path, "--budget-energy", "1MWh", "--budget-time", "1d", command="raise SystemExit(7)")
    assert done.returncode == 7
    assert not [warning for warning in report["warnings"] if "budget" in warning]
