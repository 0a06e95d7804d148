"""The MinAtar games of gymnax, drawn from their observations: a colour for each channel."""

import numpy as np
from PIL import Image, ImageColor

CELL = 28  # pixels
GROUND, LINES = "#14171c", "#1c2027"
STEP_SECONDS = 0.06

# Of each channel, in gymnax's order. Where several are set the first shows, but that the channels
# which only tell a direction have the colour of what moves.
PALETTES: dict[str, tuple[str, ...]] = {
    # player, enemy, trail, gold
    "gymnax/Asterix-MinAtar": ("#5ec2e8", "#e0574f", "#4a3236", "#f2c14e"),
    # paddle, ball, trail, brick
    "gymnax/Breakout-MinAtar": ("#5ec2e8", "#fbfaf7", "#5b626c", "#d9822b"),
    # chicken, car, and its trail at five speeds
    "gymnax/Freeway-MinAtar": (
        "#f2c14e",
        "#e0574f",
        "#6b3a5c",
        "#5f3d55",
        "#53404e",
        "#474347",
        "#3b4640",
    ),
    # submarine front and back, own bullet, trail, enemy bullet, fish, enemy submarine, oxygen,
    # divers aboard, diver
    "gymnax/Seaquest-MinAtar": (
        "#5ec2e8",
        "#2f6f9f",
        "#fbfaf7",
        "#3a4048",
        "#f08a7f",
        "#6fbf73",
        "#e0574f",
        "#a7d8ec",
        "#b08ad0",
        "#f2c14e",
    ),
    # cannon, alien, alien going left, going right, own bullet, enemy bullet
    "gymnax/SpaceInvaders-MinAtar": (
        "#5ec2e8",
        "#6fbf73",
        "#6fbf73",
        "#6fbf73",
        "#fbfaf7",
        "#e0574f",
    ),
}


def draw(obs: np.ndarray, colours: tuple[str, ...]) -> Image.Image:
    """A picture of a grid.

    Args:
      obs: bool [H, W, C].
      colours: of the C channels.
    """
    rgb = np.array([ImageColor.getrgb(c) for c in (*colours, GROUND)], np.uint8)
    shown = np.where(obs.any(-1), obs.argmax(-1), len(colours))
    pixels = np.kron(shown, np.ones((CELL, CELL), int))
    picture = rgb[pixels]
    picture[::CELL] = picture[:, ::CELL] = ImageColor.getrgb(LINES)
    return Image.fromarray(picture)
