"""What sources are asked, and what tells one question from all others."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiocarbon.intensity.base import Source


class Kind(StrEnum):
    """What is asked."""

    NOW = "now"
    PAST = "past"
    FORECAST = "forecast"


@dataclass(frozen=True, slots=True)
class Question:
    """What a source is asked.

    Attributes:
        kind: The newest value, the past, or a forecast.
        begin_s: For the past: from where, UTC seconds.
        end_s: For the past: up to where.
        hours: For a forecast: how far ahead.
    """

    kind: Kind
    begin_s: float = 0.0
    end_s: float = 0.0
    hours: float = 0.0


NOW: Final = Question(Kind.NOW)


def next_s(now_s: float, every_s: float, offset_s: float) -> float:
    """The next instant after `now_s` that lies `offset_s` behind a multiple of `every_s` (UTC seconds)."""
    return (math.floor((now_s - offset_s) / every_s) + 1) * every_s + offset_s


def key_of(source: Source, question: Question) -> str:
    """What tells a question from all others."""
    traits = source.traits
    window = f"{question.begin_s:.0f}-{question.end_s:.0f}" if question.kind is Kind.PAST else f"{question.hours:g}"
    return f"{traits.name} {traits.zone} {question.kind.value} {window} {digest(traits.asked_at)}"


def digest(asked_at: str) -> str:
    """A text that stands for where something is asked, which may hold coordinates."""
    return hashlib.sha256(asked_at.encode()).hexdigest()[:16]
