"""When the host does what during a run, and how a user stops it."""

import contextlib
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

from purerl.engine.evolution import rungs
from purerl.errors import UsageError, whole
from purerl.types import Agent

LOG_POINTS = 100  # of a run: how often the host looks, unless told otherwise
EVALUATIONS = 10
SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
"""Ctrl-C; what SLURM, Kubernetes and clouds send to what they stop; the end of a terminal."""


@dataclass(frozen=True)
class Plan:
    """When things happen, in iterations."""

    updates: int
    eval_every: int
    checkpoint_every: int
    log_every: int
    rungs: tuple[int, ...] = ()
    """Further stops: the iterations at which halving drops configurations."""
    learns_after: int = 0
    """Iterations before anything is learnt."""

    @classmethod
    def of(
        cls,
        agent: Agent,
        total_steps: int,
        eval_every: int | None,
        checkpoint_every: int | None,
        log_every: int | None,
        halve: int = 1,
    ) -> "Plan":
        """From environment steps of one member, as `train` takes them.

        `halve` is the number of configurations of which halving leaves one.

        Raises:
          UsageError: a number that is negative or not whole, or a run shorter than one iteration,
            too short to halve or over before anything is learnt.
        """
        unit, total_steps = agent.steps_per_update, whole("total_steps", total_steps)
        if total_steps < unit:
            raise UsageError(f"total_steps={total_steps}: must be at least {unit}, one iteration")
        updates = total_steps // unit
        if agent.learning_starts >= updates * unit:
            rest = (
                "" if updates * unit == total_steps else f", {updates * unit} in whole iterations"
            )
            raise UsageError(
                f"learning_starts={agent.learning_starts}: must be below total_steps={total_steps}"
                f"{rest}"
            )

        def every(name: str, steps: int | None, default: int) -> int:
            if steps is None:
                return max(1, default)
            if steps < 0:
                raise UsageError(f"{name}={steps}: must not be negative")
            return max(1, whole(name, steps) // unit) if steps else updates

        evaluations = every("eval_every", eval_every, updates // EVALUATIONS)
        often = updates // EVALUATIONS if eval_every == 0 else evaluations
        checkpoints = every("checkpoint_every", checkpoint_every, often)
        logs = every("log_every", log_every, updates // LOG_POINTS)
        halvings, blind = rungs(updates, halve), agent.learning_starts // unit
        if halvings and halvings[0] <= blind:
            raise UsageError(
                f"halving=True: the first comes after {halvings[0] * unit} steps, when nothing is"
                f" learnt yet (learning_starts={agent.learning_starts}); give more steps or fewer"
                " configurations"
            )
        return cls(updates, evaluations, checkpoints, logs, halvings, blind)

    def next_stop(self, step: int) -> int:
        """The first iteration after `step` at which the host has something to do."""
        stops = [
            (step // n + 1) * n for n in (self.eval_every, self.checkpoint_every, self.log_every)
        ]
        return min(*stops, *(rung for rung in self.rungs if rung > step), self.updates)

    @property
    def selections(self) -> int:
        """How often population-based training selects."""
        stops = range(self.eval_every, self.updates, self.eval_every)
        return sum(step > self.learns_after for step in stops)

    def evaluates(self, step: int) -> bool:
        """Whether iteration `step` is followed by an evaluation."""
        return step % self.eval_every == 0 or step in self.rungs or step == self.updates


class Interrupt:
    """While entered, the first of SIGNALS only sets `asked`; a second acts as usual."""

    def __init__(self):
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                nohup = number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
                if not nohup:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            # None: a handler that is not of Python, which cannot be put back.
            signal.signal(number, signal.SIG_DFL if before is None else before)

    def _ask(self, number: int, *_: object) -> None:
        self.asked = True
        self.__exit__()
        if number == signal.SIGHUP:  # a terminal that ends says so more than once
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # nobody may be listening any more
            os.write(2, b"\nstopping at the end of this chunk; again to stop at once\n")
