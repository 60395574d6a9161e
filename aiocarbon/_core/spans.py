"""Spans: what is kept of open ones, and what closed ones fold into.

A closed span is folded into its name's statistics and into its path's sums at once. A path is the set of names that a
span lies in, with its own name: sums by path give each name's inclusive figures and count no joule twice where a name
lies in itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from aiocarbon._core.edges import MAX_NAME, Tags, as_text
from aiocarbon._core.quantiles import Quantiles
from aiocarbon._core.streams import Group
from aiocarbon._core.supply import QUANTUM
from aiocarbon._core.units import S_PER_NS

MAX_NAMES: Final = 1000
"""Names kept apart; spans of further ones fold into `OTHER_NAMES`."""
MAX_PATHS: Final = 10_000
"""Sets of names kept apart, and as many with tags; further ones count for their own name only, or without tags."""
OTHER_NAMES: Final = "(other names)"

PENDING: Final = 512
"""Closed spans of a name that fold into its quantiles together."""

WEIGHT_SCALE: Final = 2.0**40
"""Weights are integers of this many to 1, so that sums of them are exact in any order."""


class Names:
    """One name's closed spans.

    Attributes:
        name: The name.
        length_ns: Sum of the lengths.
        taken_s: Seconds of those that are not yet in `durations`.
        spent_j: Own joules of those that are not yet in `energies`.
    """

    __slots__ = ("_durations", "_energies", "length_ns", "name", "spent_j", "taken_s")

    def __init__(self, name: str) -> None:
        self.name = name
        self.length_ns = 0
        self.taken_s: list[float] = []
        self.spent_j: list[float] = []
        self._durations = Quantiles()
        self._energies = Quantiles()

    def fold(self) -> None:
        """Take what closed since into the quantiles."""
        self._durations.add(self.taken_s)
        self._energies.add(self.spent_j)
        self.taken_s.clear()
        self.spent_j.clear()

    @property
    def durations(self) -> Quantiles:
        """Of the closed spans' seconds."""
        self.fold()
        return self._durations

    @property
    def energies(self) -> Quantiles:
        """Of the closed spans' own joules."""
        self.fold()
        return self._energies


class Path:
    """A name inside a set of names, with the sums of the spans that closed there.

    Attributes:
        own: The name.
        within: All names of the path, the own one too.
        tags: What tells its spans from others of the name; () for nothing.
        under: Paths of spans inside, by name, or by name and tags.
        energy: Own quanta of energy of its closed spans.
        co2eq: Likewise.
    """

    __slots__ = ("co2eq", "energy", "own", "tags", "under", "within")

    def __init__(self, own: Names, within: frozenset[Names], tags: Tags = ()) -> None:
        self.own = own
        self.within = within
        self.tags = tags
        self.under: dict[str | tuple[str, Tags], Path] = {}
        self.energy = self.co2eq = 0

    def take(self, length_ns: int, energy: int, co2eq: int) -> None:
        """Fold a span that closed: its length and its own quanta."""
        self.energy += energy
        self.co2eq += co2eq
        own = self.own
        if length_ns < 0:
            length_ns = 0
        own.length_ns += length_ns
        taken_s = own.taken_s
        taken_s.append(length_ns * S_PER_NS)
        own.spent_j.append(energy * QUANTUM)
        if len(taken_s) >= PENDING:
            own.fold()

    def take_all(self, taken_s: list[float], spent_j: list[float], length_ns: int, energy: int, co2eq: int) -> None:
        """Fold spans that closed: seconds and own joules of each, and the sums."""
        self.energy += energy
        self.co2eq += co2eq
        own = self.own
        own.length_ns += length_ns
        own.taken_s += taken_s
        own.spent_j += spent_j
        if len(own.taken_s) >= PENDING:
            own.fold()


class TaggedPath(Path):
    """A path whose spans have tags: they are counted apart.

    Attributes:
        count: How many closed.
        length_ns: Sum of their lengths.
    """

    __slots__ = ("count", "length_ns")

    def __init__(self, own: Names, within: frozenset[Names], tags: Tags) -> None:
        super().__init__(own, within, tags)
        self.count = self.length_ns = 0

    def take(self, length_ns: int, energy: int, co2eq: int) -> None:
        """Fold a span that closed."""
        self.count += 1
        self.length_ns += max(length_ns, 0)
        super().take(length_ns, energy, co2eq)

    def take_all(self, taken_s: list[float], spent_j: list[float], length_ns: int, energy: int, co2eq: int) -> None:
        """Fold spans that closed."""
        self.count += len(taken_s)
        self.length_ns += length_ns
        super().take_all(taken_s, spent_j, length_ns, energy, co2eq)


class Owner:
    """Whose spans they are: a part of the program with books of its own.

    Attributes:
        count: How many spans of it have closed.
        length_ns: Sum of their lengths.
        open: Those that are open.
        energy: Own quanta of energy of those that have closed.
        co2eq: Likewise.
    """

    __slots__ = ("co2eq", "count", "energy", "length_ns", "open")

    def __init__(self) -> None:
        self.count = self.length_ns = 0
        self.open: set[Span] = set()
        self.energy = self.co2eq = 0

    def take(self, length_ns: int, energy: int, co2eq: int, count: int = 1) -> None:
        """Fold a span that closed, or several."""
        self.count += count
        self.length_ns += max(length_ns, 0)
        self.energy += energy
        self.co2eq += co2eq

    def sums(self) -> Sums:
        """Own quanta of all its spans, as far as the groups are."""
        still = [span.so_far() for span in self.open]
        return Sums(self.energy + sum(e for e, _ in still), self.co2eq + sum(c for _, c in still))


class Still:
    """Open spans that have something in common, summed up.

    Attributes:
        count: How many.
        length_ns: Sum of their lengths.
        energy: Own quanta of energy.
        co2eq: Likewise.
    """

    __slots__ = ("co2eq", "count", "energy", "length_ns")

    def __init__(self) -> None:
        self.count = self.length_ns = self.energy = self.co2eq = 0

    def add(self, count: int, length_ns: int, energy: int, co2eq: int) -> None:
        """Add spans."""
        self.count += count
        self.length_ns += length_ns
        self.energy += energy
        self.co2eq += co2eq


class Span:
    """An open span.

    Attributes:
        begin: Instant at which it opened.
        path: What it folds into.
        group: Whose energy it shares.
        parent: The span it lies in, while that is open.
        rival: The nearest span around it in the same group: it takes no share while this one is open.
        weight: Its weight as an integer.
        owner: Whose it is; None for nobody's in particular.
        inner: How many open spans have it as their rival; it takes shares while there is none.
        energy: Quanta of energy taken in earlier turns.
        co2eq: Likewise.
        energy0: The group's integral at which its present turn began.
        co2eq0: Likewise.
        is_open: False once closed.
    """

    __slots__ = (
        "begin", "co2eq", "co2eq0", "energy", "energy0", "group",
        "inner", "is_open", "owner", "parent", "path", "rival", "weight",
    )  # fmt: skip

    def __init__(
        self,
        begin: int,
        path: Path,
        group: Group,
        parent: Span | None,
        rival: Span | None,
        weight: int,
        owner: Owner | None,
    ) -> None:
        self.begin = begin
        self.path = path
        self.group = group
        self.parent = parent
        self.rival = rival
        self.weight = weight
        self.owner = owner
        self.inner = 0
        self.energy = self.co2eq = 0
        self.energy0 = group.energy
        self.co2eq0 = group.co2eq
        self.is_open = True

    def fold(self, t_ns: int) -> None:
        """Put it down where it closed."""
        self.path.take(t_ns - self.begin, self.energy, self.co2eq)
        if self.owner is not None:
            self.owner.open.discard(self)
            self.owner.take(t_ns - self.begin, self.energy, self.co2eq)

    def end(self, t_ns: int) -> None:
        """Put it down as it is where all ends: its group is there."""
        self.energy, self.co2eq = self.so_far()
        self.is_open = False
        self.fold(t_ns)

    def pause(self) -> None:
        """End its turn: its group is at the instant of it."""
        group, weight = self.group, self.weight
        self.energy += weight * (group.energy - self.energy0)
        self.co2eq += weight * (group.co2eq - self.co2eq0)
        group.weight -= weight

    def resume(self) -> None:
        """Begin a turn."""
        group = self.group
        self.energy0 = group.energy
        self.co2eq0 = group.co2eq
        group.weight += self.weight

    def so_far(self) -> tuple[int, int]:
        """Own quanta of energy and CO2eq up to where its group is."""
        if self.inner:
            return self.energy, self.co2eq
        group, weight = self.group, self.weight
        return (
            self.energy + weight * (group.energy - self.energy0),
            self.co2eq + weight * (group.co2eq - self.co2eq0),
        )

    def open_parent(self) -> Span | None:
        """The nearest span around it that is still open."""
        parent = self.parent
        while parent is not None and not parent.is_open:
            parent = parent.parent
        return parent

    def let_go(self) -> Span | None:
        """Forget the spans around it that have closed, so that a chain of closed ones is not kept.

        Returns:
            The nearest span around it in the same group that is still open.
        """
        rival = self.rival
        while rival is not None and not rival.is_open:
            rival = rival.rival
        self.rival = rival
        self.parent = self.open_parent()
        return rival


class Sums(NamedTuple):
    """Quanta of energy and of CO2eq."""

    energy: int
    co2eq: int


class Book:
    """All names and paths.

    Attributes:
        root: The path of spans that lie in none; it has no sums.
        names: By name, in the order in which they came.
        cut: How many names were too long.
        folded: Spans whose name came after the limit.
        unpathed: Spans whose path came after the limit: they count for their own name only.
        untagged: Spans whose tags came after the limit: they count for their path without any.
    """

    def __init__(self, *, max_names: int = MAX_NAMES, max_paths: int = MAX_PATHS) -> None:
        self.names: dict[str, Names] = {}
        self.root = Path(Names(""), frozenset())
        self.cut = 0
        self.folded = 0
        self.unpathed = 0
        self.untagged = 0
        self._tagged = 0
        self._max_names = max_names
        self._max_paths = max_paths
        self._paths: dict[tuple[frozenset[Names], Names, Tags], Path] = {}

    def path(self, around: Path, name: str, tags: Tags = ()) -> Path:
        """The path of a span of a name, with tags, inside another path."""
        known = around.under.get((name, tags) if tags else name)
        return known if known is not None else self._new(around, name, tags)

    def _new(self, around: Path, told: str, tags: Tags) -> Path:
        own = self._name(told)
        within = around.within | {own}
        made = self._paths.get((within, own, tags))
        if made is None and tags and self._tagged >= self._max_paths:
            self.untagged += 1
            tags, told = (), ""  # under no key: each such span is counted
            made = self._paths.get((within, own, tags))
        if made is None and around is not self.root and not tags and len(self._paths) - self._tagged >= self._max_paths:
            self.unpathed += 1
            within, told = frozenset((own,)), ""
            made = self._paths.get((within, own, tags))
        if made is None:
            made = TaggedPath(own, within, tags) if tags else Path(own, within)
            self._tagged += bool(tags)
            self._paths[within, own, tags] = made
        if own.name == told:  # neither cut nor folded: those are as many as their tellers like
            around.under[(told, tags) if tags else told] = made
        return made

    def _name(self, told: str) -> Names:
        name = as_text(told, MAX_NAME)
        if len(told) > MAX_NAME:
            self.cut += 1
        own = self.names.get(name)
        if own is None and len(self.names) >= self._max_names:
            self.folded += 1
            name = OTHER_NAMES
            own = self.names.get(name)
        if own is None:
            own = self.names[name] = Names(name)
        return own

    def sums(self, still: dict[Path, Still]) -> dict[Names, tuple[Sums, Sums]]:
        """Own and inclusive quanta by name.

        Args:
            still: The spans that are open, by path.
        """
        none = Still()
        sums = {name: [0, 0, 0, 0] for name in self.names.values()}
        for path in self._paths.values():
            more = still.get(path, none)
            energy, co2eq = path.energy + more.energy, path.co2eq + more.co2eq
            own = sums[path.own]
            own[0] += energy
            own[1] += co2eq
            for name in path.within:
                sums[name][2] += energy
                sums[name][3] += co2eq
        return {name: (Sums(s[0], s[1]), Sums(s[2], s[3])) for name, s in sums.items()}

    def tagged(self) -> dict[Names, dict[Tags, list[TaggedPath]]]:
        """The paths of tagged spans, by name and tags."""
        found: dict[Names, dict[Tags, list[TaggedPath]]] = {}
        for path in self._paths.values():
            if isinstance(path, TaggedPath):
                found.setdefault(path.own, {}).setdefault(path.tags, []).append(path)
        return found
