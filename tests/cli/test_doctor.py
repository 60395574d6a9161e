"""`aiocarbon doctor`: bad days of meters, by a plug-in package that is made for the test, and the real machine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

import aiocarbon
from aiocarbon.cli.doctor_grid import proxies, write_problem
from aiocarbon.intensity import sources

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
        env=clean
        | {"PYTHONPATH": os.pathsep.join([str(folder), ROOT]), "AIOCARBON_OFFLINE": "true", "AIOCARBON_CACHE": "none"}
        | environ,
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
    assert set(sources.names()) <= {one["name"] for one in found["sources"]}
    assert {"name", "title", "zone", "state", "why", "remedy", "url", "latency_s", "value"} <= set(found["sources"][0])


def test_place_and_what_holds_there_are_told_with_their_sources(found: dict[str, Any]) -> None:
    place = {"zone": "DK", "name": "Denmark", "how": "environment", "is_guess": False}
    assert {key: found["location"][key] for key in place} == place
    assert (found["intensity"]["quality"], found["intensity"]["zone"]) == ("average", "DK")
    assert found["intensity"]["source"]
    assert found["pue"]["source"]


def test_offline_nothing_is_asked_and_each_source_says_so(found: dict[str, Any]) -> None:
    assert found["network"]["is_offline"] is True
    assert found["network"]["asked"] == found["location"]["asked"] == []
    states = {one["name"]: (one["state"], one["why"]) for one in found["sources"]}
    assert states["energidataservice"] == ("not asked", "no packet may be sent (offline)")
    assert states["electricitymaps"] == ("lacks", "Electricity Maps wants a token")
    assert states["carbonintensity_gb"][0] == "not of this place"
    assert states["watttime"][0] == "only on request"
    remedies = {one["name"]: one["remedy"] for one in found["sources"]}
    assert remedies["electricitymaps"].startswith("export AIOCARBON_ELECTRICITYMAPS_TOKEN=")


def test_text_tells_states_remedies_and_guesses(folder: Path) -> None:
    done = doctor(folder, TZ="Europe/Copenhagen")
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert (
        "forbidden     no permission: may not be read\n    to mend it:\n      chmod a+r it\n      and again\n" in text
    )
    assert "hanging       hangs: no answer within 5 s" in text
    assert "simulated-0  simulated simulated-0: cannot be read: the sensor says no" in text
    assert "Denmark (DK), a GUESS from the time zone" in text
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


async def examined(tmp_path: Path, answer: Callable[[web.Request], Any], *options: str, **environ: str) -> Any:
    """What `doctor` found of Germany, with sources on a local server, and the paths that were asked of it."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.json_response(answer(request))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    names = ("ENERGYCHARTS", "ELECTRICITYMAPS", "GEOJS", "IPINFO", "AWS", "GCP", "AZURE")
    given = {f"AIOCARBON_{name}_URL": url for name in names} | {"AIOCARBON_OFFLINE": "false"} | environ
    try:
        done = await anyio.to_thread.run_sync(lambda: doctor(tmp_path, *options, **given))
    finally:
        await runner.cleanup()
    assert (done.returncode, done.stderr) == (0, "")
    return (json.loads(done.stdout) if options else done.stdout), asked, url


def energycharts(request: web.Request) -> dict[str, Any]:
    quarter = int(time.time() // 900) * 900
    return {"unix_seconds": [quarter], "co2eq": [432.0], "co2eq_forecast": [None], "deprecated": False}


@pytest.mark.anyio
async def test_each_source_is_asked_and_told_with_latency_and_value(tmp_path: Path) -> None:
    data, asked, url = await examined(
        tmp_path, energycharts, "--json", "-", AIOCARBON_LOCATION="DE", AIOCARBON_CACHE=str(tmp_path / "kept")
    )
    (one,) = (one for one in data["sources"] if one["name"] == "energycharts")
    assert (one["state"], one["value"]["g_per_kwh"], one["url"]) == ("answered", 432.0, url)
    assert one["latency_s"] > 0.0
    assert data["intensity"]["source"] == "Energy-Charts"
    assert data["network"]["asked"] == [url]
    assert data["location"]["asked"] == []
    assert data["cache"] == {"folder": str(tmp_path / "kept"), "is_writable": True, "why": ""}
    assert asked == ["/co2eq"]


@pytest.mark.anyio
async def test_text_tells_whom_was_asked_for_the_place_and_by_which_proxy(tmp_path: Path) -> None:
    def answer(request: web.Request) -> dict[str, Any]:
        if request.path == "/co2eq":
            return energycharts(request)
        return {"country_code": "DE", "country": "DE"}

    text, asked, url = await examined(
        tmp_path, answer, HTTPS_PROXY="http://me:hunter2@proxy.invalid:3128", AIOCARBON_ELECTRICITYMAPS_TOKEN="tok-4711"
    )
    assert {"/v1/ip/geo.json", "/json"} <= set(asked)
    assert "Germany (DE), by this machine's internet address" in text
    assert "its country was asked of two web services" in text
    assert "432 gCO2eq/kWh, live, of DE, average, factors not told: Energy-Charts" in text
    assert f"asked just now: {url}; nothing is reported to anybody" in text
    assert "proxy for https: http://proxy.invalid:3128" in text
    assert "cache\n  none: " in text
    assert "hunter2" not in text
    assert "tok-4711" not in text


def test_proxies_are_shown_without_their_credentials() -> None:
    found = {"https": "http://me:secret@proxy:3128/", "all": "user:pw@socks:1080", "no": "localhost"}
    assert proxies(lambda: found) == {"all": "http://socks:1080", "https": "http://proxy:3128/"}
    assert proxies(lambda: {}) == {}


def test_folder_that_cannot_be_written_is_told_with_its_reason(tmp_path: Path) -> None:
    assert write_problem(tmp_path / "new" / "one") == ""
    assert list((tmp_path / "new" / "one").iterdir()) == []
    (tmp_path / "file").write_text("")
    assert write_problem(tmp_path / "file" / "below") == "Not a directory"


def test_settings_may_be_given_as_options(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--location", "DK", "--offline", "--json", "-", AIOCARBON_LOCATION="SE")
    found = json.loads(done.stdout)
    assert (found["location"]["zone"], found["location"]["how"]) == ("DK", "given")
    assert found["network"]["is_offline"] is True
    refused = doctor(tmp_path, "--location", "Atlantis")
    assert refused.returncode == 2
    assert "Atlantis" in refused.stderr
