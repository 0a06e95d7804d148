"""The flags of every experiment: over the environment's presets, or over the run that goes on."""

import contextlib
import dataclasses
import io
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import jax
import tyro

from purerl import envs
from purerl.engine.record import hparams_of, read_config, sweep_of
from purerl.envs import pgx
from purerl.envs.matches import Opponent
from purerl.errors import UsageError, nearest
from purerl.presets import TOTAL_STEPS, preset
from purerl.tuning import OF_ENV

USAGE_ERROR, RUN_ERROR, INTERRUPTED = 2, 1, 130  # exit codes


@dataclasses.dataclass(frozen=True)
class RunFlags:
    """What is trained, for how long, and where it is written."""

    env: str
    """Environment, a name from purerl.registered(), whose prefix may be left out; or one of your
    own as module:Class."""
    total_steps: int
    """Environment steps of each member."""
    seeds: int = 1
    """Seeds of each configuration, 0, 1, ..., trained together."""
    run_dir: Path | None = None
    """Where to write; by default runs/<algorithm>-<environment>-<time>."""
    resume: Path | None = None
    """Go on with the run in this directory; its settings need not be given again."""
    eval_every: int | None = None
    """Steps between evaluations; by default a tenth of the run, 0 for one at the end."""
    eval_episodes: int = 8
    """Greedy episodes of each evaluation and member; as many more with sampled actions."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default as often as evaluations, or ten where those are at the
    end; 0 for one at the end."""
    keep: int | Literal["all"] = 2
    """Checkpoints that are kept, the newest; or all."""
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
    """Devices to use; by default all that find work, and on a CPU one for each core, or one
    for a member alone."""
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


@dataclasses.dataclass(frozen=True)
class GameFlags(RunFlags):
    """RunFlags, and that of games."""

    opponent: Opponent | None = None
    """Whom evaluations are played against; by default the strongest there is for the game."""


NOT_SETTINGS = {
    "env", "run_dir", "resume", "devices", "logger", "distributed", "coordinator", "num_processes",
    "process_id",
}  # fmt: skip
"""Of the flags, what does not decide the numbers, or is recorded elsewhere."""

OWN = "own"
"""The suite of environments that are named by where they are: module:Class."""

FLAGS = {
    "brax": BraxFlags, "game": GameFlags, "gymnax": RunFlags, "pgx": GameFlags, "probe": RunFlags,
    OWN: RunFlags,
}  # fmt: skip
"""The flags of each suite of environments."""


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
    resumed = flag_value(argv, "--resume")
    if resumed and (other := flag_value(argv, "--run-dir")):
        raise UsageError(f"run_dir={other!r}: a resumed run stays in its own, {resumed!r}")
    if resumed:
        defaults = _of_run(algorithm, suite, Path(resumed))
    else:
        env = flag_value(argv, "--env") or default_env
        defaults = of_preset(algorithm, suite, env, argv, variant)
    flat = lambda kind: Annotated[kind, tyro.conf.arg(name="")]
    parts = ("run", FLAGS[suite], defaults[0]), ("config", algorithm.Config, defaults[1])
    parts += (("hparams", algorithm.HParams, defaults[2]),)
    fields = [(n, flat(kind), dataclasses.field(default=value)) for n, kind, value in parts]
    parser = dataclasses.make_dataclass("Flags", fields, frozen=True)
    summary = (algorithm.__doc__ or "").split("\n")[0]
    parsed = parse_flags(parser, argv, f"{summary} Defaults are those of {defaults[0].env}.")
    name = full_name(parsed.run.env, suite)
    if resumed and name != defaults[0].env:
        raise UsageError(f"env={parsed.run.env!r}: the run in {resumed!r} is on {defaults[0].env}")
    return dataclasses.replace(parsed.run, env=name), parsed.config, parsed.hparams


def suite_of(name: str) -> str:
    """The suite of an environment's full name."""
    return OWN if ":" in name else name.partition("/")[0]


def full_name(env: str, suite: str) -> str:
    """The registered name that `env` means in `suite`.

    Raises:
      UsageError: there is none, it is another suite's, or one of pgx's that cannot be played.
    """
    if suite == OWN:
        return env
    if "/" not in env and f"{suite}/{env}" in envs.registered():
        return f"{suite}/{env}"
    pgx.refuse(env)
    known = [name for name in envs.registered() if name.startswith(f"{suite}/")]
    if env not in known:
        close = " or ".join(nearest(f"{suite}/{env}", known)) or "one of purerl.registered()"
        raise UsageError(f"env={env!r}: no such {suite} environment; did you mean {close}?")
    return env


def of_preset(
    algorithm: ModuleType, suite: str, env: str, argv: list[str], variant: str | None = None
):
    """(run flags, Config, HParams) of an environment's preset."""
    name = full_name(env, suite)
    chosen = preset(variant or algorithm.__name__.rsplit(".", 1)[-1], name)
    of = lambda fields: {k: v for k, v in chosen.items() if k in fields}
    names = [f.name for f in dataclasses.fields(FLAGS[suite])]
    run = FLAGS[suite](**({"env": name, "total_steps": TOTAL_STEPS} | of(names)))
    kwargs = env_kwargs(run)
    for flag in OF_ENV:
        if flag in names and (given := flag_value(argv, f"--{flag.replace('_', '-')}")):
            number = flag in ("episode_length", "action_repeat")
            if given.isdigit() or not number:  # what is no number is refused with the other flags
                kwargs[flag] = int(given) if number else given
    hparams = algorithm.HParams(**of(algorithm.HParams._fields))
    config = algorithm.Config(**of([f.name for f in dataclasses.fields(algorithm.Config)]))
    return run, config, hparams._replace(env_params=dict(envs.make(name, **kwargs).params))


def _of_run(algorithm: ModuleType, suite: str, path: Path):
    """The defaults with which a run is resumed: its own settings."""
    stored = read_config(path)
    if stored["agent"] != algorithm.__name__:
        raise UsageError(f"resume={str(path)!r}: is a run of {stored['agent']}, another algorithm")
    if suite_of(name := stored["env"]["name"]) != suite:
        raise UsageError(f"resume={str(path)!r}: is a run on {name}, not of {suite}")
    if "sweep" not in stored:
        raise UsageError(f"resume={str(path)!r}: was begun by purerl.train, which resumes it")
    if sweep := sweep_of(path):
        raise UsageError(f"resume={str(path)!r}: is a group of a sweep; --resume {sweep}")
    try:
        return _settings_of(algorithm, suite, stored)
    except UsageError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # of another version
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"resume={str(path)!r}: is of another version ({reason})") from None


def _settings_of(algorithm: ModuleType, suite: str, stored: dict[str, Any]):
    """(run flags, Config, HParams) that a config.json describes."""
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


def env_kwargs(flags: RunFlags) -> dict[str, Any]:
    """What `purerl.make` is told besides the name."""
    if isinstance(flags, GameFlags):
        return {"opponent": flags.opponent} if flags.opponent else {}
    if not isinstance(flags, BraxFlags):
        return {}
    kwargs = {"episode_length": flags.episode_length, "action_repeat": flags.action_repeat}
    return kwargs | ({"backend": flags.backend} if flags.backend else {})


def flag_value(argv: list[str], name: str) -> str | None:
    """The value of a flag that decides the others' defaults; of several the last, as tyro does."""
    found = None
    for word, following in itertools.zip_longest(argv, argv[1:]):
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") == name:  # as tyro reads them
            found = value if equals else following
    return found


def with_all(argv: list[str]) -> list[str]:
    """`--data-parallel` without a number means all devices."""
    flag, out = "--data-parallel", []
    for word, following in itertools.zip_longest(argv, argv[1:], fillvalue="--"):
        alone = word.replace("_", "-") == flag and following.startswith("--")
        out += [word, "all"] if alone else [word]
    return out


def command(work: Callable[[list[str]], None], argv: Sequence[str] | None) -> int:
    """Do a command's work -> the exit code: 0, 2 after wrong input and 130 after an interrupt."""
    try:
        work(list(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


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
