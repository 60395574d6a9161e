"""Figures of the runs of a process for Prometheus to pull.

```python
from aiocarbon import Tracker
from aiocarbon.integrations.prometheus import Endpoint

tracker = Tracker(epochs=10, name="resnet")
async with Endpoint(tracker, port=9797), tracker:      # http://127.0.0.1:9797/metrics
    ...
```

A page is made of the newest published reports: no meter is read for it, and nothing of the training waits for it.
Where there is a page already, register a `Collector` in its registry.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import socketserver
import threading
import warnings
from collections.abc import Iterator
from typing import Final, TextIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from aiocarbon._core.units import j_from_kwh
from aiocarbon.errors import ConfigError, UsageError
from aiocarbon.integrations._entered import Entered
from aiocarbon.integrations._live import DeviceNow, Lives, Now
from aiocarbon.integrations._sink import Reporting, absent, log, tell

try:
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
    from prometheus_client.registry import Collector as Collecting
except ImportError as error:
    raise absent("prometheus", "prometheus-client", "prometheus") from error

__all__ = ["Collector", "Endpoint"]

PORT: Final = 9797
"""Free on most machines; any other does as well."""

LOOPBACK: Final = "127.0.0.1"
CLIENT_S: Final = 10.0
"""A client that says nothing for so long is hung up on."""

LOOK_UP_S: Final = 0.05
"""How often the server looks whether it is to end: closing takes so long."""

DEVICE: Final = ("run", "host", "device", "kind")
RUN: Final = ("run",)
GRID: Final = ("run", "zone", "quality", "kind")

COUNTERS: Final = {
    "aiocarbon_energy_joules": ("IT energy of a counted device since the run began, by where the joules come from",
                                (*DEVICE, "basis")),
    "aiocarbon_co2eq_grams": ("CO2 equivalent since the run began, PUE counted; holds where the figure is revised down",
                              RUN),
    "aiocarbon_epochs": ("Epochs that have ended", RUN),
    "aiocarbon_collector_errors": ("Pages on which a run is missing because its figures could not be told", ()),
}  # fmt: skip

GAUGES: Final = {
    "aiocarbon_power_watts": ("Mean IT power of a device since the page before", (*DEVICE, "basis")),
    "aiocarbon_device_coverage_ratio": ("Share of the run that a device's readings vouch for", DEVICE),
    "aiocarbon_grid_carbon_intensity_grams_per_kilowatt_hour": ("What weighs the energy of now", GRID),
    "aiocarbon_run_energy_joules": ("Energy of the run with PUE, as known now", RUN),
    "aiocarbon_run_energy_low_joules": ("Lower end (90 %)", RUN),
    "aiocarbon_run_energy_high_joules": ("Upper end (90 %)", RUN),
    "aiocarbon_run_co2eq_grams": ("CO2 equivalent of the run, as known now", RUN),
    "aiocarbon_run_co2eq_low_grams": ("Lower end (90 %)", RUN),
    "aiocarbon_run_co2eq_high_grams": ("Upper end (90 %)", RUN),
    "aiocarbon_run_coverage_ratio": ("Share of the run that readings vouch for, mean over the devices", RUN),
    "aiocarbon_run_duration_seconds": ("Length of the run so far", RUN),
    "aiocarbon_run_start_timestamp_seconds": ("When the run began", RUN),
    "aiocarbon_run_as_of_timestamp_seconds": ("Up to when the figures tell", RUN),
    "aiocarbon_run_warnings": ("How many things a reader of the report must know", RUN),
    "aiocarbon_pue_ratio": ("Power usage effectiveness", RUN),
    "aiocarbon_predicted_energy_joules": ("Of the whole run, with PUE", RUN),
    "aiocarbon_predicted_co2eq_grams": ("Of the whole run", RUN),
    "aiocarbon_predicted_co2eq_low_grams": ("Lower end (90 %)", RUN),
    "aiocarbon_predicted_co2eq_high_grams": ("Upper end (90 %)", RUN),
    "aiocarbon_predicted_end_timestamp_seconds": ("When the run will end", RUN),
}  # fmt: skip

INFO: Final = "aiocarbon_run"


class Collector(Collecting):
    """A collector for a registry of prometheus-client: `REGISTRY.register(Collector(tracker))`.

    Series of several trackers of a process are told apart by the label `run`, the tracker's name; it is the same after
    a restart. What identifies the one run stands in `aiocarbon_run_info`.

    Args:
        trackers: Whose figures; more may be added, also before they begin.
    """

    def __init__(self, *trackers: Reporting) -> None:
        self._lives = Lives()
        self._errors = 0
        for tracker in trackers:
            self.add(tracker)

    def add(self, tracker: Reporting) -> None:
        """Tell a tracker's figures too."""
        self._lives.add(tracker)

    def clear(self) -> None:
        """Tell nothing any more."""
        self._lives.clear()

    def describe(self) -> Iterator[Metric]:
        """The metrics without a sample."""
        return iter(_families().values())

    def collect(self) -> Iterator[Metric]:
        """The metrics with what is known now; what is not known has no sample."""
        families = _families()
        try:
            for now in self._lives.look():
                _fill(families, now)
        except Exception as error:  # a page has figures of others too: they must not be lost for ours
            self._errors += 1
            log.warning("prometheus.collect", why=f"{type(error).__name__}: {error}")
            families = _families()
        _add(families, "aiocarbon_collector_errors", [], self._errors)
        return iter(family for family in families.values() if family.samples)


def _families() -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for name, (text, labels) in COUNTERS.items():
        found[name] = CounterMetricFamily(name, text, labels=labels)
    for name, (text, labels) in GAUGES.items():
        found[name] = GaugeMetricFamily(name, text, labels=labels)
    found[INFO] = InfoMetricFamily(INFO, "Which run it is", labels=RUN)
    return found


def _add(families: dict[str, Metric], name: str, labels: list[str], value: float | None) -> None:
    family = families[name]
    if value is not None and isinstance(family, CounterMetricFamily | GaugeMetricFamily):
        family.add_metric([_clean(label) for label in labels], value)


def _clean(text: str) -> str:
    """The text as UTF-8 can hold it: drivers may name a device by half a surrogate pair."""
    return text.encode(errors="backslashreplace").decode()


def _fill(families: dict[str, Metric], now: Now) -> None:
    """Add one run's samples."""
    report, run = now.report, [now.label]
    for device in now.devices:
        _fill_device(families, run, device)
    if (grid := now.intensity) is not None:
        name = "aiocarbon_grid_carbon_intensity_grams_per_kilowatt_hour"
        _add(families, name, [*run, grid.zone, grid.quality.value, grid.kind.value], grid.g_per_kwh)
    if now.co2eq_g is not None:
        _add(families, "aiocarbon_co2eq_grams", run, now.co2eq_g)
        for end in ("", "_low", "_high"):
            energy_kwh = getattr(report, f"energy_kwh{end}")
            _add(families, f"aiocarbon_run_energy{end}_joules", run, j_from_kwh(energy_kwh))
            _add(families, f"aiocarbon_run_co2eq{end}_grams", run, getattr(report, f"co2eq_g{end}"))
    _add(families, "aiocarbon_epochs", run, report.epochs_total)
    _add(families, "aiocarbon_run_coverage_ratio", run, report.coverage)
    _add(families, "aiocarbon_run_duration_seconds", run, report.duration_s)
    _add(families, "aiocarbon_run_start_timestamp_seconds", run, report.started_at.timestamp())
    _add(families, "aiocarbon_run_as_of_timestamp_seconds", run, report.as_of.timestamp())
    _add(families, "aiocarbon_run_warnings", run, len(report.warnings))
    _add(families, "aiocarbon_pue_ratio", run, report.pue.value)
    _fill_prediction(families, now)
    facts = {"run_id": report.run_id, "name": report.name, "host": report.host, "version": report.version}
    facts |= {"location": ", ".join(place.zone for place in report.locations or (report.location,))}
    facts |= {"scope": report.scope.name, "pue_source": report.pue.source}
    info = families[INFO]
    assert isinstance(info, InfoMetricFamily)
    info.add_metric([_clean(label) for label in run], {fact: _clean(value) for fact, value in facts.items()})


def _fill_device(families: dict[str, Metric], run: list[str], device: DeviceNow) -> None:
    labels = [*run, device.host, device.id, device.kind.value]
    for basis, energy_j in device.energy_j.items():
        _add(families, "aiocarbon_energy_joules", [*labels, basis.value], energy_j)
    _add(families, "aiocarbon_power_watts", [*labels, device.basis.value], device.power_w)
    _add(families, "aiocarbon_device_coverage_ratio", labels, device.coverage)


def _fill_prediction(families: dict[str, Metric], now: Now) -> None:
    prediction, run = now.report.prediction, [now.label]
    if prediction is None or now.report.is_final:
        return
    energy_kwh = prediction.energy_kwh
    _add(families, "aiocarbon_predicted_energy_joules", run, None if energy_kwh is None else j_from_kwh(energy_kwh))
    for end in ("", "_low", "_high"):
        _add(families, f"aiocarbon_predicted_co2eq{end}_grams", run, getattr(prediction, f"co2eq_g{end}"))
    if prediction.ends_at is not None:
        _add(families, "aiocarbon_predicted_end_timestamp_seconds", run, prediction.ends_at.timestamp())


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Answers each client in a daemon thread: one that is slow holds neither others nor the exit."""

    daemon_threads = True
    allow_reuse_port = False  # two that share a port would each answer for the other

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news, and the training's output no place for it."""
        log.debug("prometheus.client", client=str(client_address))


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_S

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def get_stderr(self) -> TextIO:
        """Where a page that cannot be made would leave its traceback: the training's output is no place for it."""
        return io.StringIO()


class Endpoint(Entered):
    """A page for Prometheus at `http://ADDRESS:PORT/metrics`, between entering and leaving.

    A port that is in use, or an address that this machine does not have, is a warning, in the report too: nothing is
    served then, and the training goes on.

    Args:
        trackers: Whose figures; more may be added.
        port: TCP port; 0: any that is free.
        address: Where it listens. Other machines reach it only if you say so: "0.0.0.0", "::", an address. Anyone who
            reaches it reads it: it knows no password.

    Attributes:
        collector: What fills the page.
        problem: Why nothing is served; empty if it is, or was not begun.

    Raises:
        ConfigError: An argument is not accepted.
    """

    def __init__(self, *trackers: Reporting, port: int = PORT, address: str = LOOPBACK) -> None:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ConfigError("port", port, "a number from 0 to 65535")
        if not isinstance(address, str) or not address:
            raise ConfigError("address", address, 'an address of this machine, such as "127.0.0.1"')
        self._trackers = trackers
        self._port = port
        self._address = address
        self._server: WSGIServer | None = None
        self._is_used = False
        self._pid = os.getpid()
        self.collector = Collector(*trackers)
        self.problem = ""

    @property
    def url(self) -> str:
        """Where the page is; empty while nothing is served."""
        if self._server is None:
            return ""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self._server.server_port}/metrics"

    def add(self, tracker: Reporting) -> None:
        """Have a further tracker's figures on the page."""
        self.collector.add(tracker)

    def start(self) -> None:
        """Begin to serve.

        Raises:
            UsageError: It was begun before.
        """
        if self._is_used:
            raise UsageError("an endpoint is entered once; make another one")
        self._is_used = True
        registry = CollectorRegistry()
        registry.register(self.collector)
        kind = _Server6 if ":" in self._address else _Server
        try:
            self._server = make_server(self._address, self._port, make_wsgi_app(registry), kind, _Handler)
        except (OSError, TypeError, UnicodeError) as error:  # the latter two for what is no address at all
            self._refused(error)
            return
        # The server waits in `select` for clients; as a daemon it holds no exit.
        threading.Thread(  # noqa: TID251
            target=self._server.serve_forever, args=(LOOK_UP_S,), name="aiocarbon-prometheus", daemon=True
        ).start()

    def _refused(self, error: Exception) -> None:
        why = getattr(error, "strerror", None) or error
        self.problem = (
            f"no page for Prometheus: {self._address} port {self._port} cannot be had ({why}); "
            "choose another with port=, 0 for any that is free"
        )
        for tracker in self._trackers:
            tell(tracker, self.problem)
        with contextlib.suppress(Warning):  # where warnings are errors, this one is none of the training's
            warnings.warn(f"aiocarbon: {self.problem}", RuntimeWarning, stacklevel=4)

    def close(self) -> None:
        """End serving; safe to call twice."""
        server, self._server = self._server, None
        self._is_used = True
        if os.getpid() != self._pid:  # a forked child has no thread that would hear, and a lock may be held for ever
            if server is not None:
                server.server_close()
            return
        if server is not None:
            server.shutdown()
            server.server_close()
        self.collector.clear()
