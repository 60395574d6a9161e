"""Counters for those who ask: what is revised, lost, relabelled or dead never makes one fall, nor a gauge lie."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon import UsageError, sync
from aiocarbon._core.report import RunReport
from aiocarbon.errors import MeterLostError
from aiocarbon.integrations._live import Live, Lives
from aiocarbon.meters import Basis
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import ScriptedMeter

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.0, "intensity": 100.0, "interval_s": 0.02}
KWH = 1 / 3.6e6  # of a joule


def tracker(**settings: Any) -> sync.Tracker:
    meter = SimulatedMeter(wave=Constant(100.0), device_id="simulated-0", refresh_s=0.001)
    return sync.Tracker(**{"meters": [meter], **KNOWN, **settings})


@pytest.fixture(scope="module")
def pattern() -> RunReport:
    with tracker() as run:
        time.sleep(0.02)
        return run.snapshot()


class Says:
    """Something with a report that the test writes; nobody can ask its engine."""

    def __init__(self, pattern: RunReport) -> None:
        self.pattern = pattern
        self.now = pattern

    def at(self, t_s: float, energy_j: float, **changes: Any) -> None:
        """Have the report of `t_s` seconds, with joules of its one device."""
        fields = {field: changes.pop(field) for field in ("co2eq_g", "is_final") if field in changes}
        device = replace(self.pattern.devices[0], it_energy_kwh=energy_j * KWH, **{"coverage": 1.0, **changes})
        self.now = replace(
            self.pattern,
            duration_s=t_s,
            as_of=self.pattern.started_at + timedelta(seconds=t_s),
            it_energy_kwh=energy_j * KWH,
            devices=(device,),
            **fields,
        )

    def report(self) -> RunReport:
        return self.now


@pytest.fixture
def says(pattern: RunReport) -> Says:
    return Says(pattern)


def look(live: Live) -> Any:
    now = live.look()
    assert now is not None
    return now


# -- counters --------------------------------------------------------------------------------------------------


@given(
    rows=st.lists(
        st.tuples(
            st.floats(0, 1e6), st.sampled_from(list(Basis)), st.floats(0, 1e5), st.floats(0, 1), st.floats(0.01, 100)
        ),
        min_size=2,
        max_size=20,
    )
)
def test_no_counter_ever_falls_and_bases_add_up_to_the_most_that_was_told(rows: list[Any], pattern: RunReport) -> None:
    says, t_s, most = Says(pattern), 0.0, 0.0
    live, before, co2eq_g = Live(says), {}, 0.0
    for energy_j, basis, grams, coverage, step_s in rows:
        t_s += step_s
        says.at(t_s, energy_j, basis=basis, co2eq_g=grams, coverage=coverage)
        now = look(live)
        if energy_j > 0 or coverage > 0:
            most = max(most, energy_j)
        for device in now.devices:
            assert all(device.energy_j[key] >= joules for key, joules in before.items())
            before = device.energy_j
            assert sum(device.energy_j.values()) == pytest.approx(most)
            assert device.power_w is None or device.power_w >= 0.0
        if now.co2eq_g is not None:
            assert now.co2eq_g >= co2eq_g
            co2eq_g = now.co2eq_g


def test_a_basis_that_changes_begins_at_nothing_and_the_former_one_stays(says: Says) -> None:
    live = Live(says)
    says.at(10, 1000, basis=Basis.COUNTER)
    look(live)
    says.at(20, 1600, basis=Basis.MODEL)
    (device,) = look(live).devices
    assert device.energy_j == pytest.approx({Basis.COUNTER: 1000, Basis.MODEL: 600})


def test_co2eq_that_is_revised_down_holds_until_it_has_caught_up(says: Says) -> None:
    live = Live(says)
    told = []
    for t_s, grams in ((10, 50.0), (20, 20.0), (30, 40.0), (40, 60.0)):
        says.at(t_s, 100.0 * t_s, co2eq_g=grams)
        told.append(look(live).co2eq_g)
    assert told == [50.0, 50.0, 50.0, 60.0]
    assert look(live).report.co2eq_g == 60.0


def test_what_nobody_read_is_no_counter(says: Says) -> None:
    live = Live(says)
    says.at(10, 0.0, coverage=0.0)
    says.now = replace(says.now, coverage=0.0)
    assert (look(live).devices, look(live).co2eq_g, look(live).power_w) == ((), None, None)


# -- power -----------------------------------------------------------------------------------------------------


def test_power_is_that_since_the_question_before(says: Says) -> None:
    live = Live(says)
    says.at(10, 1000)
    assert look(live).power_w == pytest.approx(100)
    says.at(12, 1600)
    assert look(live).power_w == pytest.approx(300)
    assert look(live).power_w == pytest.approx(300)  # the same report is the same power
    says.at(12.1, 1600.1)
    assert look(live).power_w == pytest.approx(300)  # too short a time to tell


def test_a_device_that_is_lost_has_no_power_and_keeps_its_energy(says: Says) -> None:
    live = Live(says)
    says.at(10, 1000)
    look(live)
    says.at(20, 1000, coverage=0.5)
    now = look(live)
    assert now.devices[0].power_w is None
    assert now.power_w is None
    assert sum(now.devices[0].energy_j.values()) == pytest.approx(1000)


def test_power_is_over_the_time_that_was_read(says: Says) -> None:
    live = Live(says)
    says.at(10, 1000)
    look(live)
    says.at(20, 1800, coverage=0.9)  # 8 of these 10 s
    assert look(live).power_w == pytest.approx(100)


def test_too_short_a_run_has_no_power_yet(says: Says) -> None:
    live = Live(says)
    says.at(0.1, 10)
    assert look(live).power_w is None
    says.at(0.6, 60)
    assert look(live).power_w == pytest.approx(100)


def test_energy_that_was_taken_back_is_no_negative_power(says: Says) -> None:
    live = Live(says)
    says.at(10, 1000)
    look(live)
    says.at(20, 990)
    assert look(live).power_w is None


def test_a_run_that_has_ended_has_no_power(says: Says) -> None:
    live = Live(says)
    says.at(10, 1000, is_final=True)
    assert look(live).power_w is None
    assert look(live).devices[0].energy_j


# -- real runs -------------------------------------------------------------------------------------------------


def test_before_the_run_there_is_nothing_and_afterwards_no_intensity_of_now() -> None:
    run = tracker()
    live = Live(run)
    assert live.look() is None
    with run:
        time.sleep(0.02)
        assert look(live).intensity.g_per_kwh == 100.0
    now = look(live)
    assert now.intensity is None
    assert now.power_w is None
    assert now.co2eq_g == pytest.approx(run.report().co2eq_g)


def test_a_meter_that_is_lost_in_a_real_run() -> None:
    def script() -> Iterator[Any]:
        yield from range(0, 50_000_000, 1_000_000)
        yield MeterLostError("it fell off the bus")

    with tracker(meters=[ScriptedMeter(energy_uj=script())]) as run:
        live, joules = Live(run), []
        while not any("fell off the bus" in note for note in run.report().warnings):
            run.snapshot()
            joules += [sum(device.energy_j.values()) for device in look(live).devices]
        look(live)
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            run.snapshot()
        now = look(live)
    assert joules == sorted(joules)
    assert now.devices[0].power_w is None
    assert now.power_w is None


def test_an_engine_that_died_has_no_power_and_no_intensity(killed: Callable[[Any], None]) -> None:
    run = tracker()
    with run:
        live = Live(run)
        while look(live).power_w is None:
            run.snapshot()
        assert look(live).intensity is not None
        host = run._handle._host
        assert host is not None
        killed(host)
        now = look(live)
        assert (now.power_w, now.intensity) == (None, None)
        assert now.devices[0].energy_j


def test_runs_of_one_process_are_told_apart(pattern: RunReport) -> None:
    named = [Says(replace(pattern, name=name)) for name in ("a", "a", "", "", "a-2")]
    lives = Lives()
    for one in [*named, named[0]]:
        lives.add(one)
    assert [now.label for now in lives.look()] == ["a", "a-2", "", "2", "a-2-2"]
    assert [now.label for now in lives.look()] == ["a", "a-2", "", "2", "a-2-2"]
    lives.clear()
    assert lives.look() == []


def test_one_that_has_not_begun_is_left_out(pattern: RunReport) -> None:
    class Not:
        def report(self) -> RunReport:
            raise UsageError("not yet")

    lives = Lives()
    lives.add(Not())
    lives.add(Says(pattern))
    assert len(lives.look()) == 1
