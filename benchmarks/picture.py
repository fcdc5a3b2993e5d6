"""Draws the numbers of a benchmark: who takes how long for the big file and where our time goes, or what rejects cost.

    python benchmarks/picture.py results/<time>.json <picture>.png

It needs matplotlib, which is in the environment of the peers. Without numbers of either nothing is drawn; with both,
the picture of the rejects has `-rejects` in its name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OURS, LIMIT, REJECTS = "ingestlab", "limit", "rejects"
INK, QUIET = "#1f2430", "#6b7280"
ACCENT, OTHER = "#0f766e", "#c3c8d0"
STAGES = ("#94a3b8", "#475569", "#1f2937", "#a3a8b0")
STEPS = ("#134e4a", "#0f766e", "#14a394", "#c98a2b", "#a8553a", "#7c5f8c")
WIDTH, LEFT, RIGHT = 9.6, 1.75, 0.3  # inches
SMALL = 0.11  # of the whole: a share with no room for words in it


def main(argv: Sequence[str]) -> int:
    numbers, file = map(Path, argv)
    report = json.loads(numbers.read_text())
    contenders = {m["details"]["contender"]: m for m in report["measures"] if "contender" in m["details"]}
    if contenders:
        draw(contenders, report, file)
    shares = [m for m in report["measures"] if m["details"].get("contest", "").endswith(REJECTS)]
    if shares:
        draw_rejects(shares, report, file.with_stem(f"{file.stem}-rejects") if contenders else file)
    return 0


def draw(contenders: Mapping[str, Any], report: Mapping[str, Any], file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - not in every environment

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    plt.rcParams |= {"font.family": "DejaVu Sans", "text.color": INK}
    bars = sorted((m for name, m in contenders.items() if name != LIMIT), key=lambda m: m["value"])
    top, middle, low = 1.35, 0.44 * len(bars) + 0.1, 1.3  # inches: words, bars, shares
    height = top + middle + 0.85 + low
    figure = plt.figure(figsize=(WIDTH, height))
    times, shares = (
        figure.add_axes((LEFT / WIDTH, at / height, 1 - (LEFT + RIGHT) / WIDTH, tall / height))
        for at, tall in ((height - top - middle, middle), (0.3, low))
    )
    _bars(times, bars, contenders)
    _shares(shares, contenders[OURS]["details"])
    figure.text(0.3 / WIDTH, 1 - 0.3 / height, _headline(bars, contenders[OURS]), size=15, weight="bold", va="top")
    what = contenders[OURS]["name"].split(",")[0]
    figure.text(0.3 / WIDTH, 1 - 0.68 / height, _subtitle(what, report), size=9.5, color=QUIET, va="top")
    figure.savefig(file, dpi=160, facecolor="white")
    plt.close(figure)


def draw_rejects(shares: Sequence[Any], report: Mapping[str, Any], file: Path) -> None:
    """Seconds over rejects, a line for each contender: a straight one has no blow-up."""
    import matplotlib as mpl  # noqa: PLC0415 - not in every environment

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    plt.rcParams |= {"font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": QUIET}
    figure, axes = plt.subplots(figsize=(WIDTH, 4.6))
    figure.subplots_adjust(left=0.09, right=0.86, top=0.8, bottom=0.13)
    for name in dict.fromkeys(m["details"]["who"] for m in shares):
        points = sorted((m["details"]["rejects"], m["value"]) for m in shares if m["details"]["who"] == name)
        style = {"color": ACCENT if name == OURS else QUIET, "linewidth": 2.4 if name == OURS else 1.4}
        axes.plot(*zip(*points, strict=True), marker="o", markersize=5, **style)
        axes.annotate(
            f"{name} {points[-1][1]:.1f} s",
            points[-1],
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=style["color"],
            weight="bold" if name == OURS else "normal",
        )
    axes.set(xlim=(0, None), ylim=(0, None), xlabel="rejects in the file", ylabel="seconds")
    axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    what = f"{shares[0]['details']['megabytes']:,.0f} MB of CSV, one column wrong in 0, 2, 20 and 100 % of the rows"
    figure.text(0.03, 0.95, "What rejects cost", size=15, weight="bold", va="top")
    figure.text(
        0.03, 0.875, f"{what}; {report['machine']['cores']} cores; warm processes", size=9.5, color=QUIET, va="top"
    )
    figure.savefig(file, dpi=160, facecolor="white")
    plt.close(figure)


def _headline(bars: Sequence[Any], ours: Any) -> str:
    """What the picture shows, in words."""
    peers = [m for m in bars if m["details"]["contender"] != OURS and not m["details"].get("does")]
    if not peers:
        return f"ingestlab: {ours['value']:.1f} s"
    best = peers[0]
    factor, name = best["value"] / ours["value"], best["details"]["contender"]
    if factor >= 1:
        return f"ingestlab takes 1/{factor:.1f} of the time of the fastest peer, {name}"
    return f"ingestlab takes {1 / factor:.1f} times as long as the fastest peer, {name}"


def _subtitle(what: str, report: Mapping[str, Any]) -> str:
    work = "parsed, cleaned, checked, split, written as Parquet and grouped"
    return f"{what} of CSV {work}, on {report['machine']['cores']} cores; warm processes"


def _bars(axes: Any, bars: Sequence[Any], contenders: Mapping[str, Any]) -> None:
    ours, longest = contenders[OURS]["value"], max(m["value"] for m in bars)
    gap = longest * 0.012
    for place, m in enumerate(bars):
        name, does = m["details"]["contender"], m["details"].get("does")
        mine = name == OURS
        style = {"va": "center", "weight": "bold" if mine else "normal", "color": ACCENT if mine else INK}
        axes.barh(place, m["value"], height=0.68, color=ACCENT if mine else OTHER)
        axes.text(-gap, place - (0.14 if does else 0), name, ha="right", size=10.5, **style)
        if does:
            axes.text(-gap, place + 0.24, does, ha="right", va="center", size=7.5, color=QUIET)
        label = f"{m['value']:.1f} s"
        written = axes.annotate(label, (m["value"] + gap, place), size=10.5, **style)
        if not mine:
            axes.annotate(
                f"{m['value'] / ours:.1f}\N{MULTIPLICATION SIGN}",
                (1, 0.5),
                xycoords=written,
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                size=9,
                color=QUIET,
            )
    if LIMIT in contenders:
        limit = contenders[LIMIT]["value"]
        axes.axvline(limit, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(limit, -0.6, f"limit {limit:.1f} s", size=8.5, ha="center", va="bottom")
    axes.set(xlim=(0, longest * 1.16), ylim=(len(bars) - 0.5, -0.5))
    axes.axis("off")


def _shares(axes: Any, details: Mapping[str, Any]) -> None:
    """One bar for the stages by the clock, one for the steps of the tasks; what is too narrow has its name below."""
    rows = (("stages", details["stages"], STAGES), ("steps", details["steps"], STEPS))
    for place, (title, seconds, colours) in zip((0.0, 1.15), rows, strict=True):
        total, left = sum(seconds.values()) or 1.0, 0.0
        for (name, spent), colour in zip(seconds.items(), colours, strict=False):
            share = spent / total
            axes.barh(place, share, left=left, height=0.56, color=colour, edgecolor="white", linewidth=1.5)
            words, centre = f"{name} {share:.0%}", left + share / 2
            if share >= SMALL:
                axes.text(centre, place, words, ha="center", va="center", size=9, color="white")
            elif share >= 0.03:
                under = words.replace(" ", "\n")
                axes.text(centre, place + 0.31, under, ha="center", va="top", size=7.5, color=QUIET, linespacing=0.95)
            left += share
        axes.text(-0.012, place, title, ha="right", va="center", size=9.5)
    axes.text(0, -0.55, "Where ingestlab's time goes", size=11, weight="bold", va="bottom")
    axes.set(xlim=(0, 1), ylim=(2.0, -0.45))
    axes.axis("off")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
