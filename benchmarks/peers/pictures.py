"""Learning curves against wall clock, as one picture beside the results."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.compare import timeline
from purerl.analysis.figures import BLUE, GREY, ORANGE, replace

ACROSS = 3


def draw(results: Path) -> None:
    """peers.png of peers.json: a panel a row, mean return over seconds with compiling."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = [e for e in json.loads(results.read_text()).values() if "repetitions" in e]
    if not entries:
        return
    down = -(-len(entries) // ACROSS)
    figure = Figure(figsize=(4.2 * ACROSS, 3.0 * down), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for axes, entry in zip(panels, entries, strict=False):
        panel(axes, entry)
    for axes in panels[len(entries) :]:
        axes.set_visible(False)
    replace(results.with_suffix(".png"), figure)


def panel(axes: Any, entry: dict[str, Any]) -> None:
    """Faint lines are the repetitions; a full one is their mean over mean seconds."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for side, colour, name in (("purerl", BLUE, "purerl"), ("peer", ORANGE, entry["title"])):
        lines = [timeline(pair[side]) for pair in entry["repetitions"]]
        for line in lines:
            axes.plot(line.cold, line.returns, color=colour, alpha=0.25, linewidth=0.8)
        seconds = np.mean([line.cold for line in lines], 0)
        returns = np.mean([line.returns for line in lines], 0)
        axes.plot(seconds, returns, color=colour, linewidth=1.6, label=name)
    axes.axhline(entry["settings"]["score"], color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    # Whole numbers at 1, 2 and 5 of each power; between two of them labels would overlap.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(entry["task"], loc="left", fontsize=10)
    axes.set_xlabel("seconds, compiling included", fontsize=8)
    axes.set_ylabel("return", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
