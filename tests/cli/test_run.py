"""`aiocarbon run` as people start it: real processes, a device whose watts are known."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aiocarbon

ROOT = str(Path(aiocarbon.__file__).parents[1])
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith("AIOCARBON_")} | {
    "PYTHONPATH": ROOT, "AIOCARBON_LOCK_DIR": "none",
}  # fmt: skip
METER = ("--meters", "simulated:250", "--location", "DK")
SLEEP = ("-c", "import time; time.sleep(0.3); print('said')")


def words(*options: str, command: tuple[str, ...] = (sys.executable, *SLEEP)) -> list[str]:
    return [sys.executable, "-m", "aiocarbon", "run", *METER, *options, "--", *command]


def start(
    folder: Path, *options: str, command: tuple[str, ...] = (sys.executable, *SLEEP), **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*options, command=command),
        cwd=folder,
        env=ENVIRON | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_stdout_is_the_commands_alone_and_the_report_is_on_stderr(tmp_path: Path) -> None:
    done = start(tmp_path, "--name", "a name")
    assert (done.returncode, done.stdout) == (0, "said\n")
    assert done.stderr.startswith("aiocarbon: a name (")
    for word in ("measured, energy counter", "Denmark (DK), as given", "PUE", "CO2eq", "simulated-0"):
        assert word in done.stderr
    assert "\x1b" not in done.stderr


def test_energy_is_the_known_power_times_the_time_of_the_run(tmp_path: Path) -> None:
    done = start(tmp_path, "--json", "out.json", "--pue", "1.5", "--intensity", "100")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["duration_s"] >= 0.3
    truth_kwh = 250.0 * report["duration_s"] / 3.6e6
    assert report["it_energy_kwh_low"] <= report["it_energy_kwh"] <= report["it_energy_kwh_high"]
    assert report["it_energy_kwh"] == pytest.approx(truth_kwh, rel=0.05)  # so short a run, on a busy machine
    assert report["energy_kwh"] == pytest.approx(report["it_energy_kwh"] * 1.5)
    assert report["co2eq_g"] == pytest.approx(report["energy_kwh"] * 100.0)
    assert report["is_final"] is True
    assert done.returncode == 0


def test_an_intensity_file_whose_name_is_no_utf_8_is_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/grid\xff.csv"
    with open(path, "w") as file:
        file.write("from,g_per_kwh\n2026-01-01T00:00Z,150\n2099-01-01T00:00Z,150\n")
    done = start(tmp_path, "--json", "out.json", "--intensity", os.fsdecode(path))
    assert "warning" not in done.stderr
    assert "grid\\udcff.csv" in done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["co2eq_g"] == pytest.approx(report["energy_kwh"] * 150.0)


def test_json_on_stdout_comes_behind_what_the_command_said(tmp_path: Path) -> None:
    done = start(tmp_path, "--json", "-", "--quiet")
    said, _, rest = done.stdout.partition("\n")
    assert said == "said"
    assert json.loads(rest)["schema"] == "aiocarbon.report/1"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (python("raise SystemExit(7)"), 7),
        (python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)"), 143),
        (("no-such-command-anywhere",), 127),
        (("/",), 126),
    ],
)
def test_exit_code_is_the_commands(tmp_path: Path, command: tuple[str, ...], code: int) -> None:
    done = start(tmp_path, command=command)
    assert done.returncode == code
    assert ("no-such-command" in done.stderr) == (code == 127)


def test_stdin_environment_and_arguments_pass_untouched(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.stdin.read(), sys.argv[1:], [k for k in os.environ if 'AIOCARBON' in k])"
    done = subprocess.run(
        words("--no-journal", command=(*python(code), "--name", "--", "-x")),
        cwd=tmp_path,
        env=ENVIRON,
        input="given",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "given ['--name', '--', '-x'] ['AIOCARBON_LOCK_DIR']\n"  # what was there before


def test_journal_lies_in_the_present_folder_and_can_be_read(tmp_path: Path) -> None:
    start(tmp_path, "--run-id", "r1", "--quiet")
    assert list((tmp_path / "aiocarbon_runs" / "r1").glob("*.jsonl"))
    assert list(tmp_path.iterdir()) == [tmp_path / "aiocarbon_runs"]


def test_no_journal_means_none(tmp_path: Path) -> None:
    start(tmp_path, "--no-journal")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["option", "environment", "file", "environment none"])
def test_journal_goes_where_the_user_said(tmp_path: Path, how: str) -> None:
    if how == "file":
        (tmp_path / "pyproject.toml").write_text('[tool.aiocarbon]\njournal = "else"\n')
    environ = {"environment": {"AIOCARBON_JOURNAL": "else"}, "environment none": {"AIOCARBON_JOURNAL": "none"}}
    start(tmp_path, *(("--journal", "else") if how == "option" else ()), **environ.get(how, {}))
    assert (tmp_path / "else").is_dir() == (how != "environment none")
    assert not (tmp_path / "aiocarbon_runs").exists()


def test_journal_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = start(tmp_path, "--journal", "file/journal", command=python("raise SystemExit(3)"))
    assert done.returncode == 3
    assert [line for line in done.stderr.splitlines() if "file/journal" in line and "warning" in line]
    assert done.stderr.count("file/journal") == 1


def test_full_disk_under_the_json_is_said_and_changes_no_exit_code(tmp_path: Path) -> None:
    done = start(tmp_path, "--json", "/dev/full", command=python("raise SystemExit(3)"))
    assert done.returncode == 3
    assert "/dev/full cannot be written: No space left on device" in done.stderr


def test_full_stdout_is_said_and_changes_no_exit_code(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            words("--json", "-", "--quiet", command=python("raise SystemExit(3)")),
            cwd=tmp_path,
            env=ENVIRON,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert "stdout cannot be written" in done.stderr


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_closed_streams_stay_closed_to_the_command_and_change_nothing(tmp_path: Path, closed: str) -> None:
    code = (
        "import os, sys\n"
        "def there(fd):\n"
        "    try: os.fstat(fd)\n"
        "    except OSError: return ''\n"
        "    return str(fd)\n"
        "seen = ' '.join(fd for fd in map(there, (0, 1, 2)) if fd)\n"
        "open('seen', 'w').write(seen); sys.exit(4)"
    )
    shell = 'exec "$@" ' + " ".join(f"{fd}>&-" for fd in closed.split())
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *words("--json", "out.json", command=python(code))],
        cwd=tmp_path,
        env=ENVIRON,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 4
    assert (tmp_path / "seen").read_text().split() == [fd for fd in "012" if fd not in closed.split()]
    assert json.loads((tmp_path / "out.json").read_text())["is_final"] is True
    assert done.stdout == b""


def test_no_home_and_nobody_known_is_no_trouble(tmp_path: Path) -> None:
    environ = {k: v for k, v in ENVIRON.items() if k not in {"HOME", "USER", "LOGNAME"}}
    done = subprocess.run(words(), cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "said\n")
    assert "Traceback" not in done.stderr


def test_interrupt_reaches_the_command_once_and_the_report_still_comes(tmp_path: Path) -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        words(command=python(code)),
        cwd=tmp_path,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        report = process.stderr.read()
        assert process.wait() == 5
    assert "90 % range" in report
    assert "Traceback" not in report


def test_sigterm_again_and_again_and_sigcont_cost_no_report(tmp_path: Path) -> None:
    command = python("import time; print('begun', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        words("--json", "F", command=command),
        cwd=tmp_path,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    # SLURM sends it again within milliseconds, to everything that the step started: here until the report is begun.
    with process:
        while not select.select([process.stderr], [], [], 0.001)[0]:
            process.send_signal(signal.SIGTERM)
        err = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert err.startswith("aiocarbon: ")
    assert "overhead" in err
    told = json.loads((tmp_path / "F").read_text())
    assert (told["is_final"], told["ended_well"]) == (True, False)


def test_instrument_that_cannot_start_lets_the_command_run_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "anyio").mkdir()
    (tmp_path / "anyio" / "__init__.py").write_text("raise ImportError('broken')")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    done = start(tmp_path, command=python("print('ran'); raise SystemExit(6)"), PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (6, "ran\n")
    assert done.stderr.count("\n") == 1
    assert "there is no report" in done.stderr
    strict = start(tmp_path, "--strict", command=python("print('ran')"), PYTHONPATH=path)
    assert (strict.returncode, strict.stdout) == (1, "")


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        (("--pue", "0.5"), {}),
        (("--meters", "nosuch"), {}),
        (("--location", "XX"), {}),
        (("--interval-s", "nan"), {}),
        (("--epochs", "-1"), {}),
        (("--device-sync", "cuda"), {}),
        ((), {"AIOCARBON_PUE": "0.5"}),
    ],
)
def test_value_that_is_not_accepted_is_one_line_before_anything_starts(
    tmp_path: Path, options: tuple[str, ...], environ: dict[str, str]
) -> None:
    done = start(tmp_path, *options, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "is not accepted: expected" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_budget_ends_the_command_with_its_own_code(tmp_path: Path) -> None:
    done = start(
        tmp_path, "--budget", "duration_s=0.2", "--interval-s", "0.05", command=python("import time; time.sleep(50)")
    )
    assert done.returncode == 124
    assert "the time budget of 0.2 s is used up" in done.stderr


def test_live_line_is_for_terminals_alone(tmp_path: Path) -> None:
    assert "\r" not in start(tmp_path, "--live").stderr


@pytest.mark.parametrize("no_color", ["", "1"])
def test_live_line_and_colours_on_a_terminal(tmp_path: Path, no_color: str) -> None:
    master, terminal = pty.openpty()
    # The command ends when the live line was seen, so nothing depends on how fast this machine is.
    with subprocess.Popen(
        words("--live", "--interval-s", "0.05", command=python("input(); print('read')")),
        cwd=tmp_path,
        env=ENVIRON | {"TERM": "xterm", "NO_COLOR": no_color},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        seen = b""
        while b"CO2eq" not in seen:
            seen += os.read(master, 4096)
        assert b"\r\x1b[K" in seen
        assert b" W  " in seen
        assert b"\x1b[K0 W" not in seen  # before the first readings nothing is said to be 0
        out, _ = process.communicate("go\n")
        seen = b""
        while chunk := _read(master):
            seen += chunk
    os.close(master)
    assert (process.returncode, out) == (0, "read\n")
    assert (b"\x1b[1maiocarbon: " in seen) == (not no_color)


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # EIO: the last one closed the terminal
        return b""
