"""Reports of spans out of shares: they and what is unattributed make the run, with ranges as the run's."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.attribution import Attribution
from aiocarbon._core.body import Child, Stint
from aiocarbon._core.reading import Basis
from aiocarbon._core.shares import Account, shares_of
from aiocarbon._core.span_report import Portions, span_fields
from aiocarbon._core.supply import Increment
from aiocarbon._core.units import kwh_from_j

S = 1_000_000_000
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


def fields_of(
    run: dict[str, Any], pue: float, account: Account | None, children: tuple[Child, ...] = ()
) -> dict[str, Any]:
    return span_fields(run, pue, AS_OF, account, children)


def whole(energy_j: float, co2eq_g: float, *, pue: float = 1.0, spread: float = 0.1) -> dict[str, Any]:
    kwh = kwh_from_j(energy_j)
    fields: dict[str, Any] = {"duration_s": 60.0, "power_w": energy_j / 60.0, "coverage": 0.9}
    for name, value in (("it_energy_kwh", kwh), ("energy_kwh", kwh * pue), ("co2eq_g", co2eq_g)):
        fields.update({name: value, f"{name}_low": value * (1 - spread), f"{name}_high": value * (1 + spread)})
    return {**fields, "basis": Basis.COUNTER, "basis_shares": {Basis.COUNTER: 1.0}}


def account(*, factor: float = 1.0, floor_w: float | None = None) -> Account:
    """Two spans that overlap, 300 W for 60 s at 0.1 g/kJ."""
    attribution = Attribution(0, floor_w=None if floor_w is None else {"gpu": floor_w})
    attribution.open(0, 1, "A", owner="actor")
    attribution.open(20 * S, 2, "B", tags=(("k", "v"),))
    attribution.close(40 * S, 1)
    attribution.supply([Increment("gpu", i * S, (i + 1) * S, 300.0, 0.03) for i in range(60)])
    attribution.settle(60 * S)
    return Account(shares=shares_of(attribution, 60 * S), co2eq_factor=factor, dropped=0)


def test_parts_carry_the_run_s_pue_ranges_and_basis() -> None:
    fields = fields_of(whole(18000, 1.8, pue=1.5), 1.5, account())
    a, b = fields["spans"]
    assert (a.name, a.count, a.open, b.open) == ("A", 1, 0, 1)
    assert a.it_energy_kwh == pytest.approx(kwh_from_j(9000))
    assert a.energy_kwh == pytest.approx(1.5 * a.it_energy_kwh)
    assert (a.energy_kwh_low, a.energy_kwh_high) == pytest.approx((0.9 * a.energy_kwh, 1.1 * a.energy_kwh))
    assert (a.co2eq_g, a.co2eq_g_low) == pytest.approx((0.9, 0.81))
    assert a.power_w == pytest.approx(9000 / 40)
    assert (a.coverage, a.basis) == (0.9, Basis.COUNTER)
    assert [(tags.tags, tags.count) for tags in b.by_tags] == [({"k": "v"}, 1)]
    assert fields["unattributed"].it_energy_kwh == pytest.approx(0.0, abs=1e-15)
    assert fields["unattributed"].idle is None  # no floor is known, so nothing is said of it
    assert fields["attribution"].policy == "even"


def test_a_known_floor_is_the_idle_part() -> None:
    fields = fields_of(whole(18000, 1.8), 1.0, account(floor_w=50.0))
    idle = fields["unattributed"].idle
    assert idle.it_energy_kwh == pytest.approx(kwh_from_j(3000))
    assert fields["unattributed"].it_energy_kwh == pytest.approx(kwh_from_j(3000))
    (split,) = fields["attribution"].devices
    parts = split.idle_it_energy_kwh + split.spans_it_energy_kwh + split.rest_it_energy_kwh
    assert (parts, split.idle_floor_w) == (pytest.approx(kwh_from_j(18000)), 50.0)


@given(factor=st.floats(0.1, 10.0), more_j=st.floats(0.0, 1e6), spread=st.floats(0.0, 1.0), pue=st.floats(1.0, 3.0))
def test_spans_and_what_is_unattributed_make_the_run(factor: float, more_j: float, spread: float, pue: float) -> None:
    run = whole(18000 + more_j, 1.8 * factor + more_j * 1e-4, pue=pue, spread=spread)
    fields = fields_of(run, pue, account(factor=factor))
    parts = [*fields["spans"], fields["unattributed"]]
    for name in ("it_energy_kwh", "energy_kwh", "co2eq_g", "energy_kwh_high", "co2eq_g_low"):
        assert math.fsum(getattr(part, name) for part in parts) == pytest.approx(run[name], rel=1e-9)


def test_without_a_span_all_is_unattributed() -> None:
    fields = fields_of(whole(18000, 1.8), 1.0, None)
    assert (fields["spans"], fields["attribution"], fields["children"]) == ((), None, ())
    assert fields["unattributed"].it_energy_kwh == kwh_from_j(18000)
    assert fields["unattributed"].idle is None


def test_a_child_has_its_spans_energy_and_its_epochs_what_was_asked_of_them() -> None:
    stints = (Stint(0, 10.0, 100.0, 0.01, 5, False, True), Stint(1, 10.0, 0.0, 0.0, 5, False, False))
    children = (Child(name="actor", steps=10, stints=stints, total=2), Child(name="idle", steps=0, stints=(), total=0))
    fields = fields_of(whole(18000, 3.6), 1.0, account(factor=2.0), children)
    actor, idle = fields["children"]
    assert (actor.it_energy_kwh, actor.co2eq_g, actor.count, actor.steps) == (
        pytest.approx(kwh_from_j(9000)),
        pytest.approx(1.8),
        1,
        10,
    )
    known, unknown = actor.epochs
    assert (known.it_energy_kwh, known.co2eq_g, known.is_final, known.coverage) == (
        pytest.approx(kwh_from_j(100)),
        pytest.approx(0.02),
        True,
        0.9,
    )
    assert (unknown.is_final, unknown.coverage) == (False, 0.0)  # nothing vouches for its figures yet
    assert (idle.count, idle.it_energy_kwh, idle.power_w) == (0, 0.0, None)


def test_a_run_that_used_nothing_has_parts_that_used_nothing() -> None:
    part = Portions(whole(0.0, 0.0), 1.0).of(0.0, 0.0, 0.0)
    assert (part["it_energy_kwh"], part["co2eq_g_high"], part["power_w"]) == (0.0, 0.0, None)
