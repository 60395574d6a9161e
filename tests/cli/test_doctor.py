"""`aiocarbon doctor`: bad days of meters, by a plug-in package that is made for the test, and the real machine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aiocarbon

ROOT = str(Path(aiocarbon.__file__).parents[1])

PLUGIN = """
import threading
from aiocarbon.errors import MeterPermissionError, ReadError
from aiocarbon.meters.simulated import SimulatedMeter
from aiocarbon.meters.waves import parse_wave

class Meter(SimulatedMeter):
    def __init__(self):
        super().__init__(wave=parse_wave("250"))

class Hanging(Meter):
    def read(self, device):
        threading.Event().wait()

class Forbidden(Meter):
    def open(self, covered=frozenset()):
        raise MeterPermissionError("may not be read", remedy="chmod a+r it\\nand again")

class Broken(Meter):
    def open(self, covered=frozenset()):
        raise ZeroDivisionError("oh")

class Failing(Meter):
    def read(self, device):
        raise ReadError("the sensor says no", device=device.id)
"""


def doctor(folder: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AIOCARBON_")}
    return subprocess.run(
        [sys.executable, "-m", "aiocarbon", "doctor", *options],
        cwd=folder,
        env=clean | {"PYTHONPATH": os.pathsep.join([str(folder), ROOT])} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed plug-in package of meters that all have a bad day."""
    made = tmp_path_factory.mktemp("plugin")
    (made / "badmeters.py").write_text(PLUGIN)
    info = made / "badmeters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: badmeters\nVersion: 1.0\n")
    names = ("Hanging", "Forbidden", "Broken", "Failing", "Missing")
    lines = (f"{name.lower()} = badmeters:{name}" for name in names)
    (info / "entry_points.txt").write_text("[aiocarbon.meters]\n" + "\n".join(lines) + "\n")
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    done = doctor(folder, "--json", "-", AIOCARBON_METERS="simulated:250", AIOCARBON_LOCATION="DK")
    assert (done.returncode, done.stderr) == (0, "")
    data: dict[str, Any] = json.loads(done.stdout)
    return data


def meter(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = (m for m in found["meters"] if m["name"] == name)
    one_typed: dict[str, Any] = one
    return one_typed


def test_working_meter_tells_what_its_device_draws_now(found: dict[str, Any]) -> None:
    one = meter(found, "simulated:250")
    assert one["state"] == "works"
    assert one["devices"][0]["power_w"] == pytest.approx(250.0, rel=0.05)


def test_hanging_driver_is_said_to_hang_and_holds_nobody(found: dict[str, Any]) -> None:
    one = meter(found, "hanging")
    assert one["state"] == "hangs"
    assert one["why"] == "no answer within 5 s while reading simulated-0"


def test_missing_permission_comes_with_the_line_to_type(found: dict[str, Any]) -> None:
    one = meter(found, "forbidden")
    assert (one["state"], one["why"]) == ("no permission", "may not be read")
    assert one["remedy"] == "chmod a+r it\nand again"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("broken", "ZeroDivisionError: oh"),
        ("failing", "none of its devices can be read"),
        ("missing", "AttributeError"),
    ],
)
def test_broken_plugin_is_told_and_not_raised(found: dict[str, Any], name: str, word: str) -> None:
    one = meter(found, name)
    assert one["state"] == "fails"
    assert word in one["why"]


def test_every_registered_meter_and_source_is_there(found: dict[str, Any]) -> None:
    names = {one["name"] for one in found["meters"]}
    assert {"nvml", "rapl", "hwmon", "powermetrics", "battery", "model", "replayed"} <= names
    assert found["schema"] == "aiocarbon.doctor/1"
    assert found["location"] == {"zone": "DK", "name": "Denmark", "how": "given", "is_guess": False}
    assert found["intensity"]["source"]
    assert found["pue"]["source"]
    assert found["network"]["asked"] == []


def test_text_tells_states_remedies_and_guesses(folder: Path) -> None:
    done = doctor(folder, TZ="Europe/Copenhagen")
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert (
        "forbidden     no permission: may not be read\n    to mend it:\n      chmod a+r it\n      and again\n" in text
    )
    assert "hanging       hangs: no answer within 5 s" in text
    assert "simulated-0  simulated simulated-0: cannot be read: the sensor says no" in text
    assert "Denmark (DK), a GUESS (time zone)" in text
    assert "export AIOCARBON_LOCATION=" in text
    assert "nothing is asked over the network" in text


def test_setting_that_is_not_accepted_is_wrong_usage(tmp_path: Path) -> None:
    done = doctor(tmp_path, AIOCARBON_PUE="0.1")
    assert done.returncode == 2
    assert "AIOCARBON_PUE" in done.stderr


def test_full_disk_is_a_failure(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json", "/dev/full")
    assert done.returncode == 1
    assert "No space left" in done.stderr
