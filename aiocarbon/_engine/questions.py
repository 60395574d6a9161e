"""What sources are asked, and what tells one question from all others."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from aiocarbon._core.units import S_PER_DAY
from aiocarbon.intensity.base import Source

if TYPE_CHECKING:
    from aiocarbon._core.answer import Answer
    from aiocarbon.intensity.base import Traits

LEAST_BETWEEN_S: Final = 20.0
FILE_EVERY_S: Final = 10.0
JITTER_SHARE: Final = 0.1
JITTER_MOST_S: Final = 30.0
PAST_KEPT_S: Final = 600.0
"""History that was just asked for is not asked for again by the next process that ends."""


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


def fresh_until_s(traits: Traits, question: Question, answer: Answer, now_s: float, chance: float) -> float:
    """When something newer than an answer is published (UTC seconds), with a little jitter.

    Args:
        traits: Whose answer it is.
        question: What was asked.
        answer: What was answered.
        now_s: Present, UTC seconds.
        chance: 0..1, for the jitter.
    """
    jitter_s = chance * min(JITTER_SHARE * traits.step_s, JITTER_MOST_S)
    if question.kind is Kind.PAST:
        return now_s + PAST_KEPT_S
    if question.kind is Kind.FORECAST:
        every_s = max(traits.forecast_every_s, LEAST_BETWEEN_S)
        return next_s(now_s, every_s, traits.offset_s) + jitter_s
    newest = max((s.to_s for s in answer.samples if s.from_s <= now_s), default=now_s)
    due_s = newest + traits.offset_s
    if not traits.is_remote:  # a file, which may be written anew at any time
        return min(due_s, now_s + FILE_EVERY_S)
    if due_s < now_s + min(LEAST_BETWEEN_S, traits.step_s / 2.0):
        due_s = next_s(now_s, traits.step_s, traits.offset_s)
    return min(due_s, now_s + S_PER_DAY) + jitter_s


def key_of(source: Source, question: Question) -> str:
    """What tells a question from all others."""
    traits = source.traits
    window = f"{question.begin_s:.0f}-{question.end_s:.0f}" if question.kind is Kind.PAST else f"{question.hours:g}"
    return f"{traits.name} {traits.zone} {question.kind.value} {window} {digest(traits.asked_at)}"


def digest(asked_at: str) -> str:
    """A text that stands for where something is asked, which may hold coordinates."""
    return hashlib.sha256(asked_at.encode()).hexdigest()[:16]
