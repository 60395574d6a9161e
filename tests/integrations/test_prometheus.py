"""The page for Prometheus, read by the client's own parsers and by promtool; bad days of ports and clients first."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import ConfigError, Tracker, UsageError, sync
from aiocarbon.journal import load
from aiocarbon.meters.simulated import Constant, SimulatedMeter

client = pytest.importorskip("prometheus_client", reason="needs prometheus-client: pip install 'aiocarbon[prometheus]'")

from aiocarbon.integrations.prometheus import Collector, Endpoint  # noqa: E402  # there is none without the client

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.5, "intensity": 100.0, "interval_s": 0.02}


def tracker(*power_w: float, **settings: Any) -> sync.Tracker:
    meters = [
        SimulatedMeter(wave=Constant(watts), device_id=f'gpu "{i}"', refresh_s=0.001)
        for i, watts in enumerate(power_w or (100.0,))
    ]
    return sync.Tracker(meters=meters, **KNOWN, **settings)


def fetch(url: str, accept: str = "text/plain") -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def samples(text: str) -> dict[str, list[Any]]:
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


# -- bad days --------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_a_warning_in_the_report_and_the_training_goes_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = tracker()
        page = Endpoint(run, port=port)
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            with page, run:
                list(run.epochs(1))
    assert f"127.0.0.1 port {port} cannot be had (Address already in use)" in page.problem
    assert page.url == ""
    assert page.problem in run.report().warnings
    assert any("choose another with port=" in str(warning.message) for warning in shown)


def test_a_port_in_use_raises_nothing_where_warnings_are_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, Endpoint(tracker(), port=taken.getsockname()[1]) as page:
        assert page.problem


def test_two_pages_on_one_port_do_not_share_it() -> None:
    with Endpoint(tracker(), port=0) as one:
        port = int(one.url.split(":")[2].split("/")[0])
        with Endpoint(tracker(), port=port) as two:
            assert two.problem
        fetch(one.url)


@pytest.mark.parametrize("address", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_this_machine_s_is_a_warning(address: str) -> None:
    if address == "no such host":
        address = "256.256.256.256"
    with Endpoint(tracker(), port=0, address=address) as page:
        assert address in page.problem


@pytest.mark.parametrize("wrong", [{"port": -1}, {"port": 65536}, {"port": "9797"}, {"port": True}, {"address": ""}])
def test_a_wrong_argument_is_refused_before_the_training(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Endpoint(tracker(), **wrong)


def test_clients_that_say_nothing_or_nonsense_hold_neither_others_nor_the_end() -> None:
    with tracker() as run:
        with Endpoint(run, port=0) as page:
            place = ("127.0.0.1", int(page.url.split(":")[2].split("/")[0]))
            with socket.create_connection(place), socket.create_connection(place) as rude:
                rude.sendall(b"\x00\xff GET\r\n\r\n")
                with socket.create_connection(place) as gone:
                    gone.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                assert "aiocarbon_run_info" in fetch(page.url)
        assert page.url == ""


def test_a_device_whose_name_is_no_text_stands_on_the_page_and_in_the_journal(tmp_path: Path) -> None:
    meter = SimulatedMeter(wave=Constant(100.0), device_id="\ud800x", refresh_s=0.001)
    run = sync.Tracker(meters=[meter], journal=tmp_path, **KNOWN)
    with Endpoint(run, port=0) as page, run:
        for _ in run.epochs(2):
            run.report()
        found = samples(fetch(page.url))
    assert [sample.labels["device"] for sample in found["aiocarbon_device_coverage_ratio"]] == ["\\ud800x"]
    assert not any("journal" in warning for warning in run.report().warnings)
    (read,) = load(tmp_path).runs
    assert [device.id for device in read.devices] == ["\ud800x"]
    assert read.it_energy_kwh == pytest.approx(run.report().it_energy_kwh)


def test_a_page_that_cannot_be_made_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    class Odd:
        """A metric of which no page can be made."""

        def collect(self) -> Any:
            yield client.metrics_core.GaugeMetricFamily("odd", "\ud800", value=1)

    with Endpoint(tracker(), port=0) as page:
        page.collector.collect = Odd().collect  # type: ignore[method-assign]  # no figure of ours is odd any more
        with pytest.raises(urllib.error.HTTPError):
            fetch(page.url)
    assert capfd.readouterr().err == ""


def test_the_page_does_not_hold_the_exit() -> None:
    code = """
from aiocarbon import sync
from aiocarbon.integrations.prometheus import Endpoint
import urllib.request
run = sync.Tracker(meters="simulated:100", intensity=1.0, location="DK")
page = Endpoint(run, port=0)
page.start()
with run:
    print(len(urllib.request.urlopen(page.url).read()) > 1000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_forked_child_leaves_the_page_to_its_parent() -> None:
    code = """
import os, urllib.request
from aiocarbon import sync
from aiocarbon.integrations.prometheus import Endpoint
run = sync.Tracker(meters="simulated:100", intensity=1.0, location="DK")
with Endpoint(run, port=0) as page, run:
    child = os.fork()
    if child == 0:
        page.close()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(len(urllib.request.urlopen(page.url).read()) > 1000)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=50)
    assert done.stdout.split() == ["7", "True"]


def test_closed_twice_is_closed_and_entered_twice_is_misuse() -> None:
    page = Endpoint(tracker(), port=0)
    with page:
        pass
    page.close()
    with pytest.raises(UsageError, match="entered once"):
        page.start()


def test_what_fails_in_a_page_leaves_the_rest_of_the_registry_alone() -> None:
    class Broken:
        def report(self) -> Any:
            raise ZeroDivisionError

    registry = client.CollectorRegistry()
    client.Gauge("mine", "of the training", registry=registry).set(7)
    registry.register(Collector(Broken()))
    found = samples(client.generate_latest(registry).decode())
    assert found["mine"][0].value == 7
    assert found["aiocarbon_collector_errors_total"][0].value == 1
    assert samples(client.generate_latest(registry).decode())["aiocarbon_collector_errors_total"][0].value == 2


def test_before_the_run_begins_the_page_holds_no_figure() -> None:
    with Endpoint(tracker(), port=0) as page:
        assert samples(fetch(page.url)).keys() == {"aiocarbon_collector_errors_total"}


# -- the page --------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_run_in_base_units() -> None:
    run = tracker(300.0, 100.0, epochs=4, name="resnet")
    with Endpoint(run, port=0) as page:
        with run:
            for _ in run.epochs(2):
                time.sleep(0.05)
            wanted = {"aiocarbon_power_watts", "aiocarbon_predicted_co2eq_grams"}
            while not wanted <= (found := samples(fetch(page.url))).keys():
                run.snapshot()
            watts = {sample.labels["device"]: sample.value for sample in found["aiocarbon_power_watts"]}
            assert watts == pytest.approx({'gpu "0"': 300, 'gpu "1"': 100}, rel=0.05)
            grid = found["aiocarbon_grid_carbon_intensity_grams_per_kilowatt_hour"][0]
            assert (grid.value, grid.labels["quality"]) == (100.0, "given")
            assert found["aiocarbon_predicted_co2eq_grams"][0].value > 0
        report, found = run.report(), samples(fetch(page.url))
    joules = {sample.labels["device"]: sample for sample in found["aiocarbon_energy_joules_total"]}
    for device in report.devices:
        sample = joules[device.id]
        assert sample.value == pytest.approx(device.it_energy_kwh * 3.6e6, rel=1e-3)
        assert sample.labels == {
            "run": "resnet", "host": report.host, "device": device.id, "kind": "other", "basis": "counter"
        }  # fmt: skip
    assert found["aiocarbon_co2eq_grams_total"][0].value == pytest.approx(report.co2eq_g, rel=1e-3)
    assert found["aiocarbon_run_co2eq_grams"][0].value == report.co2eq_g
    assert found["aiocarbon_run_energy_joules"][0].value == pytest.approx(report.energy_kwh * 3.6e6)
    assert found["aiocarbon_epochs_total"][0].value == 2
    assert found["aiocarbon_run_info"][0].labels["run_id"] == report.run_id
    gone = {"aiocarbon_power_watts", "aiocarbon_predicted_co2eq_grams"}
    assert not gone & found.keys()  # of a run that has ended
    assert not [name for name in found if "intensity" in name]


def test_a_counter_on_the_page_never_falls() -> None:
    with tracker() as run, Endpoint(run, port=0) as page:
        told = []
        for _ in range(20):
            run.snapshot()
            told.append(samples(fetch(page.url))["aiocarbon_energy_joules_total"][0].value)
    assert told == sorted(told)
    assert told[-1] > told[0]


def test_several_trackers_of_one_process_share_a_page() -> None:
    one, two = tracker(name="one"), tracker(name="two")
    with Endpoint(one, port=0) as page:
        page.add(two)
        with one, two:
            time.sleep(0.05)
            found = samples(fetch(page.url))
    assert {sample.labels["run"] for sample in found["aiocarbon_energy_joules_total"]} == {"one", "two"}
    keys = [(sample.name, *sorted(sample.labels.items())) for rows in found.values() for sample in rows]
    assert len(set(keys)) == len(keys)


def test_the_page_passes_both_parsers_and_promtool() -> None:
    from prometheus_client.openmetrics import parser

    one, two = tracker(300.0, 100.0, epochs=3, name='a "quoted"\n\\name'), tracker()
    with one, two, Endpoint(one, two, port=0) as page:
        list(one.epochs(2))
        time.sleep(0.05)
        text = fetch(page.url)
        openmetrics = list(parser.text_string_to_metric_families(fetch(page.url, "application/openmetrics-text")))
    assert {family.name for family in openmetrics} >= {"aiocarbon_energy_joules", "aiocarbon_run"}
    assert len(samples(text)) > 20
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("both parsers took it; promtool is not here: apt-get install prometheus")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_serves_beside_an_async_training() -> None:
    async def train() -> None:
        run = Tracker(meters=[SimulatedMeter(wave=Constant(100.0), device_id="gpu", refresh_s=0.001)], **KNOWN)
        async with Endpoint(run, port=0) as page, run:
            await asyncio.sleep(0.05)
            await run.snapshot()
            found = samples(await asyncio.to_thread(fetch, page.url))
        assert found["aiocarbon_energy_joules_total"][0].value > 0

    asyncio.run(train())


def test_it_listens_on_ipv6_where_told() -> None:
    with Endpoint(tracker(), port=0, address="::1") as page:
        if page.problem:
            pytest.skip("this machine has no IPv6")
        assert "aiocarbon" in fetch(page.url)


def test_it_listens_on_the_loopback_unless_told() -> None:
    with Endpoint(tracker(), port=0) as page:
        assert page.url.startswith("http://127.0.0.1:")
