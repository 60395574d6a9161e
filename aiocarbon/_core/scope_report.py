"""What a report's figures hold: which parts of the computer, and whose use of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiocarbon._core.ledger import Cut, DeviceCut
from aiocarbon._core.reading import Basis, Part, Role
from aiocarbon._core.units import kwh_from_j

MEASURED = frozenset({Basis.COUNTER, Basis.POWER})

ALWAYS_THERE = (Part.CPU, Part.MEMORY)
"""Parts that every computer has; where nothing tells them they are missing from the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the figures hold.

    A share is counted without the idle floor. Own, idle, others and unknown add up to the machine's; they are None in
    the scope of the machine.

    Attributes:
        name: "machine": everything the machine draws, whoever uses it; "process": the share of a process and what it
            started; "cgroup": that of a control group.
        measured: Parts that a counter or a power sensor tells: "cpu", "memory", "gpu".
        modelled: Parts that a model tells; a share is one.
        missing: Parts of a computer that nothing tells.
        own_it_energy_kwh: What is counted, kWh: the run's `it_energy_kwh`.
        idle_it_energy_kwh: What the machine's devices draw whoever uses them.
        others_it_energy_kwh: What other users of the machine used.
        unknown_it_energy_kwh: Used above the idle floor, and nobody can tell by whom.
        machine_it_energy_kwh: All of it.
        how: How the shares were found, in words.
    """

    name: str
    measured: tuple[str, ...]
    modelled: tuple[str, ...]
    missing: tuple[str, ...]
    own_it_energy_kwh: float | None = None
    idle_it_energy_kwh: float | None = None
    others_it_energy_kwh: float | None = None
    unknown_it_energy_kwh: float | None = None
    machine_it_energy_kwh: float | None = None
    how: tuple[str, ...] = ()


def scope(cut: Cut, missing: Iterable[Part], name: str = "machine") -> Scope:
    """What a cut's figures hold, by the parts that its counted devices cover."""
    measured = {p for d in cut.counted if d.device.basis in MEASURED for p in d.device.covers}
    modelled = {p for d in cut.counted if d.device.basis not in MEASURED for p in d.device.covers} - measured
    absent = (set(ALWAYS_THERE) | set(missing)) - measured - modelled
    order = list(Part)
    return Scope(
        name=" and ".join(dict.fromkeys(map(_scope_of, cut.counted))) or name,
        **_shares(cut),
        measured=tuple(p.value for p in order if p in measured),
        modelled=tuple(p.value for p in order if p in modelled),
        missing=tuple(p.value for p in order if p in absent),
    )


def _scope_of(part: DeviceCut) -> str:
    return "machine" if part.device.share is None else part.device.share.scope


def _shares(cut: Cut) -> dict[str, Any]:
    """Whose the energy of the machine was, where only a share of it is counted."""
    joules: dict[Role, list[float]] = {}
    how: dict[str, None] = {}
    for part in cut.devices:
        if part.device.share is not None:
            joules.setdefault(part.device.share.role, []).append(part.energy_j)
            how[part.device.share.how] = None
    if not joules:
        return {}
    own, idle, unknown, whole = (math.fsum(joules.get(role, ())) for role in Role)
    # Each part was frozen for itself at marks whose readings came late, so a sum may miss the whole by a hair.
    others = max(whole - own - idle - unknown, 0.0)
    return {
        "own_it_energy_kwh": kwh_from_j(own),
        "idle_it_energy_kwh": kwh_from_j(idle),
        "others_it_energy_kwh": kwh_from_j(others),
        "unknown_it_energy_kwh": kwh_from_j(unknown),
        "machine_it_energy_kwh": kwh_from_j(math.fsum((own, idle, others, unknown))),
        "how": tuple(how),
    }
