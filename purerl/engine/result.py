"""What a run came to. Axes: M members, E episodes of an evaluation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from purerl.analysis import Ranked, rank, summary
from purerl.engine.population import Population
from purerl.engine.programs import Evaluation
from purerl.engine.record import read_metric
from purerl.errors import choose
from purerl.types import Agent


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
      agent: what was trained.
      population: the members.
      state: their RunState; `state.train.learner` is what was learnt. None if not to be kept.
      evaluation: the last one, of host arrays [M, E].
      steps: environment steps of one member.
      compile_seconds: tracing and compiling.
      train_seconds: iterating, in this process.
      evaluate_seconds: evaluating, in this process.
      steps_per_second: over all members, in this process, training only.
      frozen: {member: iteration} of those whose learner turned non-finite.
      dropped: {member: iteration} of those that halving trained no further; their evaluation is of
        then.
      interrupted: whether it was stopped before the end.
      stop_asked: whether somebody asked for that, perhaps too late.
      run_dir: where it was written, if anywhere.
      history: {metric: {steps: values [M]}} of this process; `metric` gives it.
    """

    agent: Agent
    population: Population
    state: Any
    evaluation: Evaluation
    steps: int
    compile_seconds: float
    train_seconds: float
    evaluate_seconds: float
    steps_per_second: float
    frozen: dict[int, int]
    dropped: dict[int, int]
    interrupted: bool
    stop_asked: bool
    run_dir: Path | None
    history: Mapping[str, dict[int, np.ndarray]] = field(default_factory=dict, repr=False)

    def metric(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps [P], values [P, M]) of a metric, such as "episode/return" or "eval/return".

        Steps are environment steps of one member. A value is NaN where there is none: no episode
        ended, or the member had stopped. Of a run that was resumed, metrics.csv knows the rest.

        Raises:
          UsageError: there is no such metric.
        """
        if self.run_dir is not None:
            return read_metric(self.run_dir, name)
        choose("metric", name, self.history)
        points = self.history[name]
        return np.array(list(points), int), np.stack(list(points.values()))

    @property
    def returns(self) -> np.ndarray:
        """Greedy evaluation return of each member, [M]; NaN for the frozen ones."""
        return scores_of(self.evaluation.greedy, self.frozen)

    @property
    def sampled_returns(self) -> np.ndarray:
        """Evaluation return of each member with sampled actions, [M]; NaN for the frozen ones."""
        return scores_of(self.evaluation.sampled, self.frozen)

    @property
    def configurations(self) -> list[Ranked]:
        """The configurations of a sweep, best first, by the greedy returns of their seeds."""
        values = swept_values(self.population)
        scores = self.returns.reshape(self.population.configurations, -1)
        return rank(values, scores, self.configuration_steps)

    @property
    def configuration_steps(self) -> list[int]:
        """Environment steps for which each configuration was trained, [C]."""
        count, unit = self.population.configurations, self.agent.steps_per_update
        each = self.population.size // count
        return [self.dropped.get(c * each, self.steps // unit) * unit for c in range(count)]

    def table(self) -> dict[str, Any]:
        """The closing table as plain numbers, which is what result.json holds."""
        return {
            "steps": self.steps,
            "greedy": summary(self.returns),
            "sampled": summary(self.sampled_returns),
            "steps_per_second": round(self.steps_per_second),
            "compile_seconds": round(self.compile_seconds, 2),
            "train_seconds": round(self.train_seconds, 2),
            "evaluate_seconds": round(self.evaluate_seconds, 2),
            "interrupted": self.interrupted,
            "configurations": self.population.configurations,
            "frozen": {str(member): step for member, step in self.frozen.items()},
            "device": jax.devices()[0].device_kind,
        }


def scores_of(returns: npt.ArrayLike, frozen: Iterable[int]) -> np.ndarray:
    """Mean return of each member from [M, E], NaN for those that are frozen."""
    scores = np.asarray(returns, float).mean(1)
    scores[list(frozen)] = np.nan
    return scores


def swept_values(population: Population) -> dict[str, list[float]]:
    """The hyperparameters that differ between configurations, name -> [C], as they were written."""
    return {name: [short(v) for v in x] for name, x in population.swept().items()}


def labels(population: Population, prefix: str = "") -> list[str]:
    """What is swept, in words, of each configuration: "learning_rate=0.001", [C]; of one, ""."""
    columns = swept_values(population)
    word = lambda c: ", ".join(f"{prefix}{name}={x[c]}" for name, x in columns.items())
    return [word(c) for c in range(population.configurations)]


def short(value: Any) -> float:
    """A float32 in its own shortest digits: 0.0003, not 0.000300000014249."""
    return float(np.format_float_positional(np.float32(value)))
