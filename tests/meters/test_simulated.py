"""Simulated and replayed devices: bad arguments first, then exact energy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon.errors import ConfigError, MeterLostError, MeterUnavailableError
from aiocarbon.meters import Basis, DeviceKind, Part, Quantity, make
from aiocarbon.meters.simulated import Constant, Ramp, ReplayedMeter, SimulatedMeter, Square, Trace, Wave
from aiocarbon.meters.waves import parse_wave

S = 1_000_000_000


class Hand:
    """A clock moved by hand."""

    def __init__(self, now_ns: int = 5 * S) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


@pytest.mark.parametrize(
    "argument",
    [
        "nan",
        "-1",
        "inf",
        "1e400",
        "watts",
        "",
        "250,10",
        "square:2,0.5,50",
        "square:2,0.5,50,400,9",
        "square:0,0.5,50,400",
        "square:2,1.5,50,400",
        "square:2,-0.5,50,400",
        "square:2,0.5,nan,400",
        "square:2,,50,400",
        "ramp:1,2,0",
        "ramp:1,2,-3",
        "sine:1,2,3",
        "trace:1",
    ],
)
def test_an_argument_that_is_no_wave_is_refused_with_what_is_accepted(argument: str) -> None:
    with pytest.raises(ConfigError, match="square:PERIOD_S,DUTY,LOW_W,HIGH_W") as caught:
        SimulatedMeter.from_argument(argument)
    assert caught.value.field == "meters"
    assert caught.value.value == f"simulated:{argument}"


@pytest.mark.parametrize("name", ["simulated", "replayed"])
def test_a_name_without_its_argument_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}:"):
        make(name)


def test_an_empty_mapping_and_a_bad_refresh_are_refused() -> None:
    with pytest.raises(ConfigError):
        SimulatedMeter(wave={})
    for refresh_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="refresh_s"):
            SimulatedMeter(wave=Constant(1), refresh_s=refresh_s)


@pytest.mark.parametrize(
    ("times_s", "powers_w"),
    [((), ()), ((0.0,), ()), ((1.0, 1.0), (5.0, 5.0)), ((2.0, 1.0), (5.0, 5.0)), ((-1.0,), (5.0,)), ((0.0,), (-5.0,))],
)
def test_a_trace_that_is_none_is_refused(times_s: tuple[float, ...], powers_w: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="ascending"):
        Trace(times_s, powers_w)


@pytest.mark.parametrize(
    ("text", "wave"),
    [
        ("250", Constant(250)),
        (" 250 ", Constant(250)),
        ("constant:2.5e2", Constant(250)),
        ("square:2,0.5,50,400", Square(2, 0.5, 50, 400)),
        ("square:2/0.5/50/400", Square(2, 0.5, 50, 400)),
        ("ramp:50,400,60", Ramp(50, 400, 60)),
    ],
)
def test_the_grammar_of_waves(text: str, wave: Wave) -> None:
    assert parse_wave(text) == wave


@pytest.mark.parametrize(
    ("wave", "t_s", "energy_j", "power_w"),
    [
        (Constant(250), 4.0, 1000.0, 250.0),
        (Square(2, 0.5, 50, 400), 1.0, 400.0, 50.0),
        (Square(2, 0.5, 50, 400), 2.0, 450.0, 400.0),
        (Square(2, 0.5, 50, 400), 7.25, 3 * 450.0 + 400 + 12.5, 50.0),
        (Square(2, 0.0, 50, 400), 3.0, 150.0, 50.0),
        (Square(2, 1.0, 50, 400), 3.0, 1200.0, 400.0),
        (Ramp(0, 100, 10), 5.0, 125.0, 50.0),
        (Ramp(0, 100, 10), 12.0, 700.0, 100.0),
        (Trace((1.0, 3.0), (10.0, 30.0)), 0.5, 5.0, 10.0),
        (Trace((1.0, 3.0), (10.0, 30.0)), 2.0, 10 + 15.0, 20.0),
        (Trace((1.0, 3.0), (10.0, 30.0)), 5.0, 10 + 40 + 60.0, 30.0),
    ],
)
def test_a_wave_has_its_exact_integral(wave: Wave, t_s: float, energy_j: float, power_w: float) -> None:
    assert wave.energy_j(t_s) == pytest.approx(energy_j, rel=1e-12)
    assert wave.power_w(t_s) == pytest.approx(power_w, rel=1e-12)


watts = st.floats(0, 1000)
waves = st.one_of(
    st.builds(Constant, watts),
    st.builds(Square, st.floats(0.01, 50), st.floats(0, 1), watts, watts),
    st.builds(Ramp, watts, watts, st.floats(0.01, 500)),
    st.lists(st.tuples(st.floats(0.001, 10), watts), min_size=1, max_size=9).map(
        lambda steps: Trace(
            tuple(sum(s for s, _ in steps[: i + 1]) for i in range(len(steps))), tuple(p for _, p in steps)
        )
    ),
)


@given(wave=waves, t_s=st.floats(0, 1000), dt_s=st.floats(0, 10))
def test_energy_grows_by_no_less_than_nothing_and_no_more_than_the_peak(wave: Wave, t_s: float, dt_s: float) -> None:
    grown_j = wave.energy_j(t_s + dt_s) - wave.energy_j(t_s)
    assert -1e-6 <= grown_j <= 1000 * dt_s + 1e-6


@settings(max_examples=50)
@given(wave=waves, t_s=st.floats(0.001, 30))
def test_the_integral_is_the_power_added_up(wave: Wave, t_s: float) -> None:
    steps = 500
    middle_sum_j = sum(wave.power_w((i + 0.5) * t_s / steps) for i in range(steps)) * t_s / steps
    jumps = 2 * (t_s / wave.period_s + 1) if isinstance(wave, Square) else 0
    assert wave.energy_j(t_s) == pytest.approx(middle_sum_j, rel=1e-2, abs=1000 * t_s / steps * (jumps + 1))


def test_a_counter_tells_whole_microjoules_since_its_opening() -> None:
    clock = Hand()
    meter = SimulatedMeter(wave=Constant(1 / 3), clock=clock)
    (device,) = meter.open().devices
    assert (device.quantity, device.basis) == (Quantity.ENERGY, Basis.COUNTER)
    assert "simulated" in device.note
    assert meter.read(device).value == 0
    clock.now_ns += S
    reading = meter.read(device)
    assert reading.value == 333_333
    assert isinstance(reading.value, int)
    assert reading.t0_ns == reading.t1_ns == 6 * S


def test_a_power_sensor_tells_watts_and_says_so() -> None:
    clock = Hand()
    meter = SimulatedMeter(
        wave=Square(2, 0.5, 50, 400), quantity=Quantity.POWER, kind=DeviceKind.GPU, counted=False, clock=clock
    )
    (device,) = meter.open().devices
    assert (device.basis, device.kind, device.counted, device.covers) == (
        Basis.POWER,
        DeviceKind.GPU,
        False,
        frozenset({Part.GPU}),
    )
    assert meter.read(device).value == 400
    clock.now_ns += S
    assert meter.read(device).value == 50


def test_a_value_refreshes_in_steps_as_a_sensors_does() -> None:
    clock = Hand(0)
    meter = SimulatedMeter(wave=Constant(10), refresh_s=0.1, clock=clock)
    (device,) = meter.open().devices
    assert device.refresh_s == 0.1
    seen = []
    for clock.now_ns in range(0, S, 25_000_000):
        seen.append(meter.read(device).value)
    assert sorted(set(seen)) == [i * 1_000_000 for i in range(10)]
    assert seen[:5] == [0, 0, 0, 0, 1_000_000]


def test_several_devices_share_one_clock_and_an_epoch_can_be_set() -> None:
    clock = Hand(10 * S)
    meter = SimulatedMeter(wave={"a": Constant(1), "b": Constant(2)}, clock=clock, epoch_ns=4 * S)
    a, b = meter.open().devices
    assert (a.id, b.id) == ("a", "b")
    assert (meter.read(a).value, meter.read(b).value) == (6_000_000, 12_000_000)
    clock.now_ns = 3 * S  # before the wave's beginning nothing was drawn
    assert meter.read(a).value == 0


def test_a_basis_can_be_told() -> None:
    (device,) = SimulatedMeter(wave=Constant(1), basis=Basis.ASSUMED).open().devices
    assert device.basis is Basis.ASSUMED


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "first line"),
        ("power_w,time_s\n1,2\n", "first line"),
        ("time_s,power_w\n", "no line of data"),
        ("time_s,power_w\n0,many\n", "line 2"),
        ("time_s,power_w\n0,1\n1\n", "line 3"),
        ("time_s,power_w\n0,nan\n", "finite"),
        ("time_s,power_w\n0,-1\n", "at least 0"),
        ("time_s,power_w\n1,1\n1,1\n", "ascending"),
    ],
)
def test_a_recording_that_is_none_is_refused(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=what) as caught:
        ReplayedMeter.from_argument(str(path))
    assert caught.value.field == "meters"


def test_a_recording_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="could not be read"):
        ReplayedMeter.from_argument(str(tmp_path / "none.csv"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="could not be read"):
        ReplayedMeter.from_argument(str(tmp_path / "binary"))


def test_a_recording_is_played_from_opening_and_ends_with_its_last_instant(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time_s,power_w,device\n0,100,x\n0,5,y\n2,100,x\n9,5,y\n")
    from_file = make(f"replayed:{path}")
    assert [device.id for device in from_file.open().devices] == ["x", "y"]

    clock = Hand()
    meter = ReplayedMeter(traces={"x": Trace((0, 2), (100, 100)), "y": Trace((0, 9), (5, 5))}, clock=clock)
    x, y = meter.open().devices
    assert "replayed" in x.note
    clock.now_ns = 6 * S
    assert meter.read(x).value == 100_000_000
    clock.now_ns = 8 * S  # one second too late: what was recorded until the end is still told, where it belongs
    last = meter.read(x)
    assert (last.value, last.t0_ns, last.t1_ns) == (200_000_000, 7 * S, 7 * S)
    with pytest.raises(MeterLostError, match="ended"):
        meter.read(x)
    assert meter.read(y).value == 15_000_000
    assert len(meter.open().devices) == 2  # opened again, it plays again
    assert meter.read(x).value == 0


def test_traces_that_ended_before_the_opening_are_unavailable() -> None:
    meter = ReplayedMeter(traces={"x": Trace((0, 2), (1, 1))}, clock=Hand(5 * S), epoch_ns=0)
    with pytest.raises(MeterUnavailableError):
        meter.open()
