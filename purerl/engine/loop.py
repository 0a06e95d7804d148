"""The training loop: one for every algorithm.

Axes: M members, C configurations, E episodes of an evaluation.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl.engine import hosts
from purerl.engine.checkpoint import Checkpoints
from purerl.engine.cohort import Cohort
from purerl.engine.display import Display
from purerl.engine.evolution import worse_half
from purerl.engine.loggers import Logger
from purerl.engine.plan import Interrupt, Plan
from purerl.engine.programs import Evaluation, Programs
from purerl.engine.record import METRICS, RESULT, MetricsFile, read_metric, write_json
from purerl.engine.report import draw
from purerl.engine.result import Result, scores_of
from purerl.errors import UsageError
from purerl.types import Agent, Metrics


class Run:
    """One run: the loop, and what the host knows of it."""

    def __init__(
        self,
        agent: Agent,
        cohort: Cohort,
        plan: Plan,
        display: Display,
        path: Path | None,
        checkpoints: Checkpoints | None,
        outputs: Sequence[Logger],
        pbt: bool,
    ):
        self._agent, self._cohort, self._plan, self._display = agent, cohort, plan, display
        self._path, self._checkpoints, self._outputs, self._pbt = path, checkpoints, outputs, pbt
        self._unit = agent.steps_per_update
        self._frozen: dict[int, int] = {}
        self._seconds, self._trained = 0.0, 0
        self._evaluate_seconds = 0.0
        self._history: dict[str, dict[int, np.ndarray]] = {}

    def train(self, programs: Programs, keep_state: bool) -> Result:
        """The loop, from the beginning or from the newest checkpoint."""
        cohort, plan, checkpoints = self._cohort, self._plan, self._checkpoints
        step = self._start()
        evaluation, evaluated, saved, pending = None, -1, step, None
        with Interrupt() as interrupt:
            asked = hosts.any_of(interrupt.asked)
            while step < plan.updates and not asked:
                stop, began = plan.next_stop(step), time.perf_counter()
                metrics = cohort.advance(step, stop - step, plan.updates)
                if pending is not None:
                    self._report(*pending)  # while the device works on the next chunk
                jax.block_until_ready(metrics)
                self._seconds += time.perf_counter() - began
                self._trained += cohort.active * (stop - step) * self._unit
                step, pending = stop, (stop, metrics, {})
                asked = hosts.any_of(interrupt.asked)
                if asked and checkpoints and not plan.evaluates(step):
                    # Saved before it is evaluated: who asked may not wait for that.
                    self._report(*pending)
                    saved, pending = step, None
                    cohort.save(checkpoints, step)
                if plan.evaluates(step) or asked:
                    with self._saved_by_then(step, pending):
                        evaluation, scores = self._evaluate(step)
                    evaluated, asked = step, hosts.any_of(interrupt.asked)
                    if saved == step:
                        self._log(step, scores)
                    else:
                        pending = step, metrics, scores
                if self._selects(step) and evaluation is not None and pending is not None:
                    self._report(*pending)
                    pending = None
                    self._select(step, np.asarray(evaluation.greedy))
                    # With population-based training others are there now.
                    evaluated = -1 if self._pbt else evaluated
                due = step % plan.checkpoint_every == 0 or self._last(step, asked)
                if checkpoints and due and saved != step:
                    if pending is not None:
                        self._report(*pending)  # metrics.csv is never behind the newest checkpoint
                    saved, pending = step, None
                    cohort.save(checkpoints, step)
            if pending is not None:
                self._report(*pending)
            if evaluation is None or evaluated != step:  # resumed at the end, or selected just now
                unscored = evaluation is None and not self._scored(step)
                evaluation, scores = self._evaluate(step)
                if unscored:
                    self._log(step, scores)
            if checkpoints and saved != step:
                cohort.save(checkpoints, step)
            if checkpoints:
                checkpoints.wait()
        result = self._result(programs, step, evaluation, hosts.any_of(interrupt.asked))
        if self._path and hosts.first():
            table = result.table()
            # A finished run that is resumed keeps what it took.
            if self._trained or not _describes(self._path / RESULT, table):
                write_json(self._path / RESULT, table)
            draw(self._path, result, self._pbt)
        # At the very end: it may be a copy, for which there may be no room.
        return replace(result, state=cohort.members()) if keep_state else result

    def _result(self, programs: Programs, step: int, evaluation: Evaluation, asked: bool) -> Result:
        """What the run came to, without its state."""
        cohort = self._cohort
        dropped = {int(m): int(cohort.dropped[m]) for m in np.flatnonzero(cohort.dropped >= 0)}
        return Result(
            agent=self._agent,
            population=cohort.population,
            state=None,
            evaluation=evaluation,
            steps=step * self._unit,
            compile_seconds=programs.compile_seconds,
            train_seconds=self._seconds,
            evaluate_seconds=self._evaluate_seconds,
            steps_per_second=self._trained / self._seconds if self._seconds else 0.0,
            frozen=self._frozen,
            dropped=dropped,
            interrupted=step < self._plan.updates,
            stop_asked=asked,
            run_dir=self._path,
            history=self._history,
        )

    def _start(self) -> int:
        """The iteration to go on from."""
        step, checkpoints = 0, self._checkpoints
        if checkpoints and (newest := checkpoints.latest()) is not None:
            self._cohort.restore(checkpoints, newest)
            step = newest
            self._display.note(f"resumed at step {step * self._unit:,}")
        elif self._path and self._had_checkpoints():
            raise UsageError(f"resume={str(self._path)!r}: has no checkpoint to go on from")
        elif self._path and (self._path / METRICS).exists():
            self._display.warn("no checkpoint is there yet: from the beginning")
        if self._path and hosts.first():
            file = MetricsFile(self._path, self._cohort.population)
            file.start(step * self._unit)
            self._outputs = [file, *self._outputs]
        # Of the dropped too: which of them had failed before is to be known again.
        self._newly_frozen(self._cohort.failed)
        return step

    @contextlib.contextmanager
    def _saved_by_then(self, step: int, pending: tuple[int, Metrics, dict] | None):
        """Save what was trained where evaluating it fails, for want of memory for example."""
        try:
            yield
        except Exception:
            # Of several processes only one may have failed, and saving needs all. What is to be
            # selected from is not saved before: a run resumed there would go on with all.
            able = jax.process_count() == 1 and not self._selects(step)
            if self._checkpoints and pending is not None and able:
                self._report(*pending)
                self._cohort.save(self._checkpoints, step)
                self._checkpoints.wait()
            raise

    def _had_checkpoints(self) -> bool:
        """Whether the run came so far that there was one: the second waits for the first."""
        assert self._path is not None
        second = 2 * self._plan.checkpoint_every * self._unit
        logged = self._logged(self._path, "episode/return")
        return (self._path / RESULT).exists() or any(step > second for step in logged)

    def _scored(self, step: int) -> bool:
        """Whether metrics.csv has an evaluation at `step`: not where evaluating failed."""
        return bool(self._path) and step * self._unit in self._logged(self._path, "eval/return")

    @staticmethod
    def _logged(path: Path, metric: str) -> np.ndarray:
        """The environment steps [P] at which metrics.csv has it."""
        try:
            return read_metric(path, metric)[0]
        except UsageError:
            return np.array([], int)

    def _last(self, step: int, asked: bool) -> bool:
        return asked or step == self._plan.updates

    def _report(self, step: int, metrics: Metrics, scores: dict[str, np.ndarray]) -> None:
        values = self._cohort.by_member(metrics) | scores
        frozen = np.where(self._cohort.dropped >= 0, -1, values.pop("frozen"))
        for member, at in self._newly_frozen(frozen).items():
            seed = self._cohort.population.seeds[member]
            self._display.note(
                f"member {member} (seed {seed}) turned non-finite at step"
                f" {at * self._unit:,}: frozen"
            )
        values = self._log(step, _means({k: np.array(v, float) for k, v in values.items()}))
        rate = self._trained / self._seconds if self._seconds else np.nan
        self._display.progress(
            step * self._unit, rate, values["episode/return"], self._cohort.active
        )

    def _log(self, step: int, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Put out the values [M] of each metric, without those of members that have stopped."""
        out = [*self._frozen, *np.flatnonzero(self._cohort.dropped >= 0)]
        stopped = np.isin(np.arange(self._cohort.population.size), out)
        values = {k: np.where(stopped, np.nan, v) for k, v in values.items()}
        for name, row in values.items():
            self._history.setdefault(name, {})[step * self._unit] = row
        for output in self._outputs:
            output.log(step * self._unit, values)
        return values

    def _evaluate(self, step: int) -> tuple[Evaluation, dict[str, np.ndarray]]:
        began = time.perf_counter()
        found = self._cohort.evaluate(step)
        self._evaluate_seconds += time.perf_counter() - began
        mean = lambda x: np.asarray(x).mean(1)
        scores = {
            "eval/return": mean(found.greedy),
            "eval/return_sampled": mean(found.sampled),
            "eval/length": mean(found.greedy_length),
        }
        return found, scores | (self._numbers() if self._pbt else {})

    def _numbers(self) -> dict[str, np.ndarray]:
        """The hyperparameters that population-based training has come to."""
        population, hparams = self._cohort.population, self._cohort.by_member(self._cohort.hparams)
        now = population._replace(hparams=hparams).columns()
        return {f"hparams/{name}": now[name] for name in population.swept()}

    def _selects(self, step: int) -> bool:
        plan, evolves = self._plan, self._pbt and step % self._plan.eval_every == 0
        return (evolves and plan.learns_after < step < plan.updates) or step in plan.rungs

    def _select(self, step: int, returns: np.ndarray) -> None:
        cohort, population = self._cohort, self._cohort.population
        scores = scores_of(returns, self._frozen)
        if self._pbt:
            copied = cohort.evolve(np.where(np.isnan(scores), -np.inf, scores), step)
            self._frozen = {}
            self._newly_frozen(cohort.failed)
            self._display.note(f"step {step * self._unit:,}: {copied} members copied from better")
            return
        by_configuration = np.arange(population.size).reshape(population.configurations, -1)
        active = cohort.dropped[by_configuration[:, 0]] < 0
        worse = worse_half(scores[by_configuration], active)
        cohort.drop(by_configuration[worse].ravel(), step)
        left = active.sum() - len(worse)
        self._display.note(
            f"step {step * self._unit:,}: {len(worse)} configurations dropped, {left} left"
        )

    def _newly_frozen(self, frozen: np.ndarray) -> dict[int, int]:
        """{member: iteration} of those that were not known."""
        some = np.flatnonzero(np.asarray(frozen) >= 0)
        new = {int(m): int(frozen[m]) for m in some if int(m) not in self._frozen}
        self._frozen.update(new)
        return new


def _describes(path: Path, table: dict[str, Any]) -> bool:
    """Whether there is a result.json, of a run that came as far: then its scores are the same."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return all(found.get(name) == table[name] for name in ("steps", "interrupted"))


def _means(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums over episodes become means, which do not exist where no episode ended."""
    count = metrics.pop("episode/count")
    some = np.where(count > 0, count, np.nan)
    for name in ("return", "length"):
        metrics[f"episode/{name}"] = metrics.pop(f"episode/{name}_sum") / some
    metrics["episode/count"] = count
    return metrics
