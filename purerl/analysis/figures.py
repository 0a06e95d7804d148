"""What all pictures share. Matplotlib is imported where it is used: it would slow every start."""

import itertools
import numbers
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purerl.analysis.intervals import Interval

BLUE = "#1f5fa8"
ORANGE = "#c1440e"
GREY = "#5a5a5a"
LEGEND_ROW = 26.0  # points
COLOURS = (BLUE, ORANGE, "#2d7f3e", "#7b4397", "#b58900", "#00838f")  # of what is compared, in turn
DASHES = ("-", "--", ":", "-.")  # then the same colours, dashed


def canvas(
    title: str,
    xlabel: str,
    ylabel: str,
    size: tuple[float, float] = (8.0, 4.5),
    pad: float | None = None,
) -> tuple[Any, Any]:
    """A figure of `size` inches with 150 pixels each, and its axes: names and a light grid.

    Names that are longer than their side are broken into lines. `pad` is the room between title
    and axes, in points; by default as much as a row of `legend` takes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    text = textwrap.fill(title, int(10.0 * size[0]))
    axes.set_title(text, loc="left", pad=LEGEND_ROW if pad is None else pad, fontsize=12)
    axes.set_xlabel(textwrap.fill(xlabel, int(10.0 * size[0])))
    axes.set_ylabel(textwrap.fill(ylabel, int(10.0 * size[1])))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def count_steps(axes: Any) -> None:
    """A horizontal axis of environment steps, written as 250k or 1.5M."""
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def lines() -> Iterator[dict[str, Any]]:
    """How each of what is compared is drawn: no two alike, up to 24."""
    for dashes, colour in itertools.cycle(itertools.product(DASHES, COLOURS)):
        yield {"color": colour, "linestyle": dashes}


def legend(axes: Any) -> None:
    """The legend between title and axes, in rows of four, if anything has a label."""
    if labels := axes.get_legend_handles_labels()[1]:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.99), "ncols": 4}
        axes.legend(**place, frameon=False, fontsize=9, handlelength=1.6, columnspacing=1.4)
        pad = LEGEND_ROW + 14.0 * ((len(labels) - 1) // 4)
        axes.set_title(axes.get_title("left"), loc="left", pad=pad, fontsize=12)


def remark(axes: Any, text: str) -> None:
    """A remark in the legend, without a line of its own. As an error bar it follows the lines."""
    axes.errorbar([], [], fmt=" ", label=text)


def no_values(axes: Any) -> None:
    """Say that there is nothing to draw yet."""
    axes.text(0.5, 0.5, "no values yet", transform=axes.transAxes, ha="center", color=GREY)
    axes.set(xticks=[], yticks=[])


def frame(axes: Any, bottom: float, top: float) -> None:
    """A vertical range with some air, also where all values are one.

    Every tick is written out: a factor such as 1e9, common to all, would stand in the legend.
    """
    margin = 0.05 * (top - bottom) or 0.05 * abs(top) or 1.0
    bottom, top = bottom - margin, top + margin
    axes.set_ylim(bottom, top)
    largest = max(abs(bottom), abs(top))
    if 0.01 <= largest < 1e6:
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    else:
        digits = min(17, 3 + int(np.ceil(np.log10(largest / (top - bottom)))))
        axes.yaxis.set_major_formatter(lambda x, _: short(x, digits))


def reach(intervals: Sequence[Interval]) -> np.ndarray:
    """How far error bars go, [2, intervals]: below the value and above it."""
    value, low, high, *_ = (np.array(column) for column in zip(*intervals, strict=True))
    return np.maximum([value - low, high - value], 0.0)


def is_number(x: Any) -> bool:
    """Whether `x` is a real number; True and False are none."""
    return isinstance(x, numbers.Real) and not isinstance(x, bool)


def brief(text: str, most: int) -> str:
    """The text, or its beginning and end where it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most - most // 3 - 1]}…{text[-(most // 3) :]}"


def short(value: Any, digits: int = 4) -> str:
    """A value as an axis shows it: 1e-4, 0.99, 65536, (64, 64)."""
    if not is_number(value):
        return brief(str(value), 30)
    if value == 0 or not np.isfinite(value):
        return f"{abs(value) if value == 0 else value:g}"  # zero may have a sign
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    scientific = f"{mantissa}e{int(exponent)}"
    whole = value == round(value) or 10 ** (digits - 1) <= abs(value) < 1e5
    text = f"{value:.0f}" if whole else f"{value:.{digits}g}"
    unwieldy = not 0.01 <= abs(value) < 1e5
    return scientific if unwieldy and len(scientific) <= len(text) else text


def names_of(values: Sequence) -> list[str]:
    """Each value, short, with as many digits as tell them apart."""
    names = []
    for digits in (4, 7, 17):
        names = [short(value, digits) for value in values]
        if len(set(names)) == len(names):
            break
    return names


def name_places(axes: Any, places: Sequence[float], values: Sequence, inches: float = 7.0) -> None:
    """Ticks at the places, named by their values as far as the names can be read.

    Where they would touch they slant. Names that even then would cover others are left out, the
    first and the last one never before those between them.
    """
    names = names_of(values)
    bottom = axes.get_ylim()[0]
    scale = axes.transScale + axes.transLimits
    at = inches * scale.transform([(x, bottom) for x in places])[:, 0]
    width = 0.09 * np.array([len(name) + 1 for name in names])
    slant = bool((np.diff(at) < (width[1:] + width[:-1]) / 2).any())
    if slant:
        last = -np.inf
        for i, x in enumerate(at):
            covers = x - last < 0.19 or (i and 0.0 < at[-1] - x < 0.19)
            names[i], last = ("", last) if covers else (names[i], x)
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if slant else {}
    axes.minorticks_off()
    axes.set_xticks(list(places), names, **turned)


def replace(path: Path, figure: Any) -> None:
    """Write beside `path`, then rename: a reader sees the old picture or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(part, format="png")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
