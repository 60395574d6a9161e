"""Accounts of trainings that share nodes: what the meters told goes to them and to the rest, and nothing is lost."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.reading import Basis
from aiocarbon._core.units import J_PER_KWH, kwh_from_j
from aiocarbon.integrations._ray_accounts import TOTAL, Account, Accounts, Told, plain, remembered

G_PER_KWH = 200.0
PUE = 1.5


def told(
    node: str, as_of_s: float, joules: float, *, began_s: float = 0.0, life: str = "a", vouched: float = 1.0
) -> Told:
    """A word of a node's meter that has counted so many joules, of which it vouches for a share of the time."""
    kwh = kwh_from_j(joules)
    return Told(
        node_id=node,
        life=life,
        began_s=began_s,
        as_of_s=as_of_s,
        amounts=(kwh, kwh * PUE, kwh * PUE * G_PER_KWH, *(kwh if basis is Basis.COUNTER else 0.0 for basis in Basis)),
        ranges=((0.9, 1.1), (0.9, 1.1), (0.8, 1.2)),
        covered_s=(as_of_s - began_s) * vouched,
        pue=PUE,
    )


def joules(account: Account) -> float:
    return account.sum()[0] * J_PER_KWH


def test_a_training_alone_has_what_its_node_uses_while_it_is_on() -> None:
    accounts = Accounts()
    accounts.take(told("n", 10.0, 1000.0))
    account = accounts.open("t", 12.0, {"n"})
    accounts.take(told("n", 20.0, 2000.0))
    used = account.quantities()
    assert used is not None
    assert used.duration_s == 8.0
    assert used.it_energy_kwh == pytest.approx(kwh_from_j(800.0))
    assert used.power_w == pytest.approx(100.0)
    assert (used.energy_kwh, used.co2eq_g) == pytest.approx(
        (used.it_energy_kwh * PUE, used.it_energy_kwh * PUE * G_PER_KWH)
    )
    assert used.energy_kwh_low == pytest.approx(used.energy_kwh * 0.9)
    assert used.co2eq_g_high == pytest.approx(used.co2eq_g * 1.2)
    assert (used.coverage, used.basis, used.basis_shares) == (1.0, Basis.COUNTER, {Basis.COUNTER: 1.0})
    assert accounts.rest[0] == pytest.approx(kwh_from_j(1200.0))


def test_those_on_one_node_at_once_share_evenly_and_others_get_nothing() -> None:
    accounts = Accounts()
    a, b = accounts.open("a", 0.0, {"n"}), accounts.open("b", 5.0, {"n", "m"})
    other, everywhere = accounts.open("c", 0.0, {"m"}), accounts.open("d", 8.0)
    accounts.take(told("n", 10.0, 1000.0))
    assert [joules(one) for one in (a, b, other, everywhere)] == pytest.approx(
        [500 + 150 + 200 / 3, 150 + 200 / 3, 0.0, 200 / 3]
    )
    assert other.quantities() is None  # it was told nothing, which is not 0


def test_one_that_ends_has_what_came_until_then_whenever_that_is_told() -> None:
    accounts = Accounts()
    account = accounts.open("t", 0.0, {"n"})
    accounts.take(told("n", 4.0, 400.0))
    accounts.close("t", 5.0)
    accounts.take(told("n", 10.0, 1000.0))
    accounts.take(told("n", 11.0, 1100.0))
    used = account.quantities()
    assert used is not None
    assert (joules(account), used.duration_s) == pytest.approx((500.0, 5.0))
    accounts.open("t", 20.0, {"n"})  # it goes on
    accounts.take(told("n", 21.0, 2100.0))
    assert (joules(account), account.duration_s()) == pytest.approx((600.0, 6.0))
    accounts.close("t", 21.0)
    assert accounts.is_idle
    accounts.take(told("n", 10_000.0, 2100.0))  # long after: its intervals are forgotten, and count
    assert account.duration_s() == pytest.approx(6.0)


def test_what_was_not_measured_is_in_no_figure_and_lowers_the_coverage() -> None:
    accounts = Accounts()
    account = accounts.open("t", 0.0, {"n"})
    assert account.quantities() is None
    accounts.take(told("n", 10.0, 1000.0, vouched=0.5))
    used = account.quantities()
    assert used is not None
    assert used.coverage == pytest.approx(0.5)
    accounts.take(told("n", 40.0, 1000.0, began_s=30.0, life="b"))  # the meter died, another began 20 s later
    used = account.quantities()
    assert used is not None
    assert used.it_energy_kwh == pytest.approx(kwh_from_j(2000.0))
    assert used.duration_s == 40.0
    assert used.coverage == pytest.approx((5 + 10) / 20 * 20 / 40)


def test_a_word_that_comes_late_or_twice_changes_nothing() -> None:
    accounts = Accounts()
    account = accounts.open("t", 0.0, {"n"})
    for word in (told("n", 2.0, 200.0), told("n", 1.0, 100.0), told("n", 2.0, 200.0)):
        accounts.take(word)
    assert joules(account) == pytest.approx(200.0)
    accounts.take(told("n", 2.0, 220.0))  # what is corrected is of those who were there
    assert joules(account) == pytest.approx(220.0)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.sampled_from(["n", "m", "nm", None])), max_size=6),
    st.lists(st.tuples(st.sampled_from("nm"), st.floats(0, 10), st.floats(0, 1000)), max_size=30),
)
def test_accounts_and_rest_make_what_the_meters_told(
    trainings: list[tuple[float, float, str | None]], words: list[tuple[str, float, float]]
) -> None:
    accounts = Accounts()
    opened = []
    for i, (begin, length, nodes) in enumerate(trainings):
        opened.append(accounts.open(str(i), begin, nodes))
        accounts.close(str(i), begin + length)
    at, counted = {"n": 0.0, "m": 0.0}, {"n": 0.0, "m": 0.0}
    for node, seconds, more in words:
        at[node] += seconds
        counted[node] += more
        accounts.take(told(node, at[node], counted[node]))
    parts = [*(account.sum() for account in opened), accounts.rest]
    total = accounts.total.sum()
    for i, whole in enumerate(total):
        assert math.fsum(part[i] for part in parts) == pytest.approx(whole, rel=1e-9, abs=1e-15)
    assert total[0] == pytest.approx(kwh_from_j(sum(counted.values())), rel=1e-9)
    assert all(amount >= -1e-15 for part in parts for amount in part)
    for account in opened:
        used = account.quantities()
        assert used is None or (0.0 <= used.coverage <= 1.0 and used.duration_s <= 100.0 + 1e-9)


def test_the_total_is_of_all_nodes_since_they_began() -> None:
    accounts = Accounts()
    accounts.take(told("n", 10.0, 1000.0))
    total = accounts.open(TOTAL, 10.0)
    accounts.open("t", 10.0, {"n"})
    accounts.take(told("n", 20.0, 2000.0))
    accounts.take(told("m", 20.0, 500.0, began_s=15.0))
    used = total.quantities()
    assert used is not None
    assert (used.it_energy_kwh, used.duration_s) == pytest.approx((kwh_from_j(2500.0), 20.0))
    assert accounts.account(TOTAL) is total


def test_an_account_goes_on_in_another_process() -> None:
    accounts = Accounts()
    account = accounts.open("t", 0.0, {"n"})
    accounts.take(told("n", 10.0, 1000.0))
    state = json.loads(json.dumps(plain(account)))
    later = Accounts()
    after = later.open("t", 100.0, {"n"}, before=remembered(state))
    assert after.quantities() is None  # nothing was told yet of what it uses now
    later.take(told("n", 105.0, 500.0, began_s=100.0))
    used = after.quantities()
    assert used is not None
    assert (used.it_energy_kwh, used.duration_s) == pytest.approx((kwh_from_j(1500.0), 15.0))
    assert used.it_energy_kwh_high == pytest.approx(used.it_energy_kwh * 1.1)
    assert used.coverage == pytest.approx(1.0)


@pytest.mark.parametrize(
    "state", [None, 3, {}, {"amounts": [1.0], "ranges": [], "duration_s": 1}, {"amounts": ["x"]}, "text",
              {"amounts": [math.nan] * 7, "ranges": [[1, 1]] * 3, "duration_s": 1}]
)  # fmt: skip
def test_what_is_no_account_counts_for_nothing(state: Any) -> None:
    assert remembered(state) is None
