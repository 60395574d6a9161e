"""What is told of spans: edges, as tuples, since thousands a second are made where the training runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

OPEN: Final = 0
"""Edge `(t_ns, OPEN, id, name, parent, weight, device, tags, owner)`: a span opens.

Parent 0, weight 0.0, device "", tags () and owner "" stand for none; tags are pairs of texts, sorted by the first.
"""
WEIGH: Final = 1
"""Edge `(t_ns, WEIGH, id, weight)`: a span's weight from here on."""
SPEND: Final = 2
"""Edge `(t_ns, SPEND, id, amount)`: a step of a span has ended that took an amount (nanoseconds of thread CPU time).

Id 0: what code outside of all spans took while a span was open. It takes part in the split, and stays unattributed.
"""
CLOSE: Final = 3
"""Edge `(t_ns, CLOSE, id)`: a span closes."""
TALLY: Final = 4
"""Edge `(t_ns, TALLY, id, owner)`: what an owner's spans have used so far is asked; the id is the question's own."""

Edge = tuple[Any, ...]
"""One of those five. Of one instant they are taken in this order of kinds and then of ids, however they come."""

Tags = tuple[tuple[str, str], ...]
"""Tags of a span: pairs of a key and a value, sorted by keys."""

MIN_WEIGHT: Final = 1e-6
MAX_WEIGHT: Final = 1e12
MAX_NAME: Final = 200
"""Characters of a name, and of a tag's value, that are kept."""

REFUSED: Final = -1.0
"""Stands for a weight that cannot be: it is counted, and 1 is taken."""


class Told:
    """What went wrong with edges and was put right; the report tells it.

    Attributes:
        late: Edges that came when their time was settled already: their energy is cut at that.
        repeated: Spans opened twice.
        strays: Closings, weights and amounts of spans that were not open: closed twice, or never opened.
        orphans: Spans whose parent was not open (any more): they stand for themselves.
        refused: Edges with a weight or amount that cannot be.
        unweighted: Spans without a weight, under a policy that asks for it: they weigh 1.
        weighted: Spans with one.
        outlived: Spans that were open at the end of all.
        bound: Spans bound to a device, by its id.
        unbound: Spans that could not be bound, since there were too many devices.
    """

    def __init__(self) -> None:
        self.late = self.repeated = self.strays = self.orphans = self.refused = 0
        self.unweighted = self.weighted = self.outlived = self.unbound = 0
        self.bound: dict[str, int] = {}


class Inbox:
    """Edges that wait until their time is settled."""

    def __init__(self) -> None:
        self._inbox: list[Edge] = []

    def open(
        self,
        t_ns: int,
        ident: int,
        name: str,
        *,
        parent: int = 0,
        weight: float | None = None,
        device: str = "",
        tags: Tags = (),
        owner: str = "",
    ) -> None:
        """Tell that a span opened.

        Args:
            t_ns: When, monotonic.
            ident: Its id, > 0, never used again; a span's is greater than its parent's.
            name: Its name, at most 200 characters of it.
            parent: Id of the span it lies in; 0 for none.
            weight: Its weight, 1e-6 to 1e12, for the policy "weight".
            device: Id of the device it is bound to, for the policy "device"; else that of its parent.
            tags: What tells it from others of its name.
            owner: Whose it is; else its parent's owner's.

        Raises:
            ValueError: The name or the weight is not accepted.
        """
        checked = 0.0 if weight is None else check_weight(weight)
        self._inbox.append((t_ns, OPEN, ident, check_name(name), parent, checked, device, tags, owner))

    def weigh(self, t_ns: int, ident: int, weight: float) -> None:
        """Tell a span's weight from an instant on.

        Raises:
            ValueError: It is not a number from 1e-6 to 1e12.
        """
        self._inbox.append((t_ns, WEIGH, ident, check_weight(weight)))

    def spend(self, t_ns: int, ident: int, amount_ns: int) -> None:
        """Tell the thread CPU time of a span's step that ended at an instant, for the policy "cpu".

        Raises:
            ValueError: It is not a finite number of nanoseconds >= 0.
        """
        self._inbox.append((t_ns, SPEND, ident, check_amount(amount_ns)))

    def close(self, t_ns: int, ident: int) -> None:
        """Tell that a span closed."""
        self._inbox.append((t_ns, CLOSE, ident))

    def tally(self, t_ns: int, ident: int, owner: str) -> None:
        """Ask what an owner's spans have used up to an instant; the answer will be in `tallies` under the id."""
        self._inbox.append((t_ns, TALLY, ident, owner))

    def tell(self, edges: Iterable[Edge]) -> None:
        """Tell edges as tuples, whose names and weights were checked."""
        self._inbox.extend(edges)


def check_weight(value: object) -> float:
    """A span's weight, checked.

    Args:
        value: What was given.

    Raises:
        ValueError: It is not a number from 1e-6 to 1e12.
    """
    weight = _number(value)
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise ValueError(f"weight={value!r} is not accepted: expected a number from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}")
    return weight


def check_amount(value: object) -> int:
    """Thread CPU time of a step in nanoseconds, checked.

    Raises:
        ValueError: It is not a finite number >= 0.
    """
    amount = _number(value)
    if not 0.0 <= amount < math.inf:
        raise ValueError(f"amount_ns={value!r} is not accepted: expected nanoseconds, finite and >= 0")
    return int(amount)


def check_name(value: object) -> str:
    """A span's name, checked.

    Raises:
        ValueError: It is not a text of at least one character; longer than 200 is cut later and told.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"name={str(value)[:50]!r} is not accepted: expected a text of 1 to {MAX_NAME} characters")
    return value


def as_text(value: object, at_most: int | None = None) -> str:
    """A value as a text that can be written anywhere; never an error, since the training must not stop for a name.

    Args:
        value: Anything; where it refuses to be a text, its type's name is taken.
        at_most: Characters that are kept; None: all.
    """
    try:
        text = str.__str__(str(value))  # without what a class of its own would make of it
    except Exception:
        text = type(value).__name__
    if at_most is not None and len(text) > at_most:
        text = text[:at_most]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be


def _number(value: object) -> float:
    """A number of any library; NaN for all else, also for texts and truth values."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
