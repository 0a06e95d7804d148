"""`train`: from what a user asks for to a run, with everything checked before it begins.

Axes: C configurations.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import EllipsisType, MappingProxyType
from typing import Any, Literal, NamedTuple

import jax

from purerl.engine import hosts
from purerl.engine.checkpoint import Checkpoints
from purerl.engine.cohort import Cohort
from purerl.engine.directory import (
    disk_error,
    gone,
    held,
    is_disk,
    note,
    note_versions,
    prepare,
    undo,
)
from purerl.engine.display import Display
from purerl.engine.loggers import Careful, Logger, check_loggers, one_line, open_logger
from purerl.engine.loop import Run
from purerl.engine.memory import check_memory
from purerl.engine.placement import Placement, check_sharing, place
from purerl.engine.plan import Plan
from purerl.engine.population import Population, check_bounds, population
from purerl.engine.programs import compile_programs, enable_cache, longest_episode
from purerl.engine.record import CHECKPOINTS, describe, differences, read_config
from purerl.engine.result import Result, labels
from purerl.envs import check_params
from purerl.errors import RunError, UsageError, positive, whole
from purerl.types import Agent

HALVING_GROUPS = 8  # that a shard is cut into, so that dropped members cost nothing


class Planned(NamedTuple):
    """What is known of a run before anything of it is written or compiled.

    Attributes:
      members: who is trained.
      plan: when.
      where: on what.
      copies: how often the state is there at once.
    """

    members: Population
    plan: Plan
    where: Placement
    copies: int


def planned(
    agent: Agent,
    total_steps: int,
    *,
    seeds: int | Sequence[int],
    hparams: Any,
    halving: bool,
    pbt: bool,
    eval_every: int | None,
    eval_episodes: int,
    checkpoint_every: int | None,
    keep: int | None,
    log_every: int | None,
    devices: int | None,
    data_parallel: int | Literal["all"],
    population_batch: int | None,
    loggers: Sequence[str | Logger],
    saves: bool,
) -> Planned:
    """What `train` is asked for, checked; it takes the same, and whether the run is saved.

    Raises:
      UsageError: for what cannot be.
    """
    if hparams is not None and type(hparams) is not type(agent.hparams):
        known, given = type(agent.hparams), type(hparams)
        name = lambda kind: f"{kind.__module__}.{kind.__qualname__}"
        raise UsageError(f"hparams: are {name(given)}; those of the agent are {name(known)}")
    members = population(agent.hparams if hparams is None else hparams, seeds)
    check_bounds(members)
    check_params(agent.env, members.hparams.env_params)
    if halving and (pbt or members.configurations == 1):
        said = "cannot be combined with pbt" if pbt else "needs a sweep"
        raise UsageError(f"halving=True: {said}")
    if pbt and not members.swept():
        raise UsageError("pbt=True: needs a sweep of HParams to explore")
    plan = Plan.of(
        agent, total_steps, eval_every, checkpoint_every, log_every,
        halve=members.configurations if halving else 1,
    )  # fmt: skip
    if pbt and plan.selections == 0:
        raise UsageError(
            f"eval_every={eval_every}: pbt=True selects at evaluations, and there is none between"
            " the first gradient step and the end"
        )
    positive("eval_episodes", whole("eval_episodes", eval_episodes))
    if keep is not None:
        positive("keep", whole("keep", keep))
    if population_batch is not None:
        population_batch = whole("population_batch", population_batch)
        positive("population_batch", population_batch)
    where = place(
        members.size, devices, data_parallel, population_batch, HALVING_GROUPS if halving else 1,
        agent.cpu_batch,
    )  # fmt: skip
    check_sharing(where, agent)
    check_loggers([logger for logger in loggers if isinstance(logger, str)], saves)
    # The state is there twice where members change places, and where a copy that is saved is on the
    # devices: those of a CPU, or several processes'.
    kept = saves and (jax.default_backend() == "cpu" or jax.process_count() > 1)
    copies = 2 if halving or pbt or kept else 1
    check_memory(where, agent, members, copies=copies)
    return Planned(members, plan, where, copies)


def train(
    agent: Agent,
    total_steps: int,
    *,
    seeds: int | Sequence[int] = 1,
    hparams: Any = None,
    halving: bool = False,
    pbt: bool = False,
    eval_every: int | None = None,
    eval_episodes: int = 8,
    checkpoint_every: int | None = None,
    keep: int | EllipsisType | None = ...,
    log_every: int | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    devices: int | None = None,
    data_parallel: int | Literal["all"] = 1,
    population_batch: int | None = None,
    loggers: Sequence[str | Logger] = (),
    progress: bool = False,
    keep_state: bool = True,
    notes: Mapping[str, Any] = MappingProxyType({}),
) -> Result:
    """Train every configuration with every seed, in one compiled program.

    All step counts are environment steps of one member, rounded down to whole iterations. With
    several processes every one calls this, with the same arguments.

    Args:
      agent: from an algorithm's `make`.
      total_steps: of the run; the horizon of every schedule.
      seeds: how many members of each configuration (seeds 0, 1, ...), or their seeds.
      hparams: the algorithm's HParams, by default its own; leaves may be [C] arrays, such as `grid`
        and `sample` give.
      halving: drop the worse half of the configurations again and again, until one is left.
      pbt: population-based training: at every evaluation the worst fifth of the members goes on
        from copies of the best fifth, with other hyperparameters.
      eval_every: steps between evaluations, by default a tenth of the run; 0 for one at the end.
      eval_episodes: episodes of each evaluation, as many greedy as sampled.
      checkpoint_every: steps between checkpoints, by default as `eval_every`, or where
        that is 0 a tenth of the run; 0 for one at the end.
      keep: how many checkpoints to keep, the newest; None keeps all. By default two, or as many as
        the run has kept that is resumed.
      log_every: steps between rows of metrics, by default a hundredth of the run.
      run_dir: where to write; None writes nothing.
      resume: go on from the newest checkpoint in `run_dir`, which must be of the same settings; the
        devices may be others.
      devices: how many to use; by default all that find work.
      data_parallel: devices that share the environments of each member, or "all".
      population_batch: members that run abreast on a device; by default all on an accelerator.
      loggers: other places for the metrics besides metrics.csv: names in LOGGERS, which need a
        run_dir, or Loggers of your own.
      progress: print a header, a progress line and the closing table.
      keep_state: give the Result the members' state; without, nothing is copied for it at the end.
      notes: entries of config.json besides the settings.

    Raises:
      UsageError: before anything is trained, for what cannot be.
      RunError: the run directory could not be written, or another process is gone.
    """
    path = None if run_dir is None else Path(run_dir)
    if path is None and resume:
        raise UsageError("run_dir=None: resume needs a run directory")
    before = read_config(path) if path and resume else {}
    if groups := before.get("groups"):
        raise UsageError(f"run_dir={str(path)!r}: is a sweep of {len(groups)} runs, not one")
    if keep is ...:
        kept = before.get("keep", 2)
        keep = None if kept == "all" else int(kept)
    if checkpoint_every is None and "checkpoint_every" in before:
        checkpoint_every = before["checkpoint_every"] * agent.steps_per_update
    members, plan, where, copies = planned(
        agent, total_steps, seeds=seeds, hparams=hparams, halving=halving, pbt=pbt,
        eval_every=eval_every, eval_episodes=eval_episodes, checkpoint_every=checkpoint_every,
        keep=keep, log_every=log_every, devices=devices, data_parallel=data_parallel,
        population_batch=population_batch, loggers=loggers, saves=path is not None,
    )  # fmt: skip
    total_steps, eval_episodes = int(total_steps), int(eval_episodes)
    population_batch = population_batch if population_batch is None else int(population_batch)
    keep = keep if keep is None else int(keep)
    settings = describe(
        agent,
        members,
        total_steps=total_steps,
        steps_per_update=agent.steps_per_update,
        eval_every=plan.eval_every,
        eval_episodes=eval_episodes,
        checkpoint_every=plan.checkpoint_every,
        keep="all" if keep is None else keep,
        log_every=plan.log_every,
        population_batch=population_batch,
        data_parallel=where.data,
        halving=halving,
        pbt=pbt,
        **notes,
    )
    hosts.agree(settings, differences)
    if path is not None:
        hosts.by_first(lambda: prepare(path, settings, resume))
    # With population-based training no configuration stays what it was.
    told = [""] if pbt else labels(members)
    outputs: list[Any] = []
    ours = False  # the directory, to be undone: another process may have made it at the same time

    def begin() -> None:
        """Of the first process: have the directory to itself, and open the loggers."""
        nonlocal ours
        if path is not None:
            stack.enter_context(held(path))
            ours = not resume
            if resume:
                note(path, keep=settings["keep"])
                if other := note_versions(path, settings["versions"]):
                    display.warn(f"begun with {other}, whose numbers may differ")
        for logger in loggers:
            if isinstance(logger, str):
                assert path is not None  # as check_loggers saw
                logger = open_logger(logger, path, settings, told)
            outputs.append(Careful(logger, display.warn))

    enable_cache()
    limit = longest_episode(agent.env)
    with Display(progress and hosts.first()) as display, contextlib.ExitStack() as stack:
        stack.callback(lambda: [output.close() for output in outputs])
        try:
            hosts.by_first(begin)
            display.header(agent, members, plan.updates * agent.steps_per_update, where, path)
            if any(isinstance(logger, str) for logger in loggers) and one_line(told):
                display.note(
                    f"logged as one line, the interquartile mean of all {len(told)} configurations"
                )
            programs = compile_programs(
                agent, where, eval_episodes, limit, jax.tree.structure(members.hparams)
            )
            display.compiled(programs)
            check_memory(where, agent, members, programs.temporary_bytes, copies)
        except UsageError:
            stack.close()
            if path is not None and ours:
                undo(path)
            raise
        try:
            checkpoints = Checkpoints(path / CHECKPOINTS, keep) if path else None
            with checkpoints or contextlib.nullcontext():
                cohort = Cohort(members, where, programs)
                run = Run(agent, cohort, plan, display, path, checkpoints, outputs, pbt)
                result = run.train(programs, keep_state)
        except (OSError, ValueError) as error:
            if path is None or isinstance(error, UsageError) or not is_disk(error):
                raise
            raise RunError(disk_error(path, error)) from error
        except jax.errors.JaxRuntimeError as error:
            if jax.process_count() == 1:
                raise
            raise RunError(gone(path, error)) from error
        stack.close()
        display.result(result)
        if pbt:
            display.note("the table has what members began with, metrics.csv what it became")
    return result
