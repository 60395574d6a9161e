"""All settings of a tracker: one frozen dataclass, checked once.

Order of precedence: argument, environment variable `AIOCARBON_<FIELD>`, `[tool.aiocarbon]` of the nearest
pyproject.toml, default. Unset is a sentinel of its own, so that None can be said.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from aiocarbon._checks import check, is_number
from aiocarbon._core.policy import EVENLY, Split
from aiocarbon.budget import Budget
from aiocarbon.errors import ConfigError
from aiocarbon.meters.base import Meter

__all__ = ["FIELDS", "UNSET", "Settings", "Unset", "check", "check_arguments", "origin", "resolve"]


class Unset(Enum):
    """The absence of a value, told apart from None."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a tracker does; every field is checked before anything starts.

    Attributes:
        epochs: How many epochs there will be, 1 to 1e9; None: unbounded.
        name: What the user calls the run; at most 200 characters.
        budget: Limits on what the run may use; None: no limit.
        location: ISO country ("DE"), sub-national code ("US-CA"), grid zone, British postcode ("GB:N1"), coordinates
            ("55.67,12.57"); None: found out.
        intensity: Carbon intensity in gCO2eq/kWh, 0 to 3000; or a file or URL of rows of time and value; or the name of
            a source ("electricitymaps"); None: the sources that cover the location, else its bundled yearly average.
        pue: Power usage effectiveness, 1 to 10; None: found out (cloud, chassis, else 1.58).
        interval_s: Pace of counters, load models, journal and stream, 0.02 to 60 s.
        meters: Names ("nvml", "simulated:250") or `Meter` objects; None: all that this machine has.
        scope: Whose energy counts: "machine", all that it draws; "process", the share of this process and what it
            starts; "cgroup", that of its control group (a container's or batch job's).
        journal: Folder of the journal; None: none is written.
        run_id: Id of the run: letters, digits, ".", "_" and "-", at most 100; None: that of the SLURM job or
            of torchrun, else made.
        node: Name of this machine in reports and journals; None: SLURM's name of it, else its host name.
        offline: True if no network packet may be sent.
        strict: True if errors of the instrument shall be raised in the training.
        attribution: How energy is split among spans: "even", "weight" (by the weights that spans tell), "device" (a
            span bound to a GPU takes its energy) or "cpu" (by the CPU time of their own steps); "even,idle=shared"
            shares the idle floor too, "even,floor_w=50" gives it. A text, or a mapping of policy, idle and floor_w.
        device_sync: Run in a worker before a mark, which is then the instant it returned: a callable, or "torch".
        resume: Go on with a run that was broken off: its id (in the folder of journals) or its folder. Energy, epochs,
            spans and prediction then go on, the time in between is a pause; where there is none yet, it begins. True:
            the run with `run_id`, or that of the SLURM job or torchrun. The first epoch is the one behind the last
            complete one that the journal tells; a number, 0 to 1e9, says another one. None: nothing goes on.
        predict_after: Complete epochs before which nothing is predicted, 0 to 1e9. Up to 1, the first prediction comes
            as soon as anything tells a rate: earlier runs, steps with a total inside the first epoch, or its end.
        monitor_epochs: Only so many complete epochs count for predictions, the rest is extrapolated; None: all.
        on_prediction: Called with each epoch's `Prediction` in the user's task; if it returns False the run ends with
            `TrainingStoppedError`. A coroutine function is awaited (async tracker only). None: nobody is asked.
    """

    epochs: int | None = None
    name: str = ""
    budget: Budget | None = None
    location: str | None = None
    intensity: float | str | None = None
    pue: float | None = None
    interval_s: float = 1.0
    meters: tuple[str | Meter, ...] | None = None
    scope: str = "machine"
    journal: Path | None = None
    run_id: str | None = None
    node: str | None = None
    offline: bool = False
    strict: bool = False
    attribution: Split = EVENLY
    device_sync: str | Callable[[], object] | None = None
    resume: int | bool | str | Path | None = None
    predict_after: int = 1
    monitor_epochs: int | None = None
    on_prediction: Callable[[Any], Any] | None = None


FIELDS: Final = tuple(f.name for f in dataclasses.fields(Settings))


def check_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were given, checked; unset ones are left out."""
    return {field: check(field, value) for field, value in given.items() if value is not UNSET}


def resolve(
    arguments: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """The settings in force; reads files, so it runs in a worker.

    Args:
        arguments: Checked arguments, as of `check_arguments`.
        environ: Environment variables; the process's own by default.
        folder: Where the search for pyproject.toml begins, upwards; the current folder by default.

    Raises:
        ConfigError: A value of the environment or the file is not accepted.
    """
    return Settings(**{field: value for field, (value, _) in _found(arguments, environ, folder).items()})


def origin(
    field: str,
    arguments: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Where the value in force of a field comes from; reads files, so it runs in a worker.

    Args:
        field: Name of a field of `Settings`.
        arguments: As for `resolve`, and so are the others.
        environ: Environment variables; the process's own by default.
        folder: Where the search for pyproject.toml begins.

    Returns:
        "argument", the environment variable's name, the file's path, or "default".

    Raises:
        ConfigError: A value of the environment or the file is not accepted.
    """
    return _found(arguments, environ, folder).get(field, (None, "default"))[1]


def _found(
    arguments: Mapping[str, Any], environ: Mapping[str, str] | None, folder: Path | None
) -> dict[str, tuple[Any, str]]:
    """All values that were said somewhere, each with its origin."""
    values = _from_file(folder)
    values.update(_from_environment(os.environ if environ is None else environ))
    values.update({field: (value, "argument") for field, value in arguments.items()})
    return values


def said(field: str, text: str) -> str | None:
    """What a text from the outside stands for: "none" for None, but a run may be called so."""
    return None if text.lower() == "none" and field != "name" else text


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found = {}
    for field in FIELDS:
        variable = f"AIOCARBON_{field.upper()}"
        text = environ.get(variable)
        if text is not None and text != "":
            found[field] = check(field, said(field, text), origin=variable), variable
    return found


def _from_file(folder: Path | None) -> dict[str, tuple[Any, str]]:
    try:
        start = (folder or Path.cwd()).resolve()
    except OSError:
        return {}
    for parent in (start, *start.parents):
        path = parent / "pyproject.toml"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        return _from_table(text, path)
    return {}


def _from_table(text: str, path: Path) -> dict[str, tuple[Any, str]]:
    if "aiocarbon" not in text:
        return {}
    import tomllib

    try:
        table: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("pyproject.toml", str(path), f"valid TOML ({error})", origin=str(path)) from error
    for name in ("tool", "aiocarbon"):
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise ConfigError("tool.aiocarbon", table, "a table, [tool.aiocarbon]", origin=str(path))
    found = {}
    for key, value in table.items():
        field = key.replace("-", "_")
        if field not in FIELDS:
            raise ConfigError(key, value, f"a field among {', '.join(FIELDS)}", origin=str(path))
        if field == "journal" and isinstance(value, str) and not os.path.isabs(value):
            value = str(path.parent / value)
        if field == "intensity" and isinstance(value, str) and not is_number(value):
            from aiocarbon.intensity import own

            value = own.beside(value, path.parent)
        found[field] = check(field, value, origin=str(path)), str(path)
    return found
