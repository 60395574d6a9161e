"""All settings of a tracker: one frozen dataclass, checked once.

Order of precedence: argument, environment variable `AIOCARBON_<FIELD>`, `[tool.aiocarbon]` of the nearest
pyproject.toml, default. Unset is a sentinel of its own, so that None can be said.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from aiocarbon._core.intensity import MAX_G_PER_KWH
from aiocarbon.budget import Budget
from aiocarbon.errors import ConfigError
from aiocarbon.meters.base import Meter

MAX_EPOCHS: Final = 10**9
MIN_INTERVAL_S: Final = 0.02
MAX_INTERVAL_S: Final = 60.0
MAX_PUE: Final = 10.0


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
        journal: Folder of the journal; None: none is written.
        run_id: Id of the run: letters, digits, ".", "_" and "-", at most 100; None: made.
        node: Name of this machine in reports and journals; None: its host name.
        offline: True if no network packet may be sent.
        strict: True if errors of the instrument shall be raised in the training.
        device_sync: Run in a worker before a mark, which is then the instant it returned: a callable, or "torch".
    """

    epochs: int | None = None
    name: str = ""
    budget: Budget | None = None
    location: str | None = None
    intensity: float | str | None = None
    pue: float | None = None
    interval_s: float = 1.0
    meters: tuple[str | Meter, ...] | None = None
    journal: Path | None = None
    run_id: str | None = None
    node: str | None = None
    offline: bool = False
    strict: bool = False
    device_sync: str | Callable[[], object] | None = None


FIELDS: Final = tuple(f.name for f in dataclasses.fields(Settings))


def _epochs(value: Any) -> int | None:
    if value is None:
        return None
    number = _whole(value)
    if number is None or not 1 <= number <= MAX_EPOCHS:
        raise ValueError(f"a whole number from 1 to {MAX_EPOCHS:.0e}, or None for an unbounded run")
    return number


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"[+-]?\d{1,18}", value.strip()) else None
    try:
        return int(value) if int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        return None


def _number(value: Any, low: float, high: float, words: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise ValueError(words)
    return number


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise ValueError("a text of at most 200 characters")
    return value


def _budget(value: Any) -> Budget | None:
    if isinstance(value, dict):
        try:
            value = Budget(**value)
        except TypeError:
            raise ValueError("co2eq_g, energy_kwh, duration_s and action") from None
    elif isinstance(value, str):
        limits = _budget_of_text(value)
        value = Budget(limits.get("co2eq_g"), limits.get("energy_kwh"), limits.get("duration_s"))
    if value is not None and not isinstance(value, Budget):
        raise ValueError('a Budget, or a text such as "co2eq_g=500,duration_s=3600", or None')
    return value


def _budget_of_text(text: str) -> dict[str, float]:
    words = 'a text such as "co2eq_g=500,energy_kwh=2,duration_s=3600"'
    limits = {}
    for part in text.split(","):
        field, _, number = part.partition("=")
        if field.strip() not in {"co2eq_g", "energy_kwh", "duration_s"}:
            raise ValueError(words)
        limits[field.strip()] = _number(number, 0.0, math.inf, words)
    return limits


def _location(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError('an ISO country such as "DE", a sub-national code such as "US-CA", coordinates, or None')
    from aiocarbon.intensity.table import parse_zone

    parse_zone(value)  # raises ConfigError with near matches
    return value


def _intensity(value: Any) -> float | str | None:
    if value is None:
        return None
    if isinstance(value, os.PathLike):
        value = os.path.abspath(os.fspath(value))  # a path that looks like a number or a name is still a path
    if not isinstance(value, str) or _is_number(value):
        return _number(
            value, 0.0, MAX_G_PER_KWH, "a number of gCO2eq/kWh from 0 to 3000, a file, a URL, a source or None"
        )
    from aiocarbon.intensity import own

    return own.checked(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _pue(value: Any) -> float | None:
    if value is None:
        return None
    return _number(value, 1.0, MAX_PUE, "a ratio from 1 to 10, or None to find it out")


def _interval(value: Any) -> float:
    return _number(value, MIN_INTERVAL_S, MAX_INTERVAL_S, "seconds from 0.02 to 60")


def _meters(value: Any) -> tuple[str | Meter, ...] | None:
    from aiocarbon import meters

    if value is None:
        return None
    if isinstance(value, str):
        value = [part.strip() for part in re.split(r"[\s;]+|,(?=\s*[a-z])", value) if part.strip()]
    elif isinstance(value, Meter):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise ValueError(f"names among {', '.join(meters.REGISTRY)}, or Meter objects, at least one; or None for all")
    for entry in value:
        if isinstance(entry, str):
            meters.make(entry)  # raises ConfigError; nothing is opened
        elif not isinstance(entry, Meter):
            raise ValueError(f"names among {', '.join(meters.REGISTRY)}, or objects with open(), read() and close()")
    return tuple(value)


def _journal(value: Any) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError("a folder, or None for no journal")
    return Path(value)


def _word(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError('letters, digits, ".", "_" and "-", at most 100, beginning with a letter or digit')
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"1", "true", "yes", "on"}:
        return True
    if isinstance(value, str) and value.strip().lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("true or false")


def _device_sync(value: Any) -> str | Callable[[], object] | None:
    if value is None or value == "torch":
        return None if value is None else "torch"
    if not callable(value):
        raise ValueError('a callable without arguments, "torch", or None')
    made: Callable[[], object] = value
    return made


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "epochs": _epochs,
    "name": _name,
    "budget": _budget,
    "location": _location,
    "intensity": _intensity,
    "pue": _pue,
    "interval_s": _interval,
    "meters": _meters,
    "journal": _journal,
    "run_id": _word,
    "node": _word,
    "offline": _flag,
    "strict": _flag,
    "device_sync": _device_sync,
}


def check(field: str, value: Any, *, origin: str = "argument") -> Any:
    """One field's value, checked and converted.

    Args:
        field: Name of a field of `Settings`.
        value: What was given; a text from the environment or the command line is parsed.
        origin: Where it came from, for the error.

    Raises:
        ConfigError: The value is not accepted.
    """
    try:
        return _CHECKS[field](value)
    except ConfigError as error:
        if origin == "argument":
            raise
        raise ConfigError(error.field, error.value, error.accepted, origin=origin) from error
    except ValueError as error:
        raise ConfigError(field, value, str(error), origin=origin) from None


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


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found = {}
    for field in FIELDS:
        variable = f"AIOCARBON_{field.upper()}"
        text = environ.get(variable)
        if text is not None and text != "":
            found[field] = check(field, None if text.lower() == "none" else text, origin=variable), variable
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
    if "tool.aiocarbon" not in text:
        return {}
    import tomllib

    try:
        table = tomllib.loads(text).get("tool", {}).get("aiocarbon", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("pyproject.toml", str(path), f"valid TOML ({error})", origin=str(path)) from error
    found = {}
    for key, value in table.items():
        field = key.replace("-", "_")
        if field not in _CHECKS:
            raise ConfigError(key, value, f"a field among {', '.join(FIELDS)}", origin=str(path))
        if field == "journal" and isinstance(value, str) and not os.path.isabs(value):
            value = str(path.parent / value)
        if field == "intensity" and isinstance(value, str) and not _is_number(value):
            from aiocarbon.intensity import own

            value = own.beside(value, path.parent)
        found[field] = check(field, value, origin=str(path)), str(path)
    return found
