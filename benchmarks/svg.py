"""A learning curve as a small drawing inside of a page: text, so that it takes its colours.

Needs neither JAX nor matplotlib, as the site is built without either.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 26, 30  # around the axes
BLUE = "#4a86c5"  # on white and on black


def short(x: float) -> str:
    """As an axis shows it: 250k, 1.5M, -160, 0.5."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:.3g}{unit}"
    return f"{x:.3g}"


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from `low` to `high`."""
    span = high - low
    size = 10.0 ** math.floor(math.log10(span))
    step = next(s for s in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (s * size) < 6) * size
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def curve(title: str, entry: dict[str, Any]) -> str:
    """The interquartile mean of an entry's evaluations over steps, and where kept each seed.

    Args:
      title: above the axes.
      entry: of learning results, with `curve` and perhaps `curve_by_seed`.
    """
    steps = [float(n) for n, _ in entry["curve"]]
    mean = [x for _, x in entry["curve"]]
    seeds = list(zip(*entry.get("curve_by_seed", []), strict=True))
    shown = [x for line in (mean, *seeds) for x in line if x is not None]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    low, high = (low, high) if high > low else (low - 1.0, high + 1.0)
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    at_x = lambda n: LEFT + wide * n / steps[-1]
    at_y = lambda x: TOP + tall * (high - x) / (high - low)

    def line(values: Sequence[float | None], style: str) -> str:
        pairs = zip(steps, values, strict=True)
        points = " ".join(f"{at_x(n):.1f},{at_y(x):.1f}" for n, x in pairs if x is not None)
        return f'<polyline points="{points}" fill="none" stroke="{BLUE}" {style}/>'

    faint = f'stroke-width="0.7" stroke-opacity="{max(0.15, 0.8 / max(1, len(seeds)) ** 0.5):.2f}"'
    label = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-size="10">{}</text>'
    out = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
        f' aria-label="{html.escape(title)}" fill="currentColor">',
        f'<text x="{LEFT}" y="14" font-size="12">{html.escape(title)}</text>',
    ]
    for x in ticks(low, high):
        out.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(x):.1f}" y2="{at_y(x):.1f}"'
            ' stroke="currentColor" stroke-opacity="0.15"/>'
        )
        out.append(label.format(LEFT - 6, at_y(x) + 3, "end", short(x)))
    for n in ticks(0.0, steps[-1]):
        out.append(label.format(at_x(n), HEIGHT - BOTTOM + 14, "middle", short(n)))
    out.append(label.format(WIDTH - RIGHT, HEIGHT - 4, "end", "environment steps"))
    out += [line(values, faint) for values in seeds]
    out.append(line(mean, 'stroke-width="2"'))
    if len(steps) == 1:
        out.append(f'<circle cx="{at_x(steps[0]):.1f}" cy="{at_y(mean[0]):.1f}" r="3"/>')
    return "".join([*out, "</svg>"])
