"""What the headers of an answer say of time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["date_s", "patience_s", "server_now_s"]

MOST_PATIENCE_S: Final = 6 * 3600.0
"""A source is asked again after this, whatever it said."""


def patience_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None where it is neither."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MOST_PATIENCE_S)
    when = date_s(text)
    if when is None:
        return None
    # By the server's own clock, where it tells: this machine's may be wrong.
    now_s = date_s(headers.get("date", ""))
    return min(max(when - (time.time() if now_s is None else now_s), 0.0), MOST_PATIENCE_S)


def server_now_s(headers: Mapping[str, str]) -> float | None:
    """What time it is by the server: UTC seconds of its Date header and the age of a stored answer; None without."""
    made_s, age = date_s(headers.get("date", "")), headers.get("age", "").strip()
    if made_s is None:
        return None
    return made_s + (float(age) if age.isascii() and age.isdigit() else 0.0)


def date_s(text: str) -> float | None:
    """UTC seconds of a date as headers have it (RFC 9110, 5.6.7); None if it is none."""
    try:
        when = parsedate_to_datetime(text)
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
