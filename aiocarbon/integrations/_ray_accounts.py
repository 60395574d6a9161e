"""Whose energy it was, by time: each node's joules go in even parts to the trainings that are on it just then.

A node's meter tells how much it has counted since it began. Of what came between two such words each account that was
open on the node has an even part of the time that it was open, and what nobody was open for is `rest`; so accounts and
rest make what the meters told, exactly, however many trainings share a node. Pure; no part of it knows Ray.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.ledger import weakest
from aiocarbon._core.reading import Basis
from aiocarbon._core.report import Quantities
from aiocarbon._core.units import J_PER_KWH

if TYPE_CHECKING:
    from aiocarbon._core.intensity import IntensityValue
    from aiocarbon._core.report import RunReport

FIELDS: Final = ("it_energy_kwh", "energy_kwh", "co2eq_g")
ENDS: Final = ("low", "high")

Amounts = tuple[float, ...]
"""`FIELDS`, then kWh by `Basis` in its order."""

Ranges = tuple[tuple[float, float], ...]
"""Of each of `FIELDS` the two ends of its range, as shares of the figure: a meter is wrong by one share all along."""

NOTHING: Final[Amounts] = (0.0,) * (len(FIELDS) + len(Basis))
TOTAL: Final = ""
BEFORE: Final = ""
"""What the time before is called among nodes, of an account that was remembered."""

SETTLED_S: Final = 300.0
"""How long an interval of an account is remembered after its end: nodes tell of it within seconds."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a node's meter has counted since it began.

    Attributes:
        node_id: Ray's id of the node.
        life: Tells one meter of a node from the next.
        began_s: When it began, Unix time.
        as_of_s: Up to when it has counted.
        amounts: What it has counted.
        ranges: Their ranges.
        covered_s: Seconds that its readings vouch for.
        pue: Power usage effectiveness.
        ahead: Steps of carbon intensity from `as_of_s` on, (Unix time, value).
    """

    node_id: str
    life: str
    began_s: float
    as_of_s: float
    amounts: Amounts
    ranges: Ranges
    covered_s: float
    pue: float
    ahead: tuple[tuple[float, IntensityValue], ...] = ()

    @classmethod
    def of(cls, report: RunReport, node_id: str, life: str, ahead: Iterable[tuple[float, IntensityValue]] = ()) -> Told:
        """What a report of a node's own tracker says."""
        by_basis = (report.it_energy_kwh * report.basis_shares.get(basis, 0.0) for basis in Basis)
        return cls(
            node_id=node_id,
            life=life,
            began_s=report.started_at.timestamp(),
            as_of_s=report.started_at.timestamp() + report.duration_s,
            amounts=(*(getattr(report, name) for name in FIELDS), *by_basis),
            ranges=tuple(_shares_of(report, name) for name in FIELDS),
            covered_s=report.coverage * report.duration_s,
            pue=report.pue.value,
            ahead=tuple(ahead),
        )


@dataclass(kw_only=True)
class Account:
    """One training: when it was on, where, and what it has used.

    Attributes:
        nodes: Ray's ids of its nodes; None: all there are.
        stretches: When it was on: begin and end, Unix time; the last one's end is infinite while it is.
        amounts: What it has used, by node.
        ranges: The newest ranges, by node.
        seconds: By node the seconds that the meter's words are about, and those that readings vouch for.
        length_s: Of stretches that are remembered no more.
        as_of_s: Up to when `amounts` goes; None before anything was told.
    """

    nodes: frozenset[str] | None
    stretches: list[tuple[float, float]] = field(default_factory=list)
    amounts: dict[str, Amounts] = field(default_factory=dict)
    ranges: dict[str, Ranges] = field(default_factory=dict)
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)
    length_s: float = 0.0
    as_of_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is on."""
        return bool(self.stretches) and math.isinf(self.stretches[-1][1])

    def is_on(self, node_id: str) -> bool:
        """Whether it runs on a node."""
        return self.nodes is None or node_id in self.nodes

    def sum(self) -> Amounts:
        """What it has used on all nodes."""
        return tuple(map(math.fsum, zip(NOTHING, *self.amounts.values(), strict=True)))

    def add(self, told: Told, part: Amounts, seconds: float, covered_s: float) -> None:
        """Take a part of what a node told."""
        self.amounts[told.node_id] = _sum(self.amounts.get(told.node_id, NOTHING), part)
        self.ranges[told.node_id] = told.ranges
        had = self.seconds.get(told.node_id, (0.0, 0.0))
        self.seconds[told.node_id] = had[0] + seconds, had[1] + covered_s

    def duration_s(self) -> float:
        """How long it was on, up to what is told."""
        upto = -math.inf if self.as_of_s is None else self.as_of_s
        return self.length_s + math.fsum(max(min(end, upto) - begin, 0.0) for begin, end in self.stretches)

    def quantities(self) -> Quantities | None:
        """What it has used; None while nothing was told."""
        duration_s = self.duration_s()
        if self.as_of_s is None or duration_s <= 0.0:
            return None
        amounts = self.sum()
        figures = dict(zip(FIELDS, amounts, strict=False))
        for i, name in enumerate(FIELDS):
            for j, end in enumerate(ENDS):
                parts = (of[i] * self.ranges[node][i][j] for node, of in self.amounts.items())
                figures[f"{name}_{end}"] = math.fsum(parts)
        energy_kwh = figures["it_energy_kwh"]
        shares = {
            basis: min(part / energy_kwh, 1.0)
            for basis, part in zip(Basis, amounts[len(FIELDS) :], strict=True)
            if part > 0.0 and energy_kwh > 0.0
        }
        told = math.fsum(seconds for seconds, _ in self.seconds.values())
        covered = math.fsum(seconds for _, seconds in self.seconds.values())
        vouched = min(max(covered / told, 0.0), 1.0) if told > 0.0 else 0.0
        # A node that said nothing for a part of the time was not measured then.
        now = max((seconds for node, (seconds, _) in self.seconds.items() if node != BEFORE), default=0.0)
        heard = min((self.seconds.get(BEFORE, (0.0, 0.0))[0] + now) / duration_s, 1.0)
        return Quantities(
            **figures,
            duration_s=duration_s,
            power_w=energy_kwh * J_PER_KWH / duration_s,
            coverage=vouched * heard,
            basis=weakest(shares),
            basis_shares=shares,
        )


class Accounts:
    """The accounts of a cluster's trainings.

    Attributes:
        rest: What no account was open for.
        total: What all nodes used since their meters began; `TOTAL` is its key.
        newest: The last word of each node.
    """

    def __init__(self) -> None:
        self.rest: Amounts = NOTHING
        self.total = Account(nodes=None)
        self.newest: dict[str, Told] = {}
        self._accounts: dict[str, Account] = {}

    def open(self, key: str, at_s: float, nodes: Iterable[str] | None = None, before: Account | None = None) -> Account:
        """Begin or go on with an account.

        Args:
            key: Its name; one that is open stays as it is, but for its nodes.
            at_s: From when, Unix time; what nodes have told of already is shared out.
            nodes: Where it runs; None: everywhere.
            before: What it had used before, as somebody remembers who had it from here; counts where it is not known.
        """
        if key == TOTAL:
            return self.total
        where = None if nodes is None else frozenset(nodes)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = before or Account(nodes=where)
            account.stretches = [stretch for stretch in account.stretches if math.isfinite(stretch[1])]
        account.nodes = where
        if not account.is_open:
            last = account.stretches[-1][1] if account.stretches else -math.inf
            account.stretches.append((max(at_s, last), math.inf))
        return account

    def close(self, key: str, at_s: float) -> Account | None:
        """End an account; it can be opened again. None if there is none."""
        account = self._accounts.get(key)
        if account is not None and account.is_open:
            begin, _ = account.stretches[-1]
            account.stretches[-1] = (begin, max(at_s, begin))
        return account

    def rename(self, old: str, new: str) -> None:
        """Let an account that was begun under another name be known by this one, where none is yet."""
        if old in self._accounts and new not in self._accounts:
            self._accounts[new] = self._accounts.pop(old)

    def account(self, key: str) -> Account | None:
        """The account of a key."""
        return self.total if key == TOTAL else self._accounts.get(key)

    @property
    def is_idle(self) -> bool:
        """Whether none is open."""
        return not any(account.is_open for account in self._accounts.values())

    def take(self, told: Told) -> None:
        """Share out what came on a node since its last word; a word that is older than that changes nothing."""
        last = self.newest.get(told.node_id)
        if last is None or last.life != told.life:
            # A meter that follows one that died begins at 0; what was used between them nobody told.
            from_s = told.began_s if last is None else max(told.began_s, last.as_of_s)
            known, covered_s = NOTHING, 0.0
        else:
            from_s, known, covered_s = last.as_of_s, last.amounts, last.covered_s
            if told.as_of_s < from_s:
                return
        self.newest[told.node_id] = told
        came = tuple(now - before for now, before in zip(told.amounts, known, strict=True))
        length_s = told.as_of_s - from_s
        covered = (told.covered_s - covered_s) / length_s if length_s > 0.0 else 0.0
        self.total.stretches = [(min(from_s, *(begin for begin, _ in self.total.stretches or [(from_s, 0)])), math.inf)]
        self.total.add(told, came, length_s, length_s * covered)
        self._settle(self.total, told.as_of_s)
        there = [account for account in self._accounts.values() if account.is_on(told.node_id)]
        for begin, end, sharers in _pieces(there, from_s, told.as_of_s):
            share = (end - begin) / length_s if length_s > 0.0 else 1.0
            part = tuple(amount * share / max(len(sharers), 1) for amount in came)
            if not sharers:
                self.rest = _sum(self.rest, part)
            for account in sharers:
                account.add(told, part, end - begin, (end - begin) * covered)
        for account in there:
            self._settle(account, told.as_of_s)

    def _settle(self, account: Account, as_of_s: float) -> None:
        if account.stretches and account.stretches[0][0] < as_of_s:
            account.as_of_s = as_of_s if account.as_of_s is None else max(account.as_of_s, as_of_s)
        while account.stretches and account.stretches[0][1] < as_of_s - SETTLED_S:
            begin, end = account.stretches.pop(0)
            account.length_s += end - begin


def _pieces(accounts: list[Account], from_s: float, to_s: float) -> Iterable[tuple[float, float, list[Account]]]:
    """A window cut where accounts begin and end, each piece with those that were open in it."""
    if to_s <= from_s:  # nothing but a correction: it is of those who are there
        yield from_s, to_s, [one for one in accounts if any(begin <= to_s <= end for begin, end in one.stretches)]
        return
    cuts = {from_s, to_s}
    for account in accounts:
        cuts.update(at for stretch in account.stretches for at in stretch if from_s < at < to_s)
    edges = sorted(cuts)
    for begin, end in itertools.pairwise(edges):
        yield begin, end, [one for one in accounts if any(a <= begin and end <= b for a, b in one.stretches)]


def _shares_of(used: Quantities, name: str) -> tuple[float, float]:
    value = getattr(used, name)
    low, high = (getattr(used, f"{name}_{end}") / value if value > 0.0 else 1.0 for end in ENDS)
    return low, high


def _sum(some: Amounts, more: Amounts) -> Amounts:
    return tuple(a + b for a, b in zip(some, more, strict=True))


def plain(account: Account) -> dict[str, Any]:
    """An account as plain values, for a checkpoint."""
    used = account.quantities()
    amounts = account.sum()
    ranges = [list(_shares_of(used, name)) for name in FIELDS] if used is not None else []
    return {"amounts": list(amounts), "ranges": ranges, "duration_s": account.duration_s()}


def remembered(state: Any) -> Account | None:
    """The account that `plain` told; None for what is no such thing."""
    try:
        amounts, length_s = tuple(float(amount) for amount in state["amounts"]), float(state["duration_s"])
        ranges = tuple((float(low), float(high)) for low, high in state["ranges"])
    except (KeyError, TypeError, ValueError):
        return None
    if len(amounts) != len(NOTHING) or not all(map(math.isfinite, (*amounts, length_s))) or len(ranges) != len(FIELDS):
        return None
    account = Account(nodes=None, amounts={BEFORE: amounts}, ranges={BEFORE: ranges}, length_s=length_s)
    account.seconds[BEFORE] = (length_s, length_s)
    return account
