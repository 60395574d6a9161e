"""What of spans and children is not yet in the journal: totals by name now and then, epochs of children at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiocarbon._core.shares import Account
    from aiocarbon._engine.sharing import Sharing

EVERY_S: Final = 300.0
"""Totals are written so often, besides at the end; in between they are in the tail."""

IN_TAIL: Final = 50
"""Names that fit into the tail, which is written every second."""

Record = dict[str, Any]


class SpanNotes:
    """The notes of one run.

    Args:
        sharing: The split of its energy.
        boot: From monotonic to boot nanoseconds.
    """

    def __init__(self, sharing: Sharing, boot: Callable[[int], int]) -> None:
        self._sharing = sharing
        self._boot = boot
        self._written: Account | None = None
        self._written_s = float("-inf")

    def new(self, now_s: float, *, is_last: bool = False) -> Iterator[Record]:
        """The records that are due.

        Args:
            now_s: Seconds of any clock.
            is_last: True at the run's end.
        """
        account = self._sharing.newest
        factor = 1.0 if account is None else account.co2eq_factor
        for name, stint in self._sharing.news():
            from aiocarbon.journal.accounts import child_record

            yield child_record(name, stint, factor)
        if account is not None and account is not self._written and (is_last or now_s >= self._written_s + EVERY_S):
            yield self._record(account)
            self._written, self._written_s = account, now_s

    def for_tail(self) -> Record:
        """What the tail says beside energies."""
        account = self._sharing.newest
        if account is None or account is self._written or len(account.shares.spans) > IN_TAIL:
            return {}
        return {"spans": self._record(account)}

    def _record(self, account: Account) -> Record:
        from aiocarbon.journal.accounts import spans_record

        return spans_record(account, self._boot(account.shares.as_of_ns))
