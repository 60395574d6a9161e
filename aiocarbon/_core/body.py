"""What a report is made of, kept apart from it: a run can begin before the classes of its report are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiocarbon._core.intensity import Location
from aiocarbon._core.ledger import Cut, Mark
from aiocarbon._core.reading import Part

if TYPE_CHECKING:
    from aiocarbon._core.former import Former
    from aiocarbon._core.identity import Identity
    from aiocarbon._core.report import EpochReport, Prediction
    from aiocarbon._core.shares import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """What the instrument itself cost.

    Attributes:
        cpu_s: CPU seconds of the engine's thread and its workers.
        readings: Readings taken.
        missed_ticks: Ticks that came too late and were dropped.
        it_energy_kwh: Those CPU seconds at the mean power of a logical CPU of the machine meanwhile: what its
            processors drew, idle power included, by their number. The run's energy holds it, where its scope is the
            machine. None where no processor's energy is known.
    """

    cpu_s: float
    readings: int
    missed_ticks: int
    it_energy_kwh: float | None = None

    def __add__(self, other: Overhead) -> Overhead:
        """Of both together; energy is known if it is of all that cost CPU time."""
        energies = [cost.it_energy_kwh for cost in (self, other) if cost.cpu_s > 0.0]
        known = [energy for energy in energies if energy is not None]
        return Overhead(
            cpu_s=self.cpu_s + other.cpu_s,
            readings=self.readings + other.readings,
            missed_ticks=self.missed_ticks + other.missed_ticks,
            it_energy_kwh=sum(known) if known and len(known) == len(energies) else None,
        )


NO_OVERHEAD: Final = Overhead(cpu_s=0.0, readings=0, missed_ticks=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a report states beside its quantities.

    Attributes:
        run_id: Id of the run.
        name: What the user called it.
        host: The machine.
        location: Where it is.
        version: Version of aiocarbon that measured.
        scope: Whose energy counts: "machine", "process" or "cgroup".
        tool: Who measured: "aiocarbon", or the tool whose log was imported; `version` is then that one's.
        identity: Who the process is; None where its journal does not say.
        first_epoch: Number of the epoch that this start of the run began with.
        former: What earlier tries of the run measured, which its report then holds too; None for nothing.
    """

    run_id: str
    name: str
    host: str
    location: Location
    version: str
    identity: Identity | None = None
    first_epoch: int = 0
    former: Former | None = None
    scope: str = "machine"
    tool: str = "aiocarbon"


@dataclass(frozen=True, slots=True)
class Stint:
    """An epoch of a child.

    Attributes:
        index: 0 for the first.
        duration_s: Its length.
        energy_j: What its spans used in it, joules.
        co2eq_g: Likewise grams.
        steps: Steps that were told in it.
        is_partial: True if it did not end by itself.
        is_final: False while it is not yet known what its spans used.
    """

    index: int
    duration_s: float
    energy_j: float
    co2eq_g: float
    steps: int
    is_partial: bool
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child of a tracker.

    Attributes:
        name: Its name.
        steps: Steps it told.
        stints: Its last epochs.
        total: How many there were.
    """

    name: str
    steps: int
    stints: tuple[Stint, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a run's report is made of, beside its ledger.

    Attributes:
        begin: Where the run began.
        end: Where it ended, or up to where it is reported.
        epochs: The epochs kept, in order.
        epochs_total: How many there were.
        outside: Sum of the windows that lie in no epoch.
        warnings: What a reader of the figures must know.
        missing: Parts that are known to be there and cannot be read.
        overhead: What the instrument itself cost.
        is_final: True once the run has ended.
        ended_well: False if it did not end by itself.
        mended_by_g: Grams of CO2eq by which the figure rose when intensities of the past were asked for again; None if
            none were.
        prediction: The newest prediction; None if there is none.
        account: What became of the energy among spans; None if there was none.
        children: The children of its tracker.
    """

    begin: Mark
    end: Mark
    epochs: tuple[EpochReport, ...]
    epochs_total: int
    outside: Cut
    warnings: tuple[str, ...]
    missing: frozenset[Part]
    overhead: Overhead
    is_final: bool
    ended_well: bool
    mended_by_g: float | None = None
    prediction: Prediction | None = None
    account: Account | None = None
    children: tuple[Child, ...] = ()
