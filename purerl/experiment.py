"""The command line of every experiment: one run or a whole sweep, and errors of one line."""

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from purerl import envs
from purerl.analysis import rank
from purerl.configurations import Group, as_flags, expand
from purerl.engine import Result, hosts, population, train
from purerl.engine.directory import note, prepare, quoted
from purerl.engine.display import say, show_sweep
from purerl.engine.record import CONFIG, alone_on, describe, read_config
from purerl.engine.report import combine, together
from purerl.engine.train import planned
from purerl.envs import Environment
from purerl.errors import RunError, UsageError, nearest
from purerl.flags import (
    FLAGS,
    INTERRUPTED,
    NOT_SETTINGS,
    OWN,
    RUN_ERROR,
    USAGE_ERROR,
    RunFlags,
    env_kwargs,
    flag_value,
    of_preset,
    parse,
    suite_of,
    with_all,
)
from purerl.types import Agent


def main(
    algorithm: ModuleType,
    suite: str | None,
    default_env: str,
    argv: Sequence[str] | None = None,
    variant: str | None = None,
) -> int:
    """Train `algorithm` on an environment of `suite` as the flags say.

    Args:
      algorithm: a module with Config, HParams and make.
      suite: "brax", "game", "gymnax" or "pgx"; None for all: that of the environment's name.
      default_env: what `--env` is by default.
      argv: the flags; by default those of the command line.
      variant: whose presets are meant, where one algorithm has several names.

    Returns:
      The exit code: 0; 2 after wrong input, 1 after a fault, 130 after an interrupt.
    """
    argv = with_all(list(sys.argv[1:] if argv is None else argv))
    code, variant = 0, variant or algorithm.__name__.rsplit(".", 1)[-1]
    try:
        _start(argv, default_env)
        suite = _suite(argv, default_env, suite)
        flags, config, hparams = parse(algorithm, suite, default_env, argv, variant)
        run_dir = flags.resume or flags.run_dir or _new_run_dir(algorithm, variant, flags)
        run_dir = Path(hosts.gather(str(run_dir))[0])  # clocks of hosts differ
        results, finished = _train(algorithm, flags, config, hparams, run_dir)
        best = _best_command(algorithm, suite, flags, config, hparams, results, variant)
        if best and hosts.first():
            say(best)
        code = 0 if finished else INTERRUPTED
    except UsageError as error:
        code = _fail(error, USAGE_ERROR)
    except RunError as error:
        code = _fail(error, RUN_ERROR)
    except KeyboardInterrupt:  # before training began, or asked twice
        code = _fail("interrupted", INTERRUPTED)
    return code


def _suite(argv: list[str], default_env: str, only: str | None) -> str:
    """The suite of `--env`, or of the run that is resumed: of a bare name the first that has it.

    `only` is that of the experiment, if it has one; environments of one's own run in all.
    """
    resumed = flag_value(argv, "--resume")
    try:
        env = read_config(Path(resumed))["env"]["name"] if resumed else flag_value(argv, "--env")
    except UsageError:
        if only is None:
            raise
        return only  # what else is wrong is said first
    usual, name = default_env.split("/")[0], env or default_env
    if suite_of(name) == OWN:
        if os.getcwd() not in sys.path:  # a script has its own directory there
            sys.path.append(os.getcwd())
        return OWN
    if only:
        return only
    suites = [usual, *FLAGS]
    names = {s: [x for x in envs.registered() if x.startswith(f"{s}/")] for s in suites}
    having = [s for s in suites if name.startswith(f"{s}/") or f"{s}/{name}" in names[s]]
    # A mistyped name is answered by the first suite that has one like it.
    having += [s for s in suites if nearest(name, names[s])]
    return having[0] if having else usual


def _fail(error: Any, code: int) -> int:
    text = str(error) if code == INTERRUPTED else f"error: {error}"
    print(text, file=sys.stderr, flush=True)
    if hosts.several():  # what is left would wait for processes that are gone
        os._exit(code)
    return code


def _start(argv: list[str], default_env: str) -> None:
    """Join other processes, and share out the cores of a CPU: before JAX looks at either."""

    def number(name: str) -> int | None:
        text = flag_value(argv, name)
        if text is not None and not text.isdigit():
            raise UsageError(f"{name[2:].replace('-', '_')}={text!r}: must be a number from 0")
        return None if text is None else int(text)

    if any(word in ("-h", "--help") for word in argv):
        return
    hosts.use_cores(_alone_on(argv, default_env))
    hosts.initialize(
        "--distributed" in argv,
        flag_value(argv, "--coordinator"),
        number("--num-processes"),
        number("--process-id"),
    )


def _alone_on(argv: list[str], default_env: str) -> str | None:
    """The environment's name, if flags or the run that is resumed say that one member trains."""
    flags = {word.partition("=")[0].replace("_", "-") for word in argv}
    one = all(flag_value(argv, name) in (None, "1") for name in ("--devices", "--data-parallel"))
    if not one or hosts.in_cluster() or flags & {"--sweep", "--distributed"}:
        return None
    if resumed := flag_value(argv, "--resume"):
        return alone_on(Path(resumed))
    lone = flag_value(argv, "--seeds") in (None, "1")
    return flag_value(argv, "--env") or default_env if lone else None


def _train(
    algorithm: ModuleType, flags: RunFlags, config: Any, hparams: Any, run_dir: Path
) -> tuple[list[tuple[Group, Result]], bool]:
    """Every group of the sweep, each in one program; several share a directory.

    Returns:
      What came of each that was begun, and whether all were finished.
    """
    env = envs.make(flags.env, **env_kwargs(flags))
    groups = expand(flags.sweep, flags.sample, config, hparams)
    agents = [algorithm.make(env, group.config) for group in groups]
    if len(groups) > 1 and (flags.halving or flags.pbt):
        name = "halving" if flags.halving else "pbt"
        fields = ", ".join(groups[0].fields)
        raise UsageError(f"{name}=True: compares within one program; {fields} cannot sweep")
    options: dict[str, Any] = {
        "seeds": flags.seeds,
        "halving": flags.halving,
        "pbt": flags.pbt,
        "eval_every": flags.eval_every,
        "eval_episodes": flags.eval_episodes,
        "checkpoint_every": flags.checkpoint_every,
        "keep": None if flags.keep == "all" else flags.keep,
        "log_every": flags.log_every,
        "devices": flags.devices,
        "data_parallel": flags.data_parallel,
        "population_batch": flags.population_batch,
        "loggers": flags.logger,
    }
    overridden = [_changed_params(env, group.hparams) for group in groups]
    for agent, own in zip(agents, overridden, strict=True):  # all, before the first begins
        planned(agent, flags.total_steps, hparams=own, saves=True, **options)
    if len(groups) > 1:
        names = [group.name for group in groups]
        hosts.by_first(lambda: _begin_groups(run_dir, agents[0], hparams, flags, names))
    done: list[tuple[Group, Result]] = []
    notes = {"sweep": list(flags.sweep), "sample": flags.sample}
    for number, (group, agent, own) in enumerate(zip(groups, agents, overridden, strict=True), 1):
        if group.name and hosts.first():
            say(f"group {number} of {len(groups)}: {group.name}")
        path = run_dir / group.name if group.name else run_dir
        begun = flags.resume is not None and (not group.name or (path / CONFIG).exists())
        result = train(
            agent,
            flags.total_steps,
            hparams=own,
            run_dir=path,
            resume=begun,
            progress=True,
            keep_state=False,  # what was learnt is in the checkpoint
            notes=notes,
            **options,
        )
        done.append((group, result))
        if result.interrupted or result.stop_asked:
            break
    if len(groups) > 1 and hosts.first():
        title = "the whole sweep"
        if done[-1][1].interrupted:
            title = f"{len(done)} of {len(groups)} groups, the last interrupted"
        elif len(done) < len(groups):
            title = f"{len(done)} of {len(groups)} groups"
        try:
            ranked = combine(run_dir, [(g.name, g.fields, r) for g, r in done])
        except OSError as error:
            said = (
                f"cannot be written: {error.strerror}; --resume {quoted(run_dir)} goes on from here"
            )
            raise RunError(f"run_dir={str(run_dir)!r}: {said}") from error
        show_sweep(title, ranked)
        say(f"written to {run_dir}")
    return done, len(done) == len(groups) and not done[-1][1].interrupted


def _changed_params(env: Environment, hparams: Any) -> Any:
    """HParams that hold only those of the environment's parameters that are not its own."""
    differs = lambda name, value: np.ndim(value) > 0 or value != env.params[name]
    kept = {k: v for k, v in hparams.env_params.items() if differs(k, v)}
    return hparams._replace(env_params=kept)


def _begin_groups(
    run_dir: Path, agent: Agent, hparams: Any, flags: RunFlags, names: list[str]
) -> None:
    """The directory around the groups' own, from which the whole sweep can be resumed."""
    members = population(_changed_params(agent.env, hparams), flags.seeds)
    fields = [f.name for f in dataclasses.fields(RunFlags) if f.name not in NOT_SETTINGS]
    settings = {name: getattr(flags, name) for name in fields}
    settings |= {"seeds": members.seeds.tolist(), "sweep": list(flags.sweep)}
    # Steps are recorded as they were given, since the groups' iterations differ.
    whole = describe(agent, members, **settings, steps_per_update=1, groups=names)
    prepare(run_dir, whole, flags.resume is not None)
    if flags.resume is not None:
        note(run_dir, keep=flags.keep)


def _best_command(
    algorithm: ModuleType,
    suite: str,
    flags: RunFlags,
    config: Any,
    hparams: Any,
    results: list[tuple[Group, Result]],
    variant: str,
) -> str | None:
    """How to train the best configuration of a sweep again, to paste."""
    if not flags.sweep or flags.pbt:
        return None
    best = rank(*together([(group.fields, result) for group, result in results]))[0]
    if not best.interval.count:  # nothing has a score
        return None
    defaults = of_preset(algorithm, suite, flags.env, [], variant)
    own = {f.name: getattr(flags, f.name) for f in dataclasses.fields(flags)}
    own = {k: v for k, v in own.items() if k not in {*NOT_SETTINGS, "sweep", "sample", "halving"}}
    # A field that was swept over one value is in no table.
    group = results[0][0]
    fixed = {k: v for k, v in group.fields.items() if all(g.fields[k] == v for g, _ in results)}
    flat = _flat(group.hparams)
    fixed |= {k: float(np.ravel(v)[0]) for k, v in flat.items() if np.ndim(v) and np.ptp(v) == 0}
    settings = own | dataclasses.asdict(config) | _flat(hparams) | fixed
    usual = dataclasses.asdict(defaults[0]) | dataclasses.asdict(defaults[1]) | _flat(defaults[2])
    others = {k: v for k, v in settings.items() if k not in best.values and v != usual.get(k)}
    words = as_flags({"env": flags.env, **others, **best.values})
    return f"best: python {shlex.join([sys.argv[0], *words])}"


def _flat(hparams: Any) -> dict[str, Any]:
    inner = {f"env_params.{name}": value for name, value in hparams.env_params.items()}
    return {k: v for k, v in hparams._asdict().items() if k != "env_params"} | inner


def _new_run_dir(algorithm: ModuleType, variant: str, flags: RunFlags) -> Path:
    """Called by the variant, but an algorithm of one's own, whose presets those are, by itself."""
    own = algorithm.__name__.rsplit(".", 1)[-1]
    own = Path(sys.argv[0]).stem if own == "__main__" else own
    ours = algorithm.__name__.startswith("purerl.agents.")
    name = f"{variant if ours else own}-{re.split('[/:]', flags.env)[-1]}"
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
