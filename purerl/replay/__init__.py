"""Replay: rings of steps, uniform and prioritised draws, as pure functions on pytrees."""

from purerl.replay import priorities, ring
from purerl.replay.priorities import Draw, Priorities
from purerl.replay.ring import Index, Ring, Steps, Transitions, check_replay

__all__ = [
    "Draw",
    "Index",
    "Priorities",
    "Ring",
    "Steps",
    "Transitions",
    "check_replay",
    "priorities",
    "ring",
]
