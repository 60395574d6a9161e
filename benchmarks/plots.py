"""Draws what the tables say: box plots and curves, one file a figure, as SVG and PNG; needs matplotlib.

The figures are those of the paper of the reference tool (Anthony, Kanding, Selvan, Carbontracker, arXiv:2007.03051)
in our own data: what one training emits by country (its figure 1), predicted against used energy (3), and what
tracking costs a step (9). Its figure 7, the intensity of a week, needs a week of a live source and is left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.result import Result, Row

REMEDY: Final = "pip install 'aiocarbon[bench]' for matplotlib"
COUNTRIES: Final = ("SE", "FR", "DK", "GB", "DE", "EE", "PL")
J_PER_KWH: Final = 3.6e6
OURS, OTHERS = "#1b7f4d", "#8a8f98"


def draw(results: Sequence[Result], folder: Path) -> list[str]:
    """Draw what can be drawn of some results.

    Args:
        results: Any.
        folder: Where; made if it is missing.

    Returns:
        A line for each figure: its path, or why there is none.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    told: list[str] = []
    for result in results:
        if result.name == "training":
            told += _boxes(result, "CPU time of a step", "change of the CPU time of a step, %", folder)
            told += _boxes(result, "time of a step", "change of the time of a step, %", folder)
        elif result.name == "accuracy_peers":
            told += _errors(result, folder)
        elif result.name == "startup_peers":
            told += _costs(result, folder)
        elif result.name == "prediction":
            told += [*_curves(folder), *_by_country(folder)]
    return told


def _kept(figure: Any, folder: Path, name: str) -> str:
    from matplotlib import pyplot

    for kind in ("svg", "png"):
        figure.savefig(folder / f"{name}.{kind}", bbox_inches="tight", dpi=150)
    pyplot.close(figure)
    return str(folder / f"{name}.svg")


def _boxes(result: Result, what: str, label: str, folder: Path) -> list[str]:
    """A box for each case: quartiles of the pairs' changes, whiskers from the 5th to the 95th percentile."""
    from matplotlib import pyplot

    found: dict[str, Row] = {}
    for row in result.rows:
        case, _, metric = row.metric.rpartition(": ")
        if metric == what and row.data:
            found[case] = row
    if not found:
        return [f"{what}: no case has values"]
    figure, axes = pyplot.subplots(figsize=(7, 0.5 * len(found) + 1.2))
    drawn = axes.boxplot(
        [row.data for row in found.values()],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
    )
    for box, case in zip(drawn["boxes"], found, strict=True):
        box.set_facecolor(OURS if "aiocarbon" in case else OTHERS)
    axes.set_yticklabels(list(found))
    axes.invert_yaxis()
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xlabel(label)
    return [_kept(figure, folder, "training-" + what.replace(" ", "-").lower())]


def _by_contender(result: Result) -> dict[str, dict[str, Row]]:
    """Rows by what was measured, then by who."""
    found: dict[str, dict[str, Row]] = {}
    for row in result.rows:
        what, _, who = row.metric.rpartition(": ")
        if what and row.value is not None:
            found.setdefault(what, {})[who] = row
    return found


def _bars(found: Mapping[str, Mapping[str, float]], label: str, folder: Path, name: str) -> str:
    """Bars on a logarithmic axis, in groups."""
    from matplotlib import pyplot

    whos = list(dict.fromkeys(who for values in found.values() for who in values))
    figure, axes = pyplot.subplots(figsize=(8, 0.16 * len(found) * (len(whos) + 1) + 1.2))
    height = 0.8 / len(whos)
    for i, who in enumerate(whos):
        places = [g + (i - len(whos) / 2) * height for g, values in enumerate(found.values()) if who in values]
        widths = [max(values[who], 1e-3) for values in found.values() if who in values]
        axes.barh(places, widths, height, label=who, color=OURS if who == "aiocarbon async" else None)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _kept(figure, folder, name)


def _errors(result: Result, folder: Path) -> list[str]:
    found = {
        scene: {who: float(row.value or 0.0) for who, row in rows.items()}
        for scene, rows in _by_contender(result).items()
    }
    return [_bars(found, "error of the energy, %", folder, "accuracy-contenders")] if found else ["no errors"]


def _costs(result: Result, folder: Path) -> list[str]:
    found = {
        f"{what}, {next(iter(rows.values())).unit}".rstrip(", "): {
            who: float(row.value or 0.0) for who, row in rows.items()
        }
        for what, rows in _by_contender(result).items()
        if len(rows) > 1
    }
    return [_bars(found, "less is better", folder, "startup-contenders")] if found else ["no costs"]


def _curves(folder: Path) -> list[str]:
    """What is predicted of recorded runs while they go on, against what they used."""
    from matplotlib import pyplot

    from benchmarks.prediction import SHARES, replay
    from benchmarks.prediction_traces import TRACES, stored

    paths = sorted(TRACES.glob("*-1.json"))
    if not paths:
        return ["prediction: no recorded runs"]
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for path in paths:
        trace = stored(path)
        seen = replay(trace)
        said = [(share * 100, seen[share].ours) for share in SHARES if share in seen]
        points = [(x, (y / trace.energy_j - 1.0) * 100.0) for x, y in said if y is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=path.stem.rpartition("-")[0])
    axes.set_xscale("log")
    axes.set_xlabel("used so far, % of the run's energy")
    axes.set_ylabel("error of the predicted energy, %")
    axes.legend(fontsize="small")
    return [_kept(figure, folder, "prediction-curves")]


def _by_country(folder: Path) -> list[str]:
    """What one recorded training emits where, by the bundled yearly averages."""
    from matplotlib import pyplot

    from aiocarbon.intensity.table import average
    from benchmarks.prediction_traces import TRACES, stored

    path = TRACES / "cnn-1.json"
    if not path.exists():
        return ["by country: no recorded run"]
    trace = stored(path)
    kwh = trace.energy_j / J_PER_KWH
    grams = {zone: kwh * average(zone).g_per_kwh for zone in COUNTRIES}
    ratio = max(grams.values()) / min(grams.values())
    figure, axes = pyplot.subplots(figsize=(6, 3))
    axes.bar(list(grams), list(grams.values()), color=OURS)
    axes.axhline(statistics.median(grams.values()), color=OTHERS, linewidth=0.8)
    axes.set_ylabel("gCO2eq of one run")
    axes.set_title(f"{kwh * 1000:.3g} Wh by country: a factor of {ratio:.0f}", fontsize="medium")
    return [_kept(figure, folder, "co2eq-by-country")]
