"""Replay: rings of steps, uniform and prioritised draws, as pure functions on pytrees."""

from purerl.replay import draws, priorities, ring
from purerl.replay.priorities import Priorities
from purerl.replay.ring import Index, Ring, Steps, Transitions, check_replay

__all__ = [
    "Index",
    "Priorities",
    "Ring",
    "Steps",
    "Transitions",
    "check_replay",
    "draws",
    "priorities",
    "ring",
]
