"""The training loop: one for every algorithm.

Axes: M members, E episodes of an evaluation.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.analysis import plot_curve
from purerl.engine.checkpoint import Checkpoints
from purerl.engine.display import Display
from purerl.engine.loggers import Logger, check_loggers, open_logger
from purerl.engine.plan import Interrupt, Plan
from purerl.engine.population import Population, keys, population
from purerl.engine.programs import (
    Evaluation,
    Programs,
    compile_programs,
    enable_cache,
    member_batch,
)
from purerl.engine.record import (
    CHECKPOINTS,
    CONFIG,
    CURVE,
    RESULT,
    MetricsFile,
    describe,
    differences,
    read_config,
    read_metric,
    write_json,
)
from purerl.engine.result import Result, scores_of
from purerl.errors import UsageError, positive
from purerl.types import Agent, Metrics

MAX_EPISODE_STEPS = 1000  # of an evaluation episode that nothing ends


class RunError(RuntimeError):
    """A run that could not go on: one line, saying what is left of it."""


def train(
    agent: Agent,
    total_steps: int,
    *,
    seeds: int | Sequence[int] = 1,
    hparams: Any = None,
    eval_every: int | None = None,
    eval_episodes: int = 8,
    checkpoint_every: int | None = None,
    log_every: int | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    population_batch: int | None = None,
    loggers: Sequence[str] = (),
    progress: bool = False,
) -> Result:
    """Train every configuration with every seed, in one compiled program.

    All step counts are environment steps of one member, rounded down to whole iterations.

    Args:
      agent: from an algorithm's `make`.
      total_steps: of the run; the horizon of every schedule.
      seeds: how many members (seeds 0, 1, ...), or their seeds.
      hparams: the algorithm's HParams, by default its own; leaves may be [C] arrays.
      eval_every: steps between evaluations, by default a tenth of the run; 0 for one at the end.
      eval_episodes: episodes of each evaluation, as many greedy as sampled.
      checkpoint_every: steps between checkpoints, by default as `eval_every`; 0 for one at the end.
      log_every: steps between rows of metrics, by default a hundredth of the run.
      run_dir: where to write; None writes nothing.
      resume: go on from the newest checkpoint in `run_dir`, which must be of the same settings.
      population_batch: members that run abreast, see `member_batch`.
      loggers: names in LOGGERS, besides metrics.csv.
      progress: print a header, a progress line and the closing table.

    Raises:
      UsageError: before anything compiles, for what cannot be.
      RunError: the run directory could not be written.
    """
    members = population(agent.hparams if hparams is None else hparams, seeds)
    plan = Plan.of(agent, total_steps, eval_every, checkpoint_every, log_every)
    positive("eval_episodes", eval_episodes)
    positive("population_batch", 1 if population_batch is None else population_batch)
    batch = member_batch(members.size, population_batch)
    settings = describe(
        agent,
        members,
        total_steps=total_steps,
        steps_per_update=agent.steps_per_update,
        eval_every=plan.eval_every,
        eval_episodes=eval_episodes,
        checkpoint_every=plan.checkpoint_every,
        log_every=plan.log_every,
        population_batch=batch,
    )
    path = None if run_dir is None else Path(run_dir)
    if path is None and (resume or loggers):
        raise UsageError("run_dir=None: resume and loggers need a run directory")
    check_loggers(loggers)
    if path is not None:
        prepare(path, settings, resume)
    outputs = [open_logger(name, path, settings) for name in loggers] if path else []
    enable_cache()
    with Display(progress) as display:
        display.header(agent, members, plan.updates * agent.steps_per_update, batch, path)
        limit = agent.env.max_episode_steps or MAX_EPISODE_STEPS
        programs = compile_programs(
            agent, members.size, batch, eval_episodes, limit, jax.tree.structure(members.hparams)
        )
        display.compiled(programs)
        try:
            checkpoints = Checkpoints(path / CHECKPOINTS) if path else None
            with checkpoints or contextlib.nullcontext():
                result = _run(agent, members, plan, programs, display, path, checkpoints, outputs)
        except (OSError, ValueError) as error:
            if path is None or not _is_disk(error):
                raise
            raise RunError(_disk_error(path, error)) from error
        finally:
            for output in outputs:
                output.close()
        display.result(result)
    return result


def _run(
    agent: Agent,
    members: Population,
    plan: Plan,
    programs: Programs,
    display: Display,
    path: Path | None,
    checkpoints: Checkpoints | None,
    outputs: Sequence[Logger],
) -> Result:
    member_keys, hparams = keys(members.seeds), jax.tree.map(jnp.asarray, members.hparams)
    unit = agent.steps_per_update
    state, step = programs.init(member_keys, hparams), 0
    if checkpoints and (newest := checkpoints.latest()) is not None:
        state, step = checkpoints.restore(newest, state), newest
        display.note(f"resumed at step {step * unit:,}")
    if path:
        file = MetricsFile(path, members)
        file.start(step * unit)
        outputs = [file, *outputs]
    frozen = _newly_frozen({}, np.asarray(state.frozen))
    first, seconds, evaluate_seconds = step, 0.0, 0.0
    evaluation, evaluated, saved, pending = None, -1, step, None

    def report(step: int, metrics: Metrics) -> None:
        values = jax.device_get(metrics)
        new = _newly_frozen(frozen, values.pop("frozen"))
        for member, at in new.items():
            seed = members.seeds[member]
            display.note(
                f"member {member} (seed {seed}) turned non-finite at step {at * unit:,}: frozen"
            )
        frozen.update(new)
        values = _means({k: np.array(v, float) for k, v in values.items()}, list(frozen))
        for output in outputs:
            output.log(step * unit, values)
        rate = members.size * unit * (step - first) / seconds if seconds else np.nan
        display.progress(step * unit, rate, values["episode/return"])

    def evaluate(step: int) -> tuple[Evaluation, Metrics]:
        index = jnp.int32(step)
        found = jax.device_get(programs.evaluate(state.train.learner, member_keys, hparams, index))
        return found, {
            "eval/return": found.greedy.mean(1),
            "eval/return_sampled": found.sampled.mean(1),
            "eval/length": found.greedy_length.mean(1),
        }

    with Interrupt() as interrupt:
        while step < plan.updates and not interrupt.asked:
            stop, began = plan.next_stop(step), time.perf_counter()
            clock = (jnp.int32(step), jnp.int32(stop - step), jnp.int32(plan.updates))
            state, metrics = programs.iterate(state, member_keys, hparams, *clock)
            if pending is not None:
                report(*pending)  # while the device works on the next chunk
            jax.block_until_ready(metrics)
            step, seconds = stop, seconds + time.perf_counter() - began
            pending = (step, metrics)
            ending = step == plan.updates or interrupt.asked
            if step % plan.eval_every == 0 or ending:
                began = time.perf_counter()
                evaluation, scores = evaluate(step)
                evaluated, pending = step, (step, metrics | scores)
                evaluate_seconds += time.perf_counter() - began
            if checkpoints and (step % plan.checkpoint_every == 0 or ending):
                report(*pending)  # metrics.csv is never behind the newest checkpoint
                saved, pending = step, None
                checkpoints.save(step, state)
    if pending is not None:
        report(*pending)
    if evaluation is None or evaluated != step:  # resumed at the end, or interrupted just now
        evaluation, _ = evaluate(step)
    if checkpoints and saved != step:
        checkpoints.save(step, state)
    if checkpoints:
        checkpoints.wait()
    if path:
        _draw(path, agent, members.size, scores_of(evaluation.greedy, frozen))
    result = Result(
        agent=agent,
        population=members,
        state=state,
        evaluation=evaluation,
        steps=step * unit,
        compile_seconds=programs.compile_seconds,
        train_seconds=seconds,
        evaluate_seconds=evaluate_seconds,
        steps_per_second=members.size * unit * (step - first) / seconds if seconds else 0.0,
        frozen=frozen,
        interrupted=step < plan.updates,
        run_dir=path,
    )
    if path:
        write_json(path / RESULT, result.table())
    return result


def prepare(path: Path, settings: dict[str, Any], resume: bool) -> None:
    """Make the run directory of a new run, or see that an old one is of the same settings.

    Raises:
      UsageError: it exists and is not to be resumed, or it is to be and is no run or another one.
    """
    if resume:
        if wrong := differences(read_config(path), settings):
            raise UsageError(f"resume={str(path)!r}: is another configuration: {'; '.join(wrong)}")
        return
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"run_dir={str(path)!r}: exists; choose another, or --resume {path}")
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / CONFIG, settings)
    except OSError as error:
        raise UsageError(f"run_dir={str(path)!r}: cannot be written: {error.strerror}") from None


def _newly_frozen(known: dict[int, int], frozen: np.ndarray) -> dict[int, int]:
    return {int(i): int(frozen[i]) for i in np.flatnonzero(frozen >= 0) if int(i) not in known}


def _means(metrics: dict[str, np.ndarray], frozen: list[int]) -> dict[str, np.ndarray]:
    """Sums over episodes become means, which do not exist where no episode ended."""
    count = metrics.pop("episode/count")
    some = np.where(count > 0, count, np.nan)
    for name in ("return", "length"):
        metrics[f"episode/{name}"] = metrics.pop(f"episode/{name}_sum") / some
    metrics["episode/count"] = count
    for values in metrics.values():
        values[frozen] = np.nan
    return metrics


def _draw(path: Path, agent: Agent, members: int, final: np.ndarray) -> None:
    steps, values = read_metric(path, "episode/return", members)
    plot_curve(path / CURVE, steps, values, agent.env.name, "return of training episodes", final)


def _is_disk(error: Exception) -> bool:
    # Orbax and TensorStore report a failed write as ValueError, with the system's words inside.
    words = (
        "No space left",
        "No such file",
        "ENOSPC",
        "NOT_FOUND",
        "Permission denied",
        "RESOURCE",
    )
    return isinstance(error, OSError) or any(word in str(error) for word in words)


def _disk_error(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:200]
    try:
        newest = Checkpoints(path / CHECKPOINTS).latest() if (path / CONFIG).exists() else None
    except Exception:  # whatever is wrong with the disk must not hide what was
        newest = None
    left = (
        "no checkpoint is left" if newest is None else f"--resume goes on from iteration {newest}"
    )
    return f"run_dir={str(path)!r}: cannot be written: {reason}; {left}"
