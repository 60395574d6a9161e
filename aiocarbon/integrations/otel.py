"""Figures of the runs of a process as OpenTelemetry metrics, by observable instruments.

```python
from aiocarbon import Tracker
from aiocarbon.integrations.otel import instrument

tracker = Tracker(epochs=10, name="resnet")
instrument(tracker)                                    # of the global MeterProvider, or meter_provider=
async with tracker:
    ...
```

Names are those of OpenTelemetry's semantic conventions for hardware (`hw.energy`, `hw.power`, `hw.host.energy`,
`hw.host.power`; version 1.4x, status "development") where they have one, and our own namespace for carbon. When an
exporter collects, the newest published reports are read: no meter is, and nothing of the training waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from aiocarbon._core.reading import DeviceKind
from aiocarbon._core.units import j_from_kwh
from aiocarbon._version import __version__
from aiocarbon.integrations._live import DeviceNow, Lives, Now
from aiocarbon.integrations._sink import Reporting, absent, log

try:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter_provider
except ImportError as error:
    raise absent("otel", "opentelemetry-api", "otel") from error

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = ["Instruments", "instrument"]

TYPES: Final = {DeviceKind.GPU: "gpu", DeviceKind.CPU: "cpu", DeviceKind.DRAM: "memory", DeviceKind.BATTERY: "battery"}
"""`hw.type` of the conventions; what has none there has our own word."""

SAME_S: Final = 1.0
"""Instruments that are collected in one go tell of one instant; a go is over where one is asked again, or so late."""

Attributes = dict[str, str]
Tell = Callable[[Now], Iterator[tuple[float, Attributes]]]


def instrument(*trackers: Reporting, meter_provider: MeterProvider | None = None) -> Instruments:
    """Tell trackers' figures as OpenTelemetry metrics, from their begin until `close`, ended runs with their last sums.

    Args:
        trackers: Whose figures.
        meter_provider: Whose instruments; None: the global provider's.
    """
    return Instruments(*trackers, meter_provider=meter_provider)


class Instruments:
    """The observable instruments of some trackers; `add` takes further ones in.

    `hw.*` are of devices and hosts whoever uses them. A run in the scope of a process or control group has a share of
    these, which is told as `aiocarbon.device.energy` and `aiocarbon.device.power`.

    Args:
        trackers: Whose figures.
        meter_provider: Whose instruments; None: the global provider's.
    """

    def __init__(self, *trackers: Reporting, meter_provider: MeterProvider | None = None) -> None:
        self._lives = Lives()
        self._lock = threading.Lock()
        self._seen: Sequence[Now] = ()
        self._seen_at = float("-inf")
        self._asked: set[str] = set()
        for tracker in trackers:
            self.add(tracker)
        meter = (meter_provider or get_meter_provider()).get_meter("aiocarbon", __version__)
        for create, unit, name, text, tell in _INSTRUMENTS:
            create(meter)(name, callbacks=[self._callback(name, tell)], unit=unit, description=text)

    def add(self, tracker: Reporting) -> None:
        """Tell a tracker's figures too."""
        self._lives.add(tracker)

    def close(self) -> None:
        """Tell nothing any more; the instruments stay, since OpenTelemetry cannot take them back."""
        self._lives.clear()
        self._seen_at = float("-inf")

    def _callback(self, name: str, tell: Tell) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            try:
                return [
                    Observation(value, {**attributes, **({"aiocarbon.run": now.label} if now.label else {})})
                    for now in self._look(name)
                    for value, attributes in tell(now)
                ]
            except Exception as error:  # what is told of others must not be lost for ours
                log.warning("otel.observe", why=f"{type(error).__name__}: {error}")
                return []

        return observe

    def _look(self, name: str) -> Sequence[Now]:
        with self._lock:
            if name in self._asked or time.monotonic() - self._seen_at > SAME_S:
                self._seen, self._seen_at = self._lives.look(), time.monotonic()
                self._asked.clear()
            self._asked.add(name)
            return self._seen


# -- what the instruments tell -------------------------------------------------------------------------------------


def _is_whole(now: Now) -> bool:
    """Whether a run's devices are the machine's, and not shares of them."""
    return now.report.scope.name == "machine"


def _where(now: Now, host: str) -> Attributes:
    """The host, where there are several; else it belongs to the resource."""
    return {"host.name": host} if len({device.host for device in now.report.devices}) > 1 else {}


def _device(now: Now, device: DeviceNow) -> Attributes:
    kind = TYPES.get(device.kind, device.kind.value)
    return {"hw.id": device.id, "hw.type": kind, "hw.name": device.name, **_where(now, device.host)}


def _energy(now: Now) -> Iterator[tuple[float, Attributes]]:
    for device in now.devices:
        for basis, energy_j in device.energy_j.items():
            yield energy_j, {**_device(now, device), "aiocarbon.basis": basis.value}


def _power(now: Now) -> Iterator[tuple[float, Attributes]]:
    for device in now.devices:
        if device.power_w is not None:
            yield device.power_w, {**_device(now, device), "aiocarbon.basis": device.basis.value}


def _of_components(tell: Tell) -> Tell:
    """Of machines' components alone: what is the whole machine's goes under hw.host, or sums would overlap."""

    def of(now: Now) -> Iterator[tuple[float, Attributes]]:
        if _is_whole(now):
            yield from (row for row in tell(now) if row[1]["hw.type"] != DeviceKind.PLATFORM.value)

    return of


def _of_shares(tell: Tell) -> Tell:
    return lambda now: iter(()) if _is_whole(now) else tell(now)


def _by_host(now: Now) -> dict[str, list[DeviceNow]]:
    found: dict[str, list[DeviceNow]] = {}
    for device in now.devices if _is_whole(now) else ():
        found.setdefault(device.host, []).append(device)
    return found


def _host_energy(now: Now) -> Iterator[tuple[float, Attributes]]:
    for host, devices in _by_host(now).items():
        yield sum(sum(device.energy_j.values()) for device in devices), _where(now, host)


def _host_power(now: Now) -> Iterator[tuple[float, Attributes]]:
    for host, devices in _by_host(now).items():
        known = [device.power_w for device in devices if device.power_w is not None]
        # Where one of them is lost, the sum of the others is no host's power.
        if len(known) == sum(1 for device in now.report.devices if device.counted and device.host == host):
            yield sum(known), _where(now, host)


def _co2eq(now: Now) -> Iterator[tuple[float, Attributes]]:
    if now.co2eq_g is not None:
        yield now.co2eq_g, {}


def _intensity(now: Now) -> Iterator[tuple[float, Attributes]]:
    if (grid := now.intensity) is not None:
        told = {"zone": grid.zone, "quality": grid.quality.value, "kind": grid.kind.value}
        yield grid.g_per_kwh, {f"aiocarbon.grid.{key}": value for key, value in told.items()}


def _coverage(now: Now) -> Iterator[tuple[float, Attributes]]:
    yield now.report.coverage, {}


def _predicted(figure: str) -> Tell:
    def tell(now: Now) -> Iterator[tuple[float, Attributes]]:
        prediction = now.report.prediction
        value = None if prediction is None or now.report.is_final else getattr(prediction, figure)
        if value is not None:
            yield (j_from_kwh(value) if figure == "energy_kwh" else value), {}

    return tell


def _counter(meter: Meter) -> Callable[..., object]:
    return meter.create_observable_counter


def _gauge(meter: Meter) -> Callable[..., object]:
    return meter.create_observable_gauge


_INSTRUMENTS: Final[Sequence[tuple[Callable[[Meter], Callable[..., object]], str, str, str, Tell]]] = (
    (_counter, "J", "hw.energy", "Energy consumed by the component", _of_components(_energy)),
    (_gauge, "W", "hw.power", "Mean power of the component since the collection before", _of_components(_power)),
    (_counter, "J", "hw.host.energy", "Energy of all components that are measured or modelled", _host_energy),
    (_gauge, "W", "hw.host.power", "Power of all components that are measured or modelled", _host_power),
    (_counter, "J", "aiocarbon.device.energy", "The run's share of a device's energy", _of_shares(_energy)),
    (_gauge, "W", "aiocarbon.device.power", "The run's share of a device's power", _of_shares(_power)),
    (_counter, "g", "aiocarbon.co2eq", "CO2 equivalent since the run began, PUE counted", _co2eq),
    (_gauge, "g/(kW.h)", "aiocarbon.grid.carbon_intensity", "What weighs the energy of now", _intensity),
    (_gauge, "1", "aiocarbon.coverage", "Share of the run that readings vouch for", _coverage),
    (_gauge, "g", "aiocarbon.predicted.co2eq", "CO2 equivalent of the whole run", _predicted("co2eq_g")),
    (_gauge, "J", "aiocarbon.predicted.energy", "Energy of the whole run, PUE counted", _predicted("energy_kwh")),
)
