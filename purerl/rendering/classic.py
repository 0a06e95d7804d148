"""The classic control tasks of gymnax, as gymnasium shows them: one function for each.

Each takes the values of one state and the environment's parameters, name -> value, and the
action that is about to be taken.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from PIL.Image import Image

from purerl.rendering.canvas import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PALE,
    RED,
    SOFT,
    Canvas,
    Point,
    box,
    turned,
)

type Values = dict[str, float]


class Scene(NamedTuple):
    """How a task is drawn.

    Attributes:
      draw: (state, params, action) -> picture.
      step_seconds: how long a step lasts on screen.
    """

    draw: Callable[[Values, Values, Any], Image]
    step_seconds: float


def cartpole(state: Values, params: Values, action: Any) -> Image:
    """The pole leans to the right where theta is positive; `length` is half the pole."""
    edge, pole = params["x_threshold"], 2 * params["length"]
    canvas = Canvas((-edge - 0.3, -0.55), (edge + 0.3, max(1.0, pole) + 0.75))
    canvas.line([(-9, -0.17), (9, -0.17)], SOFT, 0.025)
    for x in (-edge, edge):
        canvas.line([(x, -0.27), (x, -0.07)], RED, 0.03)
    x, theta = state["x"], state["theta"]
    canvas.polygon(box(x - 0.3, -0.13, x + 0.3, 0.15), INK)
    for wheel in (-0.18, 0.18):
        canvas.disc((x + wheel, -0.11), 0.07, INK)
    tip = (x + pole * math.sin(theta), 0.1 + pole * math.cos(theta))
    canvas.line([(x, 0.1), tip], ORANGE, 0.11)
    canvas.disc((x, 0.1), 0.045, PALE)
    return canvas.image()


def pendulum(state: Values, params: Values, action: Any) -> Image:
    """Upright at theta 0, anticlockwise where theta grows; the arc shows the torque."""
    length, theta = params["l"], state["theta"]
    canvas = Canvas((-1.35 * length, -1.35 * length), (1.35 * length, 1.35 * length), 320)
    canvas.line(_arc(length * 1.15, 0, math.tau), PALE, 0.012 * length)
    canvas.disc((0, length * 1.15), 0.04 * length, GREEN)
    rod = [(0.0, 0.0), (-length * math.sin(theta), length * math.cos(theta))]
    canvas.line(rod, RED, 0.17 * length)
    canvas.disc((0, 0), 0.045 * length, INK)
    if abs(torque := float(action[0])) > 0.1:
        _arrow(canvas, 0.42 * length, theta + math.pi / 2, torque / 2, length)
    return canvas.image()


def acrobot(state: Values, params: Values, action: Any) -> Image:
    """Hanging at angles 0; the second angle is relative to the first link."""
    first, second = params["link_length_1"], 1.0  # the length of the second enters no equation
    reach = first + second + 0.25
    canvas = Canvas((-reach, -reach), (reach, reach), 360)
    canvas.dashes((-reach, 1.0), (reach, 1.0), GREEN, 0.03)
    one = state["joint_angle1"]
    both = one + state["joint_angle2"]
    elbow = (first * math.sin(one), -first * math.cos(one))
    tip = (elbow[0] + second * math.sin(both), elbow[1] - second * math.cos(both))
    canvas.line([(0.0, 0.0), elbow], BLUE, 0.18)
    canvas.line([elbow, tip], ORANGE, 0.18)
    for joint in ((0.0, 0.0), elbow):
        canvas.disc(joint, 0.06, INK)
    return canvas.image()


def mountain_car(state: Values, params: Values, action: Any) -> Image:
    """The hill is sin(3 x), and the car stands square on it."""
    left, right = params["min_position"], params["max_position"]
    height = lambda x: 0.45 * math.sin(3 * x) + 0.55
    canvas = Canvas((left, 0.0), (right, 1.25))
    xs = [left + (right - left) * i / 120 for i in range(121)]
    hill = [(x, height(x)) for x in xs]
    canvas.polygon([(left, 0.0), *hill, (right, 0.0)], PALE)
    canvas.line(hill, SOFT, 0.012)
    goal = params["goal_position"]
    pole = (goal, height(goal)), (goal, height(goal) + 0.19)
    canvas.line(pole, INK, 0.008)
    (x, top) = pole[1]
    canvas.polygon([(x, top), (x + 0.075, top - 0.03), (x, top - 0.06)], GREEN)
    x = state["position"]
    # The slope as it is drawn; gymnasium turns the car by cos(3 x) instead.
    slope = math.atan(1.35 * math.cos(3 * x))
    place = lambda points: turned(points, slope, (x, height(x)))
    body = [
        (-0.075, 0.03),
        (0.075, 0.03),
        (0.06, 0.075),
        (0.03, 0.105),
        (-0.04, 0.105),
        (-0.07, 0.075),
    ]
    canvas.polygon(place(body), BLUE)
    for wheel in place([(-0.042, 0.026), (0.042, 0.026)]):
        canvas.disc(wheel, 0.026, INK)
        canvas.disc(wheel, 0.01, PALE)
    return canvas.image()


SCENES = {
    "gymnax/CartPole-v1": Scene(cartpole, 0.02),
    "gymnax/Pendulum-v1": Scene(pendulum, 0.05),
    "gymnax/Acrobot-v1": Scene(acrobot, 0.07),
    "gymnax/MountainCar-v0": Scene(mountain_car, 0.04),
    "gymnax/MountainCarContinuous-v0": Scene(mountain_car, 0.04),
}


def _arc(radius: float, begin: float, end: float) -> list[Point]:
    angles = [begin + (end - begin) * i / 60 for i in range(61)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _arrow(canvas: Canvas, radius: float, centre: float, amount: float, unit: float) -> None:
    """A bent arrow, anticlockwise where `amount`, at most 1 either way, is positive."""
    amount = max(-1.0, min(1.0, amount))
    side = math.copysign(1.0, amount)
    begin = centre + 0.28 * side  # clear of the rod
    arc = _arc(radius, begin, begin + 1.7 * amount)
    canvas.line(arc, INK, 0.03 * unit)
    size = 0.11 * unit * math.sqrt(abs(amount))
    tip = [(-0.7 * size, 0.0), (0.7 * size, 0.0), (0.0, size * side)]
    canvas.polygon(turned(tip, begin + 1.7 * amount, arc[-1]), INK)
