"""Compare finished runs: `python -m purerl.compare RUN_DIR RUN_DIR ...`. Axes: M members."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table

from purerl.analysis import Curve, plot_comparison, probability_of_improvement, summary
from purerl.engine.display import wide_console
from purerl.engine.record import differences, read_config, read_metric
from purerl.errors import UsageError
from purerl.flags import command, parse_flags


@dataclasses.dataclass(frozen=True)
class Flags:
    """What is compared, and where the picture is written."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The directories of two runs or more, each of one configuration; the first is the measure."""
    metric: str = "eval/return"
    """What is compared; larger is better."""
    output: Path | None = None
    """A PNG of the curves; by default none."""


def compare(
    run_dirs: Sequence[str | Path],
    metric: str = "eval/return",
    output: str | Path | None = None,
) -> dict[str, Curve]:
    """The curves of runs by their directories' names, drawn into `output` if that is given.

    Raises:
      UsageError: fewer than two runs, no run, a sweep, runs on several environments, or a metric
        or a file that cannot be.
    """
    paths = [Path(path) for path in run_dirs]
    if len(set(paths)) < max(2, len(paths)):
        raise UsageError(f"run_dirs={list(map(str, paths))}: must be two runs or more, each once")
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = list(map(str, paths))
    worlds = [_world(path) for path in paths]
    for path, world in zip(paths, worlds, strict=True):
        if wrong := differences(worlds[0], world):
            said = "; ".join(wrong).replace("the run has", f"{names[0]} has")
            raise UsageError(f"run_dir={str(path)!r}: is on another environment: {said}")
    curves = {n: Curve(*read_metric(p, metric)) for n, p in zip(names, paths, strict=True)}
    if output is not None:
        path = Path(output)
        if path.suffix != ".png" or not path.parent.is_dir():
            raise UsageError(f"output={str(path)!r}: must be a .png in a directory that exists")
        try:
            plot_comparison(path, curves, worlds[0]["env"]["name"], metric)
        except OSError as error:
            said = f"cannot be written: {error.strerror}"
            raise UsageError(f"output={str(path)!r}: {said}") from None
    return curves


def _world(run_dir: Path) -> dict[str, Any]:
    """The environment and its parameters, of a run of one configuration."""
    config = read_config(run_dir)
    params = config["hparams"].get("env_params", {})
    every = config["hparams"] | params
    swept = [name for name, value in every.items() if isinstance(value, list)]
    if swept or "groups" in config:
        said = f"sweeps {', '.join(swept)}" if swept else "is a sweep"
        raise UsageError(f"run_dir={str(run_dir)!r}: {said}; sweep.csv ranks its configurations")
    return {"env": config["env"], "env_params": params}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; for the exit code see `purerl.flags.command`."""
    return command(_compare, argv)


def _compare(argv: list[str]) -> None:
    about = "Compare runs by their last values of a metric, over seeds."
    flags = parse_flags(Flags, argv, about, prog="python -m purerl.compare")
    curves = compare(flags.run_dirs, flags.metric, flags.output)
    wide_console().print(comparison_table(flags.metric, curves))
    if flags.output:
        print(f"written to {flags.output}")


def comparison_table(metric: str, curves: dict[str, Curve]) -> Table:
    """The last values [M] of each run, and how likely one of its is above one of the first's."""
    first, *_ = curves
    table = Table(title=f"{metric}, last values", title_justify="left")
    columns = "run", "steps", "IQM", "95 % interval", "seeds", f"P(above {first})", "95 % interval"
    for column in columns:
        table.add_column(column, justify="left" if column == "run" else "right")
    last = {name: np.asarray(curve.values)[-1] for name, curve in curves.items()}
    for name, values in last.items():
        s = summary(values)
        row = [name, f"{int(curves[name].at[-1]):,}", f"{s['iqm']:.4g}"]
        row += [f"{s['low']:.4g} to {s['high']:.4g}" if s["count"] > 1 else "-", str(s["count"])]
        if name != first:
            better = probability_of_improvement(values, last[first])
            row += [f"{better.value:.2f}", f"{better.low:.2f} to {better.high:.2f}"]
        table.add_row(*row)
    return table


if __name__ == "__main__":
    sys.exit(main())
