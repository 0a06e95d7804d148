"""The command line of every experiment: flags, presets, and errors of one line."""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from purerl import envs
from purerl.analysis import rank
from purerl.configurations import Group, as_flags, expand
from purerl.engine import Result, RunError, hosts, population, train
from purerl.engine.display import show_sweep
from purerl.engine.record import CONFIG, describe, hparams_of, read_config
from purerl.engine.report import combine, together
from purerl.engine.train import prepare
from purerl.errors import UsageError, nearest
from purerl.presets import preset
from purerl.types import Agent

USAGE_ERROR, RUN_ERROR, INTERRUPTED = 2, 1, 130


@dataclasses.dataclass(frozen=True)
class RunFlags:
    """What is trained, for how long, and where it is written."""

    env: str
    """Environment, a name from purerl.registered(); the suite's prefix may be left out."""
    total_steps: int
    """Environment steps of each member."""
    seeds: int = 1
    """Members trained together, with seeds 0, 1, ..."""
    run_dir: Path | None = None
    """Where to write; by default runs/<algorithm>-<environment>-<time>."""
    resume: Path | None = None
    """Go on with the run in this directory; its settings need not be given again."""
    eval_every: int | None = None
    """Steps between evaluations; by default a tenth of the run, 0 for one at the end."""
    eval_episodes: int = 8
    """Episodes of each evaluation and member, as many greedy as sampled."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default as often as evaluations, 0 for one at the end."""
    log_every: int | None = None
    """Steps between rows of metrics.csv; by default a hundredth of the run."""
    sweep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """FIELD=1,2,3: every value, in all combinations when given again for other fields; with
    --sample also FIELD=log:1e-5:1e-2 or FIELD=uniform:0:1."""
    sample: int | None = None
    """Random combinations of what --sweep gives, that many, instead of all."""
    halving: bool = False
    """Drop the worse half of the configurations again and again, until one is left."""
    pbt: bool = False
    """Population-based training: at evaluations, the worst go on from varied copies of the best."""
    devices: int | None = None
    """Devices to use; by default all that find work, and on a CPU one for each core."""
    data_parallel: int | Literal["all"] = 1
    """Devices that share the environments of each member; all of them, without a number."""
    population_batch: int | None = None
    """Members that run abreast on a device; by default all on an accelerator, few on a CPU."""
    distributed: bool = False
    """Be one process of several; found without this flag under SLURM, Open MPI and the like."""
    coordinator: str | None = None
    """With --distributed outside a cluster: HOST:PORT of process 0."""
    num_processes: int | None = None
    """With --distributed outside a cluster: how many."""
    process_id: int | None = None
    """With --distributed outside a cluster: which one this is, from 0."""
    logger: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Other places for the metrics."""


@dataclasses.dataclass(frozen=True)
class BraxFlags(RunFlags):
    """RunFlags, and brax's own."""

    backend: Literal["spring", "generalized", "positional", "mjx"] | None = None
    """Physics; by default spring, or the first that the environment has."""
    episode_length: int = 1000
    """Steps of the physics environment after which an episode is truncated."""
    action_repeat: int = 1
    """Physics environment steps for which each action is held."""


NOT_SETTINGS = {
    "env", "run_dir", "resume", "devices", "logger", "distributed", "coordinator", "num_processes",
    "process_id",
}  # fmt: skip
"""Of the flags, what does not decide the numbers, or is recorded elsewhere."""

FLAGS = {"brax": BraxFlags, "gymnax": RunFlags, "probe": RunFlags}
"""The flags of each suite of environments."""


def main(
    algorithm: ModuleType,
    suite: str,
    default_env: str,
    argv: Sequence[str] | None = None,
    variant: str | None = None,
) -> int:
    """Train `algorithm` on an environment of `suite` as the flags say.

    Args:
      algorithm: a module with Config, HParams and make.
      suite: "brax" or "gymnax".
      default_env: what `--env` is by default.
      argv: the flags; by default those of the command line.
      variant: whose presets are meant, where one algorithm has several names.

    Returns:
      The exit code: 0; 2 after wrong input, 1 after a fault, 130 after an interrupt.
    """
    argv = _with_all(list(sys.argv[1:] if argv is None else argv))
    code, variant = 0, variant or algorithm.__name__.rsplit(".", 1)[-1]
    try:
        _start(argv)
        flags, config, hparams = parse(algorithm, suite, default_env, argv, variant)
        run_dir = flags.resume or flags.run_dir or _new_run_dir(variant, flags)
        results = _train(algorithm, flags, config, hparams, run_dir)
        best = _best_command(algorithm, suite, flags, config, hparams, results, variant)
        if best and hosts.first():
            print(best)
        code = INTERRUPTED if results[-1][1].interrupted else 0
    except UsageError as error:
        code = _fail(error, USAGE_ERROR)
    except RunError as error:
        code = _fail(error, RUN_ERROR)
    except KeyboardInterrupt:  # before training began, or asked twice
        code = _fail("interrupted", INTERRUPTED)
    return code


def _fail(error: Any, code: int) -> int:
    text = str(error) if code == INTERRUPTED else f"error: {error}"
    print(text, file=sys.stderr, flush=True)
    if hosts.several():  # what is left would wait for processes that are gone
        os._exit(code)
    return code


def _with_all(argv: list[str]) -> list[str]:
    """`--data-parallel` without a number means all devices."""
    flag, out = "--data-parallel", []
    for word, following in itertools.zip_longest(argv, argv[1:], fillvalue="--"):
        out += [word, "all"] if word == flag and following.startswith("--") else [word]
    return out


def _start(argv: list[str]) -> None:
    """Join other processes, and give every core of a CPU a device: before JAX looks at either."""

    def number(name: str) -> int | None:
        text = _flag(argv, name)
        if text is not None and not text.isdigit():
            raise UsageError(f"{name[2:].replace('-', '_')}={text!r}: must be a number from 0")
        return None if text is None else int(text)

    if any(word in ("-h", "--help") for word in argv):
        return
    hosts.use_cores()
    hosts.initialize(
        "--distributed" in argv,
        _flag(argv, "--coordinator"),
        number("--num-processes"),
        number("--process-id"),
    )


def _train(
    algorithm: ModuleType, flags: RunFlags, config: Any, hparams: Any, run_dir: Path
) -> list[tuple[Group, Result]]:
    """Every group of the sweep, each in one program; several share a directory."""
    env = envs.make(flags.env, **_env_kwargs(flags))
    groups = expand(flags.sweep, flags.sample, config, hparams)
    differs = lambda k, v: np.ndim(v) > 0 or v != env.params[k]
    agents = [algorithm.make(env, group.config) for group in groups]  # all are checked at once
    options = {
        "seeds": flags.seeds,
        "halving": flags.halving,
        "pbt": flags.pbt,
        "eval_every": flags.eval_every,
        "eval_episodes": flags.eval_episodes,
        "checkpoint_every": flags.checkpoint_every,
        "log_every": flags.log_every,
        "devices": flags.devices,
        "data_parallel": flags.data_parallel,
        "population_batch": flags.population_batch,
        "loggers": flags.logger,
        "progress": True,
        "notes": {"sweep": list(flags.sweep), "sample": flags.sample},
    }
    if len(groups) > 1 and (flags.halving or flags.pbt):
        name = "halving" if flags.halving else "pbt"
        fields = ", ".join(groups[0].fields)
        raise UsageError(f"{name}=True: compares within one program; {fields} cannot sweep")
    if len(groups) > 1:
        names = [group.name for group in groups]
        hosts.by_first(lambda: _begin_groups(run_dir, agents[0], hparams, flags, names))
    done: list[tuple[Group, Result]] = []
    for number, (group, agent) in enumerate(zip(groups, agents, strict=True), 1):
        if group.name and hosts.first():
            print(f"group {number} of {len(groups)}: {group.name}", flush=True)
        path = run_dir / group.name if group.name else run_dir
        overrides = {k: v for k, v in group.hparams.env_params.items() if differs(k, v)}
        begun = flags.resume is not None and (not group.name or (path / CONFIG).exists())
        result = train(
            agent,
            flags.total_steps,
            hparams=group.hparams._replace(env_params=overrides),
            run_dir=path,
            resume=begun,
            **options,
        )
        done.append((group, result))
        if result.interrupted:
            break
    if len(groups) > 1 and hosts.first():
        show_sweep(combine(run_dir, [(group.name, group.fields, r) for group, r in done]))
        print(f"written to {run_dir}")
    return done


def _begin_groups(
    run_dir: Path, agent: Agent, hparams: Any, flags: RunFlags, names: list[str]
) -> None:
    """The directory around the groups' own, from which the whole sweep can be resumed."""
    overrides = {k: v for k, v in hparams.env_params.items() if v != agent.env.params[k]}
    members = population(hparams._replace(env_params=overrides), flags.seeds)
    fields = [f.name for f in dataclasses.fields(RunFlags) if f.name not in NOT_SETTINGS]
    settings = {name: getattr(flags, name) for name in fields}
    settings |= {"seeds": members.seeds.tolist(), "sweep": list(flags.sweep)}
    # Steps are recorded as they were given, since the groups' iterations differ.
    whole = describe(agent, members, **settings, steps_per_update=1, groups=names)
    prepare(run_dir, whole, flags.resume is not None)


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
    defaults = _of_preset(algorithm, suite, flags.env, [], variant)
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
    words = as_flags({"env": flags.env.removeprefix(f"{suite}/"), **others, **best.values})
    return f"best: python {shlex.join([sys.argv[0], *words])}"


def _flat(hparams: Any) -> dict[str, Any]:
    inner = {f"env_params.{name}": value for name, value in hparams.env_params.items()}
    return {k: v for k, v in hparams._asdict().items() if k != "env_params"} | inner


def parse(
    algorithm: ModuleType,
    suite: str,
    default_env: str,
    argv: list[str],
    variant: str | None = None,
) -> tuple[Any, Any, Any]:
    """(run flags, Config, HParams) from flags over the environment's preset or the resumed run.

    Raises:
      UsageError: a flag that is unknown, or a value that cannot be.
    """
    resumed = _flag(argv, "--resume")
    if resumed and (other := _flag(argv, "--run-dir")):
        raise UsageError(f"run_dir={other!r}: a resumed run stays in its own, {resumed!r}")
    if resumed:
        defaults = _of_run(algorithm, suite, Path(resumed))
    else:
        env = _flag(argv, "--env") or default_env
        defaults = _of_preset(algorithm, suite, env, argv, variant)
    flat = lambda kind: Annotated[kind, tyro.conf.arg(name="")]
    parts = ("run", FLAGS[suite], defaults[0]), ("config", algorithm.Config, defaults[1])
    parts += (("hparams", algorithm.HParams, defaults[2]),)
    fields = [(n, flat(kind), dataclasses.field(default=value)) for n, kind, value in parts]
    parser = dataclasses.make_dataclass("Flags", fields, frozen=True)
    summary = (algorithm.__doc__ or "").split("\n")[0]
    parsed = parse_flags(parser, argv, f"{summary} Defaults are those of {defaults[0].env}.")
    name = full_name(parsed.run.env, suite)
    return dataclasses.replace(parsed.run, env=name), parsed.config, parsed.hparams


def full_name(env: str, suite: str) -> str:
    """The registered name that `env` means in `suite`.

    Raises:
      UsageError: there is none, or it is another suite's.
    """
    if "/" not in env and f"{suite}/{env}" in envs.registered():
        return f"{suite}/{env}"
    known = [name for name in envs.registered() if name.startswith(f"{suite}/")]
    if env not in known:
        close = " or ".join(nearest(f"{suite}/{env}", known)) or "one of purerl.registered()"
        raise UsageError(f"env={env!r}: no such {suite} environment; did you mean {close}?")
    return env


def _of_preset(
    algorithm: ModuleType, suite: str, env: str, argv: list[str], variant: str | None = None
):
    name = full_name(env, suite)
    chosen = preset(variant or algorithm.__name__.rsplit(".", 1)[-1], name)
    of = lambda fields: {k: v for k, v in chosen.items() if k in fields}
    run = FLAGS[suite](env=name, **of([f.name for f in dataclasses.fields(FLAGS[suite])]))
    kwargs = _env_kwargs(run)
    for flag in ("backend", "episode_length", "action_repeat"):
        if flag in kwargs and (given := _flag(argv, f"--{flag.replace('_', '-')}")):
            kwargs[flag] = int(given) if given.isdigit() else given
    hparams = algorithm.HParams(**of(algorithm.HParams._fields))
    config = algorithm.Config(**of([f.name for f in dataclasses.fields(algorithm.Config)]))
    return run, config, hparams._replace(env_params=dict(envs.make(name, **kwargs).params))


def _of_run(algorithm: ModuleType, suite: str, path: Path):
    """The defaults with which a run is resumed: its own settings."""
    stored = read_config(path)
    if stored["agent"] != algorithm.__name__:
        raise UsageError(f"resume={str(path)!r}: is a run of {stored['agent']}, another algorithm")
    names = [f.name for f in dataclasses.fields(FLAGS[suite])]
    settings = {k: v for k, v in stored.items() if k in names} | stored["env"]["kwargs"]
    unit = stored["steps_per_update"]
    for every in ("eval_every", "checkpoint_every", "log_every"):
        if settings[every] is not None:
            settings[every] *= unit
    settings |= {"sweep": tuple(stored["sweep"]), "logger": ()}
    settings |= {"env": stored["env"]["name"], "seeds": len(set(stored["seeds"]))}
    env = envs.make(stored["env"]["name"], **stored["env"]["kwargs"])
    of_list = lambda x: x[0] if isinstance(x, list) else x  # what sweeps is given by `sweep`
    is_list = lambda x: isinstance(x, list)
    hparams = jax.tree.map(of_list, hparams_of(stored), is_leaf=is_list)
    params = dict(env.params) | dict(hparams.env_params)
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["config"].items()}
    run = FLAGS[suite](**settings)
    return run, algorithm.Config(**config), hparams._replace(env_params=params)


def _env_kwargs(flags: RunFlags) -> dict[str, Any]:
    if not isinstance(flags, BraxFlags):
        return {}
    kwargs = {"episode_length": flags.episode_length, "action_repeat": flags.action_repeat}
    return kwargs | ({"backend": flags.backend} if flags.backend else {})


def _new_run_dir(variant: str, flags: RunFlags) -> Path:
    name = f"{variant}-{flags.env.rsplit('/', 1)[-1]}"
    base = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = (base.with_name(f"{base.name}-{i}") for i in range(1, 1000))
    return base if not base.exists() else next(path for path in taken if not path.exists())


def _flag(argv: list[str], name: str) -> str | None:
    """The value of a flag that decides the others' defaults."""
    for i, word in enumerate(argv):
        if word == name and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(name + "="):
            return word.split("=", 1)[1]
    return None


def parse_flags(parser: Any, argv: list[str], description: str, prog: str | None = None) -> Any:
    """tyro's parsing of a dataclass of flags.

    Raises:
      UsageError: what tyro says in a box, on one line.
    """
    if any(word in ("-h", "--help") for word in argv):
        return tyro.cli(parser, args=argv, description=description, prog=prog)
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words), contextlib.redirect_stdout(words):
            return tyro.cli(parser, args=argv, description=description, prog=prog)
    except SystemExit:
        raise UsageError(one_line(words.getvalue())) from None


def one_line(box: str) -> str:
    """What a boxed message says, up to its first rule, and the flag that was perhaps meant."""
    lines = [re.sub(r"[│|╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    text = [line for line in lines if line]
    rule = lambda line: set(line) <= {"─", "-"}
    body = itertools.dropwhile(rule, text[1:])  # after the title
    head = itertools.takewhile(lambda line: not rule(line), body)
    meant = re.search(r"Perhaps you meant:?\s*(--[\w.-]+)", " ".join(text))
    return " ".join(head) + (f"; did you mean {meant[1]}?" if meant else "; see --help")
