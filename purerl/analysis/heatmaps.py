"""How a score depends on two hyperparameters, as a picture."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purerl.analysis.figures import canvas, name_places, names_of, no_values, replace, short
from purerl.analysis.intervals import iqm
from purerl.analysis.sweeps import distinct, plain, scores_of

_MOST_CELLS = 24  # along either side; more would leave no room for their numbers


def plot_heatmap(
    path: str | os.PathLike[str],
    fields: tuple[str, str],
    values: tuple[Sequence, Sequence],
    scores,
    title: str,
    label: str,
) -> None:
    """Draw the score over the values of two hyperparameters, as colours and as numbers.

    A cell is the IQM over all seeds of all configurations that have its two values, which are more
    than one if a third field was swept. It is hatched where there is no finite score. Up to 24
    values a side, the picture grows with them and the numbers are written.

    Args:
      path: of the PNG to write. Its directory must exist. It is replaced whole or not at all.
      fields: names of the hyperparameters, along the horizontal and the vertical axis.
      values: of each of the two, [C] its value in each configuration.
      scores: [C, S] of every configuration and seed. Those that are not finite are left out.
      title: above the plot.
      label: what the colours mean, such as "return".

    Raises:
      ValueError: the shapes do not fit.
      OSError: the file cannot be written.
    """
    across, up = plain(values[0]), plain(values[1])
    scores = scores_of(scores, dict(zip(fields, (across, up), strict=True)))
    columns, rows = distinct(across), distinct(up)
    # In inches: what names and the colour bar need, and 0.75 x 0.45 for each cell.
    beside = 1.9 + 0.085 * max(map(len, names_of(rows)), default=0)
    width = max(6.0, beside + 0.75 * min(len(columns), _MOST_CELLS))
    height = max(3.4, 1.6 + 0.45 * min(len(rows), _MOST_CELLS))
    figure, axes = canvas(title, *fields, (width, height), pad=10.0)
    if np.isfinite(scores).any():
        bar = {"fraction": 0.3 / width, "pad": 0.2 / width, "aspect": 4.5 * height}
        cells = _cells(across, up, columns, rows, scores)
        figure.colorbar(_draw_cells(axes, cells), ax=axes, label=label, **bar)
        name_places(axes, range(len(columns)), columns, width - beside)
        axes.set_yticks(range(len(rows)), names_of(rows))
    else:
        no_values(axes)
    replace(Path(path), figure)


def _cells(across: list, up: list, columns: list, rows: list, scores: np.ndarray) -> np.ndarray:
    """[rows, columns] the IQM over all that have these two values; NaN where there is no score."""
    column = np.array([columns.index(x) for x in across])
    row = np.array([rows.index(x) for x in up])
    cells = np.full((len(rows), len(columns)), np.nan)
    for r, c in set(zip(row.tolist(), column.tolist(), strict=True)):
        here = scores[(row == r) & (column == c)]
        cells[r, c] = iqm(here[np.isfinite(here)])
    return cells


def _draw_cells(axes: Any, cells: np.ndarray) -> Any:
    """Colours and numbers, hatched where there is no score. Gives back what has the colours."""
    bottom, top = np.nanmin(cells), np.nanmax(cells)
    rows, columns = (np.arange(n + 1) - 0.5 for n in cells.shape)
    style = {"cmap": "cividis", "edgecolors": "white", "linewidth": 1.5}
    mesh = axes.pcolormesh(columns, rows, np.ma.masked_invalid(cells), **style)
    mesh.set_clim((bottom, top) if bottom < top else (bottom - 1.0, top + 1.0))
    axes.patch.set(facecolor="#f2f2f2", edgecolor="#c4c4c4", hatch="////")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if max(cells.shape) <= _MOST_CELLS:
        _write_numbers(axes, cells, mesh.to_rgba(cells))
    return mesh


def _write_numbers(axes: Any, cells: np.ndarray, colours: np.ndarray) -> None:
    """Each cell's number, white on dark colours [rows, columns, RGBA] and black on light ones."""
    light = colours[..., :3] @ [0.299, 0.587, 0.114] > 0.5
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            style = {"ha": "center", "va": "center", "fontsize": 9}
            colour = "black" if light[row, column] else "white"
            axes.text(column, row, short(value), color=colour, **style)
