"""What of spans and children stands in a journal: totals by name, cumulative, of which the newest record counts.

Energies are integer microjoules, CO2eq integer nanograms with the intensities known when it was written, lengths
seconds. A reader multiplies CO2eq by what became known of the intensity since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from aiocarbon._core.body import Child, Stint
from aiocarbon._core.policy import Idle, Policy
from aiocarbon._core.shares import Account, DeviceShares, NameShare, OwnerShare, Part, Shares, Spread, TagsShare
from aiocarbon._core.units import G_PER_NG, J_PER_UJ, NG_PER_G, UJ_PER_J
from aiocarbon.journal.plain import count, number, seconds, whole

Record = dict[str, Any]

SPAN_KINDS: Final = frozenset({"spans", "child"})
"""Kinds of records that are told here."""

KEPT_STINTS: Final = 1000
"""Of each child the last epochs that a report holds, as in a live one."""


def spans_record(account: Account, t_boot: int) -> Record:
    """The record of an account.

    Args:
        account: What became of the energy.
        t_boot: Up to when, on the boot clock.
    """
    shares, factor = account.shares, account.co2eq_factor

    def part(of: Part) -> list[int]:
        return [round(of.energy_j * UJ_PER_J), round(of.co2eq_g * factor * NG_PER_G)]

    return {
        "k": "spans",
        "t": t_boot,
        "policy": shares.policy.value,
        "idle": shares.idle_policy.value,
        "resolution_s": shares.resolution_s,
        "whole": part(shares),
        "rest": part(shares.unattributed),
        "floor": part(shares.idle),
        "names": [
            [
                share.name,
                share.count,
                share.open,
                share.duration_s,
                *part(share),
                *part(share.inclusive),
                _spread(share.durations_s),
                _spread(share.energies_j),
                share.below_resolution,
                [[dict(tags.tags), tags.count, tags.duration_s, *part(tags)] for tags in share.by_tags],
            ]
            for share in shares.spans
        ],
        "owners": [[owner.name, owner.count, owner.duration_s, *part(owner)] for owner in shares.owners],
        "devices": [
            [d.id, *part(d), *part(d.idle), *part(d.spans), *part(d.unattributed), d.idle_floor_w]
            for d in shares.devices
        ],
        "notes": list(shares.notes),
        "dropped": account.dropped,
    }


def _spread(of: Spread) -> list[float | None]:
    return [of.mean, of.p50, of.p95, of.error]


def account_from(record: Mapping[str, Any]) -> Account:
    """The account that a record states; the factor of its CO2eq is still 1.

    Raises:
        KeyError, ValueError, TypeError, IndexError: It is no such record.
    """
    return Account(
        shares=Shares(
            **_part(record["whole"]),
            policy=Policy(record["policy"]),
            idle_policy=Idle(record["idle"]),
            as_of_ns=whole(record["t"]),
            spans=tuple(map(_name_from, record["names"])),
            unattributed=Part(**_part(record["rest"])),
            idle=Part(**_part(record["floor"])),
            devices=tuple(map(_device_from, record["devices"])),
            owners=tuple(
                OwnerShare(name=str(name), count=count(n), duration_s=seconds(duration_s), **_part(sums))
                for name, n, duration_s, *sums in record["owners"]
            ),
            resolution_s=_known(record["resolution_s"]),
            notes=tuple(map(str, record["notes"])),
        ),
        co2eq_factor=1.0,
        dropped=count(record["dropped"]),
    )


def _name_from(row: Sequence[Any]) -> NameShare:
    name, n, still, duration_s, uj, ng, in_uj, in_ng, durations, energies, is_below, tags = row
    return NameShare(
        **_part((uj, ng)),
        name=str(name),
        count=count(n),
        open=count(still),
        duration_s=seconds(duration_s),
        durations_s=_spread_from(durations),
        energies_j=_spread_from(energies),
        inclusive=Part(**_part((in_uj, in_ng))),
        below_resolution=bool(is_below),
        by_tags=tuple(
            TagsShare(
                tags={str(key): str(value) for key, value in told.items()},
                count=count(times),
                duration_s=seconds(length_s),
                **_part(sums),
            )
            for told, times, length_s, *sums in tags
        ),
    )


def _device_from(row: Sequence[Any]) -> DeviceShares:
    ident, *sums, floor_w = row
    return DeviceShares(
        id=str(ident),
        **_part(sums[0:2]),
        idle=Part(**_part(sums[2:4])),
        spans=Part(**_part(sums[4:6])),
        unattributed=Part(**_part(sums[6:8])),
        idle_floor_w=_known(floor_w),
    )


def _spread_from(row: Sequence[Any]) -> Spread:
    mean, p50, p95, error = row
    return Spread(mean=_known(mean), p50=_known(p50), p95=_known(p95), error=number(error))


def _part(sums: Sequence[Any]) -> dict[str, float]:
    uj, ng = sums
    return {"energy_j": number(uj) * J_PER_UJ, "co2eq_g": number(ng) * G_PER_NG}


def _known(value: Any) -> float | None:
    return None if value is None else number(value)


def child_record(name: str, stint: Stint, co2eq_factor: float) -> Record:
    """The record of an epoch of a child."""
    return {
        "k": "child",
        "name": name,
        "i": stint.index,
        "s": stint.duration_s,
        "uj": round(stint.energy_j * UJ_PER_J),
        "ng": round(stint.co2eq_g * co2eq_factor * NG_PER_G),
        "steps": stint.steps,
        "partial": stint.is_partial,
        "final": stint.is_final,
    }


def stint_from(record: Mapping[str, Any]) -> tuple[str, Stint]:
    """The child's name, and its epoch, of a record.

    Raises:
        KeyError, ValueError, TypeError: It is no such record.
    """
    sums = _part((record["uj"], record["ng"]))
    return str(record["name"]), Stint(
        index=count(record["i"]),
        duration_s=seconds(record["s"]),
        energy_j=sums["energy_j"],
        co2eq_g=sums["co2eq_g"],
        steps=count(record["steps"]),
        is_partial=bool(record["partial"]),
        is_final=bool(record["final"]),
    )


class SpanTotals:
    """What one process's journal tells of spans and children.

    Attributes:
        account: The newest account; None where there was no span.
    """

    def __init__(self) -> None:
        self.account: Account | None = None
        self._stints: dict[str, dict[int, Stint]] = {}

    def take(self, record: Mapping[str, Any]) -> None:
        """Take a record of spans or of a child.

        Raises:
            KeyError, ValueError, TypeError, IndexError: It is no such record.
        """
        if record["k"] == "child":
            name, stint = stint_from(record)
            self._stints.setdefault(name, {})[stint.index] = stint
            return
        account = account_from(record)
        if self.account is None or account.shares.as_of_ns >= self.account.shares.as_of_ns:
            self.account = account

    def shift(self, by_ns: int) -> None:
        """Let all instants be later by so many nanoseconds."""
        if self.account is not None:
            shares = self.account.shares
            self.account = replace(self.account, shares=replace(shares, as_of_ns=shares.as_of_ns + by_ns))

    def children(self) -> Iterator[Child]:
        """The children, as far as their epochs and spans tell."""
        owners = () if self.account is None else self.account.shares.owners
        for owner in owners:
            if owner.name not in self._stints:
                yield Child(name=owner.name, steps=0, stints=(), total=0)
        for name, by_index in self._stints.items():
            told = [by_index[i] for i in sorted(by_index)]
            steps = sum(stint.steps for stint in told)
            yield Child(name=name, steps=steps, stints=tuple(told[-KEPT_STINTS:]), total=max(by_index) + 1)
