"""What each part of a training used, from the tracker's report: the parts make the whole.

Energies are IT energies, what the meters say. Where the run is told apart from the rest of the machine
(`scope="process"`), what the machine drew idle and for others are parts as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport

J_PER_KWH: Final = 3.6e6
ENOUGH: Final = 1e-9
"""Of the whole: how far the parts may be from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One part of the run.

    Attributes:
        name: What it is.
        energy_j: IT energy, joules.
        share: Of the whole, 0..1.
        count: How many `unit` there were; 0 if it is not counted.
        unit: What is counted: "environment step".
        is_within: True if a part above holds it already.
    """

    name: str
    energy_j: float
    share: float
    count: int = 0
    unit: str = ""
    is_within: bool = False

    @property
    def each_j(self) -> float | None:
        """Joules for one of them; None if none was counted."""
        return self.energy_j / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Costs:
    """All parts of a run.

    Attributes:
        parts: Those that make the whole, and those within them.
        whole_j: What the meters say, joules.
    """

    parts: tuple[Cost, ...]
    whole_j: float

    @property
    def sum_j(self) -> float:
        """Of the parts that are within no other."""
        return sum(part.energy_j for part in self.parts if not part.is_within)

    @property
    def add_up(self) -> bool:
        """Whether the parts make the whole, and the actors make the rollouts."""
        rollouts = sum(part.energy_j for part in self.parts if part.name == "rollouts")
        actors = sum(part.energy_j for part in self.parts if part.name.startswith("actor"))
        allowed_j = ENOUGH * self.whole_j
        return abs(self.sum_j - self.whole_j) <= allowed_j and abs(actors - rollouts) <= allowed_j


def costs(report: RunReport, environment_steps: int) -> Costs:
    """The parts of a run of the reinforcement learning.

    Args:
        report: Its report.
        environment_steps: Of all rollouts.
    """
    whole_kwh = report.scope.machine_it_energy_kwh
    if whole_kwh is None:
        whole_kwh = sum(device.it_energy_kwh for device in report.devices if device.counted)
    whole_j = whole_kwh * J_PER_KWH
    return Costs(tuple(_parts(report, environment_steps, whole_j)), whole_j)


def _parts(report: RunReport, environment_steps: int, whole_j: float) -> Iterator[Cost]:
    def cost(name: str, it_energy_kwh: float, count: int = 0, unit: str = "", *, is_within: bool = False) -> Cost:
        energy_j = it_energy_kwh * J_PER_KWH
        share = energy_j / whole_j if whole_j else 0.0
        return Cost(name=name, energy_j=energy_j, share=share, count=count, unit=unit, is_within=is_within)

    for span in report.spans:
        is_rollout = span.name == "rollout"
        count, unit = (environment_steps, "environment step") if is_rollout else (span.count, span.name)
        yield cost(f"{span.name}s", span.it_energy_kwh, count, unit)
        if is_rollout:
            for child in report.children:
                yield cost(child.name, child.it_energy_kwh, child.steps, unit, is_within=True)
    rest_kwh, idle, scope = report.unattributed.it_energy_kwh, report.unattributed.idle, report.scope
    idle_kwh = 0.0 if idle is None else idle.it_energy_kwh
    yield cost("unattributed", rest_kwh - idle_kwh)
    if idle is not None or scope.idle_it_energy_kwh is not None:
        yield cost("idle floor", idle_kwh + (scope.idle_it_energy_kwh or 0.0))
    if scope.others_it_energy_kwh is not None:
        yield cost("other processes", scope.others_it_energy_kwh)
    if scope.unknown_it_energy_kwh:
        yield cost("nobody knows whose", scope.unknown_it_energy_kwh)


def table(found: Costs) -> str:
    """The parts as lines for people."""
    rows = [("", "energy", "share", "")]
    for part in found.parts:
        each = f"{amount(part.each_j)} per {part.unit} ({part.count:,})" if part.each_j is not None else ""
        name = f"  {part.name}" if part.is_within else part.name
        rows.append((name, amount(part.energy_j), f"{part.share:.1%}", each))
    verdict = "the meters' total" if found.add_up else "NOT THE METERS' TOTAL"
    rows.append(("sum of the parts", amount(found.sum_j), "", f"{verdict}: {_apart(found)}"))
    return "\n".join(_lines(rows))


def _apart(found: Costs) -> str:
    return f"{amount(found.whole_j)}, apart by {abs(found.sum_j - found.whole_j):.1e} J"


def _lines(rows: Sequence[tuple[str, str, str, str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, energy, share, each in rows:
        yield f"{name:<{widths[0]}}  {energy:>{widths[1]}}  {share:>{widths[2]}}  {each}".rstrip()


def amount(joules: float) -> str:
    """Joules in a fitting unit, to three digits."""
    if joules == 0.0:
        return "0 J"
    for unit, size in (("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3)):
        if abs(joules) >= size * 0.9995:
            return f"{joules / size:.3g} {unit}" if abs(joules) < 999.5 * size else f"{joules / size:,.0f} {unit}"
    return f"{joules / 1e-6:.3g} µJ"
