"""Whose energy was it: each device's measured energy as idle floor + shares of the open spans + unattributed, exactly.

Per stream of energy there is a running integral A(t) of dE / (sum of the open spans' weights); a span's share is its
weight x (A(end) - A(begin)), so an edge costs the same however many spans are open. Of a chain of spans inside one
another only the innermost open ones take shares. With more than one stream (policy `device`) that holds in each.

Energy comes later than the edges: edges are kept until their time is settled, then taken in the order of their stamps,
so the order in which they come does not matter. Sums are integers (see `supply`): the parts make the whole to less than
1e-15 J an edge.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aiocarbon._core.amounts import Amounts
from aiocarbon._core.brief import Kind, take_run
from aiocarbon._core.edges import CLOSE, MAX_WEIGHT, MIN_WEIGHT, OPEN, SPEND, TALLY, WEIGH, Edge, Inbox, Told
from aiocarbon._core.policy import Idle, Policy, among
from aiocarbon._core.spans import WEIGHT_SCALE, Book, Owner, Span, Sums
from aiocarbon._core.streams import Group, Streams
from aiocarbon._core.supply import IdleFloor, Increment, Segment, Supply

MAX_STRAYS: Final = 1024
"""Ids of closed spans that nobody had opened which are remembered, in case their begin comes later than their end."""

MAX_DEVICES: Final = 256
"""Devices that spans can be bound to: each has a stream of its own."""

LATER: Final = 1 << 63
"""An instant after all others."""


class Attribution(Inbox):
    """The split of energy among spans.

    Args:
        begin_ns: Where it begins, monotonic; edges before it count from there.
        policy: How what is above the idle floor is split: "even", "weight", "device" or "cpu".
        idle: Whether the floor is "kept_apart", or "shared" among the open spans like the rest.
        floor_w: Idle watts by device id; those of other devices are estimated (least 5 s mean while no span is open).
        book: Where closed spans fold into; one with the default limits if not given.

    Attributes:
        owners: Whose spans there were, by name.
        tallies: Answers by the ids of the questions; who asked takes them away.

    Raises:
        ValueError: The policy, `idle` or a floor is not accepted.
    """

    def __init__(
        self,
        begin_ns: int,
        *,
        policy: str = Policy.EVEN,
        idle: str = Idle.APART,
        floor_w: Mapping[str, float] | None = None,
        book: Book | None = None,
    ) -> None:
        super().__init__()
        self.policy = Policy(among(Policy, "attribution", policy))
        self._by_device = self.policy is Policy.DEVICE
        self._by_weight = self.policy is Policy.WEIGHT
        self.idle = Idle(among(Idle, "idle", idle))
        self.book = book or Book()
        self._root = self.book.root
        self.supplied = Supply(IdleFloor(floor_w))
        self.told = Told()
        self.begin_ns = self.settled_ns = begin_ns
        self._edges: list[Edge] = []
        self.owners: dict[str, Owner] = {}
        self.tallies: dict[int, Sums] = {}
        self._asked: list[tuple[int, str]] = []  # by the policy "cpu", whose shares are known at a window's end
        self._window: list[Edge] = []  # edges of the open window that are still to be taken, the last first
        self._segments: list[Segment] | None = None  # of the open window, the last first; None: no window is open
        self._segment_end = begin_ns
        self._quiet_from = begin_ns
        self._spans: dict[int, Span] = {}
        self._strays: dict[int, int] = {}
        self._amounts = Amounts() if self.policy is Policy.CPU else None
        self._streams = Streams(begin_ns, self.supplied.floor, idle=self.idle, holder=self._amounts)
        self._do: dict[int, Callable[[Edge], None]] = {
            OPEN: self._open,
            WEIGH: self._weigh,
            SPEND: self._spend,
            CLOSE: self._close,
            TALLY: self._tally,
        }

    # -- settling ----------------------------------------------------------------------------------------------

    def supply(self, increments: Iterable[Increment]) -> None:
        """Tell what the counted devices used.

        Those of one device must not overlap. Where they come for time that is settled, what they hold of it is
        unattributed.

        Raises:
            ValueError: One cannot be.
        """
        for told in increments:
            self.supplied.add(told)

    def settle(self, upto_ns: int, at_most: int | None = None) -> int:
        """Split all energy up to an instant, up to which all devices' energy was supplied.

        Args:
            upto_ns: Monotonic.
            at_most: Edges to take in this call, at least 1, so that it stays short; call again while it returns more.

        Returns:
            How many edges are left to take before that instant.
        """
        if self._segments is None and not self._begin_window(upto_ns):
            return 0
        window = self._window
        count = len(window) if at_most is None else max(at_most, 1)
        taken = window[: -count - 1 : -1]
        del window[-count:]  # as it goes: to free a million at once takes 0.1 s
        self._take(taken)
        if not window:
            self._end_window()
        return len(window)

    def arrange(self) -> None:
        """Put what was told in the order of its stamps; done in settling too, but then for all that came at once."""
        inbox, self._inbox = self._inbox, []
        inbox.sort()
        edges = self._edges
        if inbox and edges and inbox[0] < edges[-1]:  # threads tell at once, so a few of them lie between others
            among = bisect.bisect_right(edges, inbox[0])
            inbox += edges[among:]
            del edges[among:]
            inbox.sort()
        edges += inbox

    @property
    def waiting(self) -> int:
        """How many edges are kept, since their time is not settled."""
        return len(self._inbox) + len(self._edges) + len(self._window)

    def _begin_window(self, upto_ns: int) -> bool:
        self.arrange()
        count = bisect.bisect_left(self._edges, (upto_ns + 1,))
        if upto_ns < self.settled_ns or (upto_ns == self.settled_ns and not count):
            return False
        self._window = self._edges[:count]
        del self._edges[:count]
        self.told.late += bisect.bisect_left(self._window, (self.settled_ns,))
        self._window.reverse()
        self._segments = self.supplied.segments(self.settled_ns, upto_ns)[::-1]
        self._begin_segment()
        return True

    def _end_window(self) -> None:
        self._pass(LATER)
        self._segments = None
        self.settled_ns = self._segment_end
        if self._amounts is not None:
            self._amounts.end(self._segment_end, is_any_open=bool(self._spans))
            for ident, owner in self._asked:
                self.tallies[ident] = self._sums_of(owner)
            self._asked.clear()

    def _pass(self, t_ns: int) -> None:
        """Leave the segments that end before an instant."""
        while t_ns > self._segment_end:
            self._account(self._segment_end)
            if not self._segments:
                return
            self._begin_segment()

    def _account(self, t_ns: int) -> None:
        streams = self._streams
        streams.account(t_ns, is_quiet=not self._spans and self._quiet_from <= streams.at)

    def _begin_segment(self) -> None:
        assert self._segments, "a window has at least one"
        self._segment_end, rows = self._segments.pop()
        self._streams.begin(rows)

    # -- edges -------------------------------------------------------------------------------------------------

    def _take(self, edges: list[Edge]) -> None:
        """Take edges in their order."""
        do, segment_end, may_run = self._do, self._segment_end, self._amounts is None
        i, count = 0, len(edges)
        while i < count:
            edge = edges[i]
            if edge[0] > segment_end:
                self._pass(edge[0])
                segment_end = self._segment_end
            i += 1
            if may_run and edge[1] == OPEN and i < count and edges[i][2] == edge[2] and edges[i][0] <= segment_end:
                taken = self._run(edges, i - 1)
                if taken:
                    i += 2 * taken - 1
                    continue
            do[edge[1]](edge)

    def _run(self, edges: list[Edge], first: int) -> int:
        """Take spans alike that open and close with nothing in between; returns how many."""
        _, _, _, name, parent_id, weight, device, tags, owned = edges[first]
        if device and self._by_device:
            return 0
        spans = self._spans
        parent = spans.get(parent_id) if parent_id else None
        around, group, owner = (
            (self._root, self._streams.shared, None) if parent is None else (parent.path, parent.group, parent.owner)
        )
        path = around.under.get((name, tags) if tags else name)
        if path is None or (owned and owned not in self.owners):
            return 0  # the first of them
        owner = self.owners[owned] if owned else owner
        kind = Kind(path, group, self._scaled(weight, 0) if self._by_weight else 1, parent, owner)
        count, end_ns = take_run(edges, first, self._segment_end, kind, spans, self._strays)
        if count and self._by_weight:
            self._scaled(weight, count)
        if parent_id and parent is None:
            self.told.orphans += count
        if count and not spans:
            self._quiet_from = end_ns
        return count

    def _open(self, edge: Edge) -> None:
        t_ns, _, ident, name, parent_id, weight, device, tags, owned = edge
        spans = self._spans
        if ident in spans:
            self.told.repeated += 1
            return
        parent = spans.get(parent_id) if parent_id else None
        if parent is not None:
            around, group, owner = parent.path, parent.group, parent.owner
        else:
            around, group, owner = self._root, self._streams.shared, None
            if parent_id:
                self.told.orphans += 1
        rival = parent
        if device and self._by_device and self._may_bind(device):
            group, rival = self._bind(t_ns, device, parent)
        if t_ns > group.at:
            group.advance(t_ns)
        amount = self._scaled(weight) if self._by_weight else 1
        if rival is not None:
            if not rival.inner:
                rival.pause()
            rival.inner += 1
        path = (None if tags else around.under.get(name)) or self.book.path(around, name, tags)
        if owned:
            owner = self.owners.get(owned) or self.owners.setdefault(owned, Owner())
        span = spans[ident] = Span(t_ns, path, group, parent, rival, amount, owner)
        if owner is not None:
            owner.open.add(span)
        group.weight += amount
        if group.is_bound and group.weight == amount:
            self._streams.feed()  # the first that is bound to the device
        if self._strays and (end_ns := self._strays.pop(ident, None)) is not None:
            self.told.strays -= 1
            self._close((end_ns, CLOSE, ident))  # its end was settled before its begin came

    def _may_bind(self, device: str) -> bool:
        bound = self.told.bound
        if device not in bound and len(bound) >= MAX_DEVICES:
            self.told.unbound += 1
            return False
        bound[device] = bound.get(device, 0) + 1
        return True

    def _bind(self, t_ns: int, device: str, parent: Span | None) -> tuple[Group, Span | None]:
        """The group of a span bound to a device, and the nearest open span around it that is bound there too."""
        group = self._streams.bound_to(device)
        if not group.weight:
            self._account(t_ns)  # from here on, the device's energy goes elsewhere
        while parent is not None and parent.group is not group:
            parent = parent.open_parent()
        return group, parent

    def _close(self, edge: Edge) -> None:
        t_ns, _, ident = edge
        span = self._spans.pop(ident, None)
        if span is None:
            self._stray(edge)
            return
        group, rival = span.group, span.rival
        if span.parent is not None:
            rival = span.let_go()
        is_last = group.is_bound and rival is None and not span.inner and group.weight == span.weight
        if is_last:
            self._account(t_ns)  # from here on, the device's energy goes to those that are bound to none
        elif t_ns > group.at:
            group.advance(t_ns)
        if not span.inner:
            span.pause()
        span.is_open = False
        if rival is not None:
            rival.inner += span.inner - 1
            if not rival.inner:
                rival.resume()
        if is_last:
            self._streams.feed()
        if not self._spans:
            self._quiet_from = t_ns
        if self._amounts is not None:
            self._amounts.close(ident, span, t_ns)
        else:
            span.fold(t_ns)

    def _tally(self, edge: Edge) -> None:
        t_ns, _, ident, owner = edge
        if self._amounts is not None:
            self._asked.append((ident, owner))
            return
        for group in {span.group for span in self.owners[owner].open} if owner in self.owners else ():
            group.advance(t_ns)
        self.tallies[ident] = self._sums_of(owner)

    def _sums_of(self, owner: str) -> Sums:
        known = self.owners.get(owner)
        return Sums(0, 0) if known is None else known.sums()

    def _stray(self, edge: Edge) -> None:
        self.told.strays += 1
        if edge[1] == CLOSE:
            self._strays[edge[2]] = edge[0]
            if len(self._strays) > MAX_STRAYS:
                del self._strays[next(iter(self._strays))]

    def _weigh(self, edge: Edge) -> None:
        span = self._spans.get(edge[2])
        if span is None:
            self._stray(edge)
        elif not MIN_WEIGHT <= edge[3] <= MAX_WEIGHT:
            self.told.refused += 1
        elif self._by_weight:
            amount = self._scaled(edge[3])
            span.group.advance(edge[0])
            if not span.inner:
                span.pause()
            span.weight = amount
            if not span.inner:
                span.resume()

    def _scaled(self, weight: float, spans: int = 1) -> int:
        """A weight as an integer; counts for so many spans whether it was accepted."""
        if MIN_WEIGHT <= weight <= MAX_WEIGHT:
            self.told.weighted += spans
            return int(weight * WEIGHT_SCALE)
        if weight:
            self.told.refused += spans
        else:
            self.told.unweighted += spans
        return int(WEIGHT_SCALE)

    def _spend(self, edge: Edge) -> None:
        t_ns, _, ident, amount = edge
        if self._amounts is None:
            return
        span = (self._spans.get(ident) or self._amounts.closed(ident)) if ident else None
        if ident and span is None:
            self._stray(edge)
        elif not (math.isfinite(amount) and amount >= 0):
            self.told.refused += 1
        elif amount:
            self._amounts.spend(span, t_ns, int(amount))

    def finish(self, at_ns: int, at_most: int | None = None) -> int:
        """Settle up to the end and close there what is still open.

        Args:
            at_ns: The end, monotonic.
            at_most: Edges to take, or spans to close, in this call; call again while it returns more than 0.
        """
        while self.settle(at_ns, at_most) or self.settled_ns < at_ns:
            if at_most is not None:
                return 1
        spans = self._spans
        idents = list(itertools.islice(spans, at_most))
        self.told.outlived += len(idents)
        if self._amounts is not None:
            for ident in idents:
                self._close((at_ns, CLOSE, ident))
            if not spans:
                self._amounts.end(at_ns, is_any_open=False)
            return len(spans)
        for ident in idents:  # nothing comes after it, so nobody's turn begins
            spans.pop(ident).end(at_ns)
        return len(spans)

    # -- asking ------------------------------------------------------------------------------------------------

    def open_spans(self) -> Iterable[Span]:
        """The spans that are open where time is settled."""
        return self._spans.values()
