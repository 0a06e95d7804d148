"""Drawing in world coordinates with Pillow, and writing GIFs."""

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

type Point = tuple[float, float]

PAPER, INK, SOFT, PALE = "#fbfaf7", "#22303c", "#9aa5ad", "#e6e4dd"
BLUE, ORANGE, GREEN, RED = "#2f6f9f", "#d9822b", "#4b8f5b", "#c2473d"

FINER = 3  # pixels are drawn this much finer than shown: Pillow draws without antialiasing
COLOURS = 63  # of a GIF; one more is what Pillow fills unchanged pixels with
CAPTION = 26  # pixels below the picture
END_MS = 1500  # for which the last frame stays


class Canvas:
    """A picture of a rectangle of the world, y upwards.

    Args:
      low: its lower left corner.
      high: its upper right corner.
      width: of the picture in pixels; its height follows.
    """

    def __init__(self, low: Point, high: Point, width: int = 480):
        self._low, self._high = low, high
        self._scale = width * FINER / (high[0] - low[0])
        self.size = width, round((high[1] - low[1]) * self._scale / FINER)
        self._image = Image.new("RGB", (width * FINER, self.size[1] * FINER), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Iterable[Point], fill: str) -> None:
        self._draw.polygon([self._pixel(p) for p in points], fill)

    def line(self, points: Sequence[Point], fill: str, width: float) -> None:
        """A line with round ends and joints."""
        pixels = [self._pixel(p) for p in points]
        self._draw.line(pixels, fill, max(1, round(width * self._scale)), joint="curve")
        for end in (points[0], points[-1]):
            self.disc(end, width / 2, fill)

    def disc(self, centre: Point, radius: float, fill: str) -> None:
        (x, y), r = self._pixel(centre), radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill)

    def dashes(self, begin: Point, end: Point, fill: str, width: float) -> None:
        length = math.dist(begin, end)
        count = max(1, round(length / (8 * width)))
        at = lambda t: tuple(a + (b - a) * t for a, b in zip(begin, end, strict=True))
        for i in range(count):
            self.line([at((i + 0.2) / count), at((i + 0.7) / count)], fill, width)

    def image(self) -> Image.Image:
        return self._image.resize(self.size, Image.Resampling.LANCZOS)

    def _pixel(self, point: Point) -> Point:
        (x, y), (left, top) = point, (self._low[0], self._high[1])
        return (x - left) * self._scale, (top - y) * self._scale


def turned(points: Iterable[Point], angle: float, about: Point = (0.0, 0.0)) -> list[Point]:
    """The points turned anticlockwise about the origin, then moved to `about`."""
    cos, sin = math.cos(angle), math.sin(angle)
    return [(about[0] + x * cos - y * sin, about[1] + x * sin + y * cos) for x, y in points]


def box(left: float, bottom: float, right: float, top: float) -> list[Point]:
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def captioned(picture: Image.Image, left: str, right: str) -> Image.Image:
    """The picture with a line of text below it."""
    whole = Image.new("RGB", (picture.width, picture.height + CAPTION), PAPER)
    whole.paste(picture)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    draw.line([(0, picture.height), (picture.width, picture.height)], PALE)
    middle = picture.height + CAPTION / 2
    draw.text((8, middle), left, INK, font, anchor="lm")
    draw.text((picture.width - 8, middle), right, INK, font, anchor="rm")
    return whole


def write_gif(
    path: Path, frames: Iterable[Image.Image], frame_ms: int, colours: Sequence[str] = ()
) -> None:
    """Write an endless GIF, all at once; equal neighbours become one longer frame.

    Args:
      path: where.
      frames: RGB pictures of one size.
      frame_ms: how long each is shown, but for the last.
      colours: those that must be kept beside those of the first and the last picture.
    """
    pictures = list(frames)
    # One palette for all, so that colours do not flicker.
    width, height = pictures[0].size
    sample = Image.new("RGB", (width, 2 * height + 10 * len(colours)))
    sample.paste(pictures[0])
    sample.paste(pictures[-1], (0, height))
    for i, colour in enumerate(colours):
        sample.paste(colour, (0, 2 * height + 10 * i, width, 2 * height + 10 * (i + 1)))
    palette = sample.quantize(COLOURS, dither=Image.Dither.NONE)
    indexed = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    data = io.BytesIO()
    indexed[0].save(
        data,
        "GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=[frame_ms] * (len(indexed) - 1) + [END_MS],
        loop=0,
        optimize=True,
    )
    path.write_bytes(data.getvalue())
