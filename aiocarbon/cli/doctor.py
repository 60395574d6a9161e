"""`aiocarbon doctor`: each meter and source: whether it works, why not, and the exact line that mends it.

Each meter is opened and its devices are read twice, for real, in a worker of the engine's thread with a deadline: a
driver that hangs is reported as hanging and holds neither the others nor our exit, since those workers are daemons.
Every source of the place is asked meanwhile, with a deadline of its own (`doctor_grid.py`).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from aiocarbon import meters
from aiocarbon._core.reading import Device, Finding, Part, Quantity, Reading
from aiocarbon._core.units import J_PER_UJ, s_from_ns
from aiocarbon._version import __version__
from aiocarbon.cli.asking import ask_engine
from aiocarbon.cli.doctor_grid import Grid, grid_dict, grid_lines
from aiocarbon.cli.doctor_grid import examine as grid_of
from aiocarbon.cli.output import deliver
from aiocarbon.errors import MeterError, MeterPermissionError, MeterUnavailableError
from aiocarbon.render import numbers

if TYPE_CHECKING:
    from aiocarbon._engine.engine import Engine
    from aiocarbon.settings import Settings

__all__ = ["doctor"]

SCHEMA: Final = "aiocarbon.doctor/1"
DEADLINE_S: Final = 5.0
"""Longest time for opening and reading one meter; drivers without persistence mode need 1 to 3 s to start."""

BETWEEN_READS_S: Final = 0.5
"""Long beside the refresh of every counter (NVML: up to 0.1 s), so that the mean power says something."""

ON_REQUEST: Final = frozenset({"simulated", "replayed"})
"""Meters that measure nothing and are opened only where the user names them."""


class State(StrEnum):
    """How a meter is."""

    WORKS = "works"
    ABSENT = "not here"
    FORBIDDEN = "no permission"
    HANGS = "hangs"
    FAILS = "fails"
    ON_REQUEST = "only on request"


@dataclass(slots=True)
class Look:
    """What was found of one device, filled in as far as the looking came.

    Attributes:
        device: The device.
        power_w: Its present power draw, mean over half a second for a counter; None if it could not be told.
        error: Why not; empty if it could.
    """

    device: Device
    power_w: float | None = None
    error: str = ""


@dataclass(slots=True)
class Examination:
    """What was found of one meter, filled in by a worker as far as it came.

    Attributes:
        spec: The meter's name, with its argument.
        state: How it is; hanging until something else is known.
        why: Why it does not work; empty if it does.
        remedy: The exact line that mends it; empty where nothing does.
        doing: What was last begun, to be told if it hangs.
        looks: Its devices.
        findings: What else it found.
    """

    spec: str
    state: State = State.HANGS
    why: str = ""
    remedy: str = ""
    doing: str = "loading it"
    looks: list[Look] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def covers(self) -> frozenset[Part]:
        """The parts of the machine that it holds."""
        counted = [look.device for look in self.looks if look.device.counted] if self.state is State.WORKS else []
        return frozenset(part for device in counted for part in device.covers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that was found.

    Attributes:
        meters: Each meter.
        grid: The location, the intensity and the PUE with their sources, and what lies between.
        journal: Folder of journals that the library would write; None: none.
    """

    meters: tuple[Examination, ...]
    grid: Grid
    journal: str | None


def doctor(arguments: Mapping[str, Any], *, json_file: str | None = None) -> int:
    """Look at everything and tell; on stdout, or as JSON in a file.

    Args:
        arguments: Settings that were given, checked.
        json_file: File for all of it as JSON, "-" for stdout; None: none.

    Returns:
        0, or 1 if it could not be written.

    Raises:
        ConfigError: A value of the environment or of pyproject.toml is not accepted.
        EngineError: The engine could not begin, or does not answer.
    """
    found = _diagnose(arguments)
    return deliver(json_file, lambda: _to_dict(found), lambda: "\n".join(_lines(found)))


def _diagnose(arguments: Mapping[str, Any]) -> Diagnosis:
    from aiocarbon.settings import resolve

    settings = resolve(arguments)
    named = [spec for spec in settings.meters or () if isinstance(spec, str)]
    # Measuring meters, then models, each at most one deadline; the rest is patience with a busy machine.
    return ask_engine(lambda engine: _examine_all(engine, settings, arguments, named), 4 * DEADLINE_S)


async def _examine_all(
    engine: Engine, settings: Settings, arguments: Mapping[str, Any], named: Sequence[str]
) -> Diagnosis:
    import anyio

    _, filling = meters.default_names()
    specs = [*(name for name in meters.available_names() if name not in (*filling, *ON_REQUEST)), *named]
    measuring = [Examination(spec=spec) for spec in dict.fromkeys(specs) if spec not in filling]
    models = [Examination(spec=spec) for spec in filling]
    grids: list[Grid | Exception] = []

    async def look_at_the_grid() -> None:
        try:
            grids.append(await grid_of(engine, settings, arguments))
        except Exception as error:  # raised below: out of a task group it would come as a group
            grids.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_at_the_grid)
        await _examine_group(engine, measuring, frozenset())
        await _examine_group(engine, models, frozenset(part for one in measuring for part in one.covers()))
    (grid,) = grids
    if isinstance(grid, Exception):
        raise grid
    idle = [
        Examination(spec=name, state=State.ON_REQUEST, why="it measures nothing; name it in `meters` to have it")
        for name in sorted(ON_REQUEST - {spec.partition(":")[0] for spec in named})
    ]
    journal = None if settings.journal is None else str(settings.journal)
    return Diagnosis(meters=(*measuring, *models, *idle), grid=grid, journal=journal)


async def _examine_group(engine: Engine, group: Sequence[Examination], covered: frozenset[Part]) -> None:
    import anyio

    async def one(examination: Examination) -> None:
        with anyio.move_on_after(DEADLINE_S) as scope:
            await engine.blocking(_examine, examination, covered)
        if scope.cancelled_caught:
            examination.state = State.HANGS
            examination.why = f"no answer within {DEADLINE_S:g} s while {examination.doing}"

    async with anyio.create_task_group() as tasks:
        for examination in group:
            tasks.start_soon(one, examination)


def _examine(examination: Examination, covered: frozenset[Part]) -> None:
    """Open a meter, read its devices, close it; in a worker."""
    spec = examination.spec
    if why := meters.absent(spec):
        examination.state, examination.why = State.ABSENT, why
        return
    try:
        meter = meters.make(spec)
        examination.doing = "opening it"
        inventory = meter.open(covered)
        try:
            examination.findings.extend(inventory.findings)
            examination.looks.extend(Look(device) for device in inventory.devices)
            _read_twice(meter, examination)
        finally:
            examination.doing = "closing it"
            meter.close()
    except MeterError as error:
        forbidden, absent = isinstance(error, MeterPermissionError), isinstance(error, MeterUnavailableError)
        examination.state = State.FORBIDDEN if forbidden else State.ABSENT if absent else State.FAILS
        examination.why, examination.remedy = str(error), error.remedy
    except Exception as error:
        # A plug-in's own exception is what the user came to learn of.
        examination.state, examination.why = State.FAILS, f"{type(error).__name__}: {error}"
    else:
        readable = any(not look.error for look in examination.looks)
        examination.state = State.WORKS if readable else State.FAILS
        examination.why = "" if readable else "none of its devices can be read"


def _read_twice(meter: meters.Meter, examination: Examination) -> None:
    first = [_read(meter, look, examination) for look in examination.looks]
    time.sleep(BETWEEN_READS_S)
    for look, before in zip(examination.looks, first, strict=True):
        after = _read(meter, look, examination)
        if before is None or after is None:
            continue
        if look.device.quantity is Quantity.POWER:
            look.power_w = after.value
        elif after.t_ns > before.t_ns and after.value >= before.value:
            look.power_w = (after.value - before.value) * J_PER_UJ / s_from_ns(after.t_ns - before.t_ns)


def _read(meter: meters.Meter, look: Look, examination: Examination) -> Reading | None:
    examination.doing = f"reading {look.device.id}"
    try:
        return meter.read(look.device)
    except MeterError as error:
        look.error = str(error)
        examination.remedy = examination.remedy or error.remedy
        return None


# -- telling -----------------------------------------------------------------------------------------------------


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"aiocarbon: {__version__} on Python {platform.python_version()}, {platform.platform()}"
    yield "meters"
    for examination in found.meters:
        yield from _meter_lines(examination)
    yield from grid_lines(found.grid)
    yield "journal"
    yield f"  {found.journal or 'none is written by the library; `aiocarbon run` writes ./aiocarbon_runs'}"


def _meter_lines(one: Examination) -> Iterator[str]:
    yield f"  {one.spec:<14}{one.state.value}{f': {one.why}' if one.why else ''}"
    if one.remedy:
        yield from _remedy(one.remedy)
    for look in one.looks:
        device = look.device
        if look.error:
            state = f"cannot be read: {look.error}"
        elif look.power_w is None:
            state = "has not told its power draw yet"
        else:
            state = f"{numbers.power(look.power_w)} now"
        view = "" if device.counted else ", another view, not added"
        yield f"    {device.id}  {device.name}: {state} ({device.basis.value}{view})"
        if device.note:
            yield f"      {device.note}"
    for finding in one.findings:
        yield f"    {finding.message}"
        if finding.remedy:
            yield from _remedy(finding.remedy)


def _remedy(remedy: str) -> Iterator[str]:
    yield "    to mend it:"
    yield from (f"      {line}" for line in remedy.splitlines())


def _to_dict(found: Diagnosis) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "meters": [_meter_dict(one) for one in found.meters],
        **grid_dict(found.grid),
        "journal": found.journal,
    }


def _meter_dict(one: Examination) -> dict[str, Any]:
    return {
        "name": one.spec,
        "state": one.state.value,
        "why": one.why,
        "remedy": one.remedy,
        "devices": [
            {
                "id": look.device.id,
                "kind": look.device.kind.value,
                "name": look.device.name,
                "basis": look.device.basis.value,
                "counted": look.device.counted,
                "power_w": look.power_w,
                "error": look.error,
                "note": look.device.note,
            }
            for look in one.looks
        ],
        "findings": [{"event": f.event, "message": f.message, "remedy": f.remedy} for f in one.findings],
    }
