"""What each setting takes: a value of an argument, of the environment or of a file, checked and converted."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aiocarbon._core.intensity import MAX_G_PER_KWH
from aiocarbon._core.policy import Idle, Policy, Split
from aiocarbon.budget import Budget
from aiocarbon.errors import ConfigError
from aiocarbon.meters.base import Meter

__all__ = ["check", "is_number"]

MAX_EPOCHS: Final = 10**9
MIN_INTERVAL_S: Final = 0.02
MAX_INTERVAL_S: Final = 60.0
MAX_PUE: Final = 10.0
MAX_W: Final = 1e6
"""Watts of a machine that are taken for a mistake beyond."""
WORD: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
SCOPES: Final = ("machine", "process", "cgroup")


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
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise ValueError(words)
    return number


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise ValueError("a text of at most 200 characters")
    return value.encode("utf-8", "replace").decode()  # a script's bytes that are no UTF-8 could not be written down


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
    if not isinstance(value, str) or is_number(value):
        return _number(
            value, 0.0, MAX_G_PER_KWH, "a number of gCO2eq/kWh from 0 to 3000, a file, a URL, a source or None"
        )
    from aiocarbon.intensity import own

    return own.checked(value)


def is_number(text: str) -> bool:
    """Whether a text is one."""
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


def _scope(value: Any) -> str:
    if value not in SCOPES:
        raise ValueError(" or ".join(f'"{scope}"' for scope in SCOPES))
    return str(value)


def _journal(value: Any) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError("a folder, or None for no journal")
    folder = Path(value)
    try:
        return folder.absolute()  # it is opened later, and programs change their folder
    except OSError:  # the present folder is gone, which opening it will tell
        return folder


def _word(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(WORD, value):
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


SPLIT_WORDS: Final = (
    '"even", "weight", "device" or "cpu", and if wanted idle=kept_apart|shared and floor_w=WATTS: '
    '"even,idle=shared", or a mapping of policy, idle and floor_w, where floor_w may be watts by device'
)


def _attribution(value: Any) -> Split:
    if isinstance(value, Split):
        return value
    told = _split_of_text(value) if isinstance(value, str) else value
    if not isinstance(told, Mapping) or not set(told) <= {"policy", "idle", "floor_w"}:
        raise ValueError(SPLIT_WORDS)
    floor = told.get("floor_w")
    if isinstance(floor, Mapping):
        floor = {str(device): _number(watts, 0.0, MAX_W, SPLIT_WORDS) for device, watts in floor.items()}
    elif floor is not None:
        floor = _number(floor, 0.0, MAX_W, SPLIT_WORDS)
    try:
        return Split(
            policy=Policy(told.get("policy", Policy.EVEN)), idle=Idle(told.get("idle", Idle.APART)), floor_w=floor
        )
    except ValueError:
        raise ValueError(SPLIT_WORDS) from None


def _split_of_text(text: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for n, part in enumerate(text.split(",")):
        key, is_set, value = part.partition("=")
        told["policy" if n == 0 and not is_set else key.strip()] = (value if is_set else key).strip()
    return told


def _device_sync(value: Any) -> str | Callable[[], object] | None:
    if value is None or value == "torch":
        return None if value is None else "torch"
    if not callable(value):
        raise ValueError('a callable without arguments, "torch", or None')
    made: Callable[[], object] = value
    return made


def _predict_after(value: Any) -> int:
    number = _whole(value)
    if number is None or not 0 <= number <= MAX_EPOCHS:
        raise ValueError(f"a whole number from 0 to {MAX_EPOCHS:.0e}")
    return number


def _monitor_epochs(value: Any) -> int | None:
    if value is None:
        return None
    number = _whole(value)
    if number is None or not 1 <= number <= MAX_EPOCHS:
        raise ValueError(f"a whole number from 1 to {MAX_EPOCHS:.0e}, or None for all")
    return number


def _resume(value: Any) -> int | bool | str | Path | None:
    if isinstance(value, Path):
        return value
    text = value.strip().lower() if isinstance(value, str) else value
    if text is None or text is False or text in ("false", "no", "off"):
        return None
    if text is True or text in ("true", "yes", "on"):
        return True
    number = _whole(value)
    if number is not None and 0 <= number <= MAX_EPOCHS:
        return number
    if isinstance(value, str) and number is None and _is_name(value):
        return Path(value) if "/" in value or os.sep in value else value
    raise ValueError(
        "a run's id or folder; the number of the epoch that this start begins with, 0 or more; true: out of the journal"
    )


def _is_name(text: str) -> bool:
    """Whether a text may be a run's folder or, without a slash, its id; numbers that are refused are none."""
    try:
        float(text)
    except ValueError:
        is_path = "/" in text or os.sep in text
        return text.isprintable() and (is_path or re.fullmatch(WORD, text) is not None)
    return False


def _on_prediction(value: Any) -> Callable[[Any], Any] | None:
    if value is None:
        return None
    if not callable(value):
        raise ValueError("a function or coroutine function that takes the prediction, or None")
    made: Callable[[Any], Any] = value
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
    "scope": _scope,
    "journal": _journal,
    "run_id": _word,
    "node": _word,
    "offline": _flag,
    "strict": _flag,
    "attribution": _attribution,
    "device_sync": _device_sync,
    "predict_after": _predict_after,
    "resume": _resume,
    "monitor_epochs": _monitor_epochs,
    "on_prediction": _on_prediction,
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
