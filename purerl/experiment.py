"""The command line of every experiment: flags, presets, and errors of one line."""

import contextlib
import dataclasses
import io
import itertools
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import tyro

from purerl import envs
from purerl.engine import RunError, train
from purerl.engine.record import hparams_of, read_config
from purerl.errors import UsageError, nearest
from purerl.presets import preset

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
    population_batch: int | None = None
    """Members that run abreast; by default all on an accelerator, 4 on a CPU."""
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


FLAGS = {"brax": BraxFlags, "gymnax": RunFlags, "probe": RunFlags}
"""The flags of each suite of environments."""


def main(
    algorithm: ModuleType, suite: str, default_env: str, argv: Sequence[str] | None = None
) -> int:
    """Train `algorithm` on an environment of `suite` as the flags say.

    Args:
      algorithm: a module with Config, HParams and make.
      suite: "brax" or "gymnax".
      default_env: what `--env` is by default.
      argv: the flags; by default those of the command line.

    Returns:
      The exit code: 0; 2 after wrong input, 1 after a fault, 130 after an interrupt.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        flags, config, hparams = parse(algorithm, suite, default_env, argv)
        env = envs.make(flags.env, **_env_kwargs(flags))
        overrides = {k: v for k, v in hparams.env_params.items() if v != env.params[k]}
        result = train(
            algorithm.make(env, config),
            flags.total_steps,
            seeds=flags.seeds,
            hparams=hparams._replace(env_params=overrides),
            run_dir=flags.resume or flags.run_dir or _new_run_dir(algorithm, flags),
            resume=flags.resume is not None,
            eval_every=flags.eval_every,
            eval_episodes=flags.eval_episodes,
            checkpoint_every=flags.checkpoint_every,
            log_every=flags.log_every,
            population_batch=flags.population_batch,
            loggers=flags.logger,
            progress=True,
        )
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return RUN_ERROR
    except KeyboardInterrupt:  # before training began, or asked twice
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return INTERRUPTED if result.interrupted else 0


def parse(
    algorithm: ModuleType, suite: str, default_env: str, argv: list[str]
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
        defaults = _of_preset(algorithm, suite, _flag(argv, "--env") or default_env, argv)
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


def _of_preset(algorithm: ModuleType, suite: str, env: str, argv: list[str]):
    name = full_name(env, suite)
    chosen = preset(algorithm.__name__.rsplit(".", 1)[-1], name)
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
        settings[every] *= unit
    settings |= {"env": stored["env"]["name"], "seeds": len(stored["seeds"])}
    env = envs.make(stored["env"]["name"], **stored["env"]["kwargs"])
    hparams = hparams_of(stored)
    params = dict(env.params) | dict(hparams.env_params)
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["config"].items()}
    run = FLAGS[suite](**settings)
    return run, algorithm.Config(**config), hparams._replace(env_params=params)


def _env_kwargs(flags: RunFlags) -> dict[str, Any]:
    if not isinstance(flags, BraxFlags):
        return {}
    kwargs = {"episode_length": flags.episode_length, "action_repeat": flags.action_repeat}
    return kwargs | ({"backend": flags.backend} if flags.backend else {})


def _new_run_dir(algorithm: ModuleType, flags: RunFlags) -> Path:
    name = f"{algorithm.__name__.rsplit('.', 1)[-1]}-{flags.env.rsplit('/', 1)[-1]}"
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
