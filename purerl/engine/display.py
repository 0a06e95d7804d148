"""What a person sees of a run: a header, a progress line, a closing table."""

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from purerl import envs
from purerl.analysis import Ranked, iqm, summary
from purerl.engine.placement import Placement
from purerl.engine.population import Population
from purerl.engine.programs import Programs
from purerl.engine.record import algorithm_of
from purerl.types import Agent

if TYPE_CHECKING:
    from purerl.engine.result import Result

WIDE = 200  # columns that a table may take where there is no terminal
PACKAGE = str(Path(__file__).parents[1])
PLAIN_SECONDS = 10.0  # between progress lines where there is no terminal


class Display:
    """Prints what happens if `wanted`: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, wanted: bool):
        self._console = wide_console(quiet=not wanted)
        self._bar: Progress | None = None
        self._task: Any = None
        self._total, self._printed = 0, 0.0
        self._score = "none yet"

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def header(
        self, agent: Agent, members: Population, steps: int, place: Placement, path: Path | None
    ) -> None:
        """Before compiling: what will run, on what, and where it is written."""
        self._total = steps
        _, kwargs = envs.spec(agent.env)
        details = "".join(f", {k}={v}" for k, v in kwargs.items())
        name = algorithm_of(agent).rsplit(".", 1)[-1]
        resets = getattr(agent.config, "reset_mode", None)  # a game begins by its own rules
        self._lines(
            ("purerl", f"{name} on {agent.env.name}{details}"),
            ("device", _devices(place)),
            *([("resets", resets)] if resets else []),
            ("members", _members(members, place)),
            ("steps", f"{steps:,} each, {steps * members.size:,} in all"),
            ("run", str(path) if path else "not written"),
        )

    def compiled(self, programs: Programs) -> None:
        """After compiling: how long it took, and how large it is."""
        state, temporary = programs.state_bytes / 1e6, programs.temporary_bytes / 1e6
        self._lines(
            ("parameters", f"{programs.num_params:,} each"),
            ("memory", f"{state:,.1f} MB state + {temporary:,.1f} MB temporary"),
            ("compiled", f"in {programs.compile_seconds:.1f} s"),
        )
        self._printed = time.perf_counter()
        if self._console.is_terminal and not self._console.quiet:
            self._bar = Progress(
                BarColumn(bar_width=24),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()

    def progress(self, steps: int, rate: float, returns: np.ndarray, active: int) -> None:
        """After each chunk: steps of one member, steps/s over all, training returns [M]."""
        known = returns[np.isfinite(returns)]
        if known.size:  # else no episode ended in this chunk
            self._score = f"{iqm(known):.1f}"
        text = f"{steps:,} steps  {rate:,.0f} steps/s  return {self._score}"
        if self._bar:
            with contextlib.suppress(OSError):
                self._bar.update(self._task, completed=steps, description=text)
            return
        now = time.perf_counter()
        if now - self._printed >= PLAIN_SECONDS or steps == self._total:
            self._printed = now
            left = (self._total - steps) * active / rate
            self._print(f"{steps / self._total:4.0%}  {text}  {left:.0f} s left")

    def note(self, text: str) -> None:
        """Something the user should know now."""
        self._print(escape(text))

    def warn(self, text: str) -> None:
        """Something the user must know, so a warning where nothing is printed."""
        if self._console.quiet:
            warnings.warn(text, skip_file_prefixes=(PACKAGE,))
        else:
            self.note(text)

    def result(self, result: "Result") -> None:
        """The closing table."""
        self._stop()
        if result.interrupted:
            self.note(f"interrupted at step {result.steps:,} of {self._total:,}")
        title = f"evaluation after {result.steps:,} steps"
        if result.population.configurations > 1:
            rest = "sweep.csv" if result.run_dir else "result.configurations"
            self._print(sweep_table(title, result.configurations, rest=rest))
        else:
            self._print(evaluation_table(title, result.returns, result.sampled_returns))
        self.note(
            f"{result.steps_per_second:,.0f} steps/s; compile {result.compile_seconds:.1f} s,"
            f" train {result.train_seconds:.1f} s, evaluate {result.evaluate_seconds:.1f} s"
        )
        if result.frozen:
            frozen = ", ".join(str(m) for m in sorted(result.frozen))
            self.note(f"frozen, and not counted above: member {frozen}")
        if result.run_dir:
            self.note(f"written to {result.run_dir}")

    def _lines(self, *rows: tuple[str, str]) -> None:
        for name, text in rows:
            self._print(f"[bold]{name:<10}[/bold]  {escape(text)}")

    def _print(self, what: Any) -> None:
        _printed(self._console, what)

    def _stop(self) -> None:
        if self._bar:
            with contextlib.suppress(OSError):
                self._bar.stop()
            self._bar = None


def _printed(console: Console, what: Any) -> None:
    """A run goes on, and is saved, when nobody reads any more what it prints."""
    try:
        console.print(what)
    except (OSError, SystemExit):  # as rich answers a closed pipe
        console.quiet = True
        _let_go()


def say(text: str) -> None:
    """Print a line, if anybody reads."""
    try:
        print(text, flush=True)
    except OSError:
        _let_go()


def _let_go() -> None:
    """Nor fail at the end, when Python writes what it could not write before."""
    with contextlib.suppress(OSError, ValueError):  # a notebook's output is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def wide_console(quiet: bool = False) -> Console:
    """That of a terminal; elsewhere, such as in a file, tables may be wide."""
    console = Console(quiet=quiet, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    return console


def _devices(place: Placement) -> str:
    device = place.mesh.devices.flat[0]
    kind, platform = device.device_kind, device.platform
    text = kind if kind == platform else f"{kind} ({platform})"
    if place.mesh.size == 1:
        return text
    shared = f", {place.data} to a member" if place.data > 1 else ""
    hosts = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{place.mesh.size} x {text}{shared}{hosts}"


def _members(members: Population, place: Placement) -> str:
    count, text = members.configurations, str(members.size)
    if count > 1:
        fields = " x ".join(members.swept())
        text += f" = {count} configurations ({fields}) x {members.size // count} seeds"
    return text if place.batch == place.local else f"{text}, {place.batch} abreast"


def show_sweep(title: str, ranked: Sequence[Ranked]) -> None:
    """The closing table of a sweep of several programs."""
    _printed(wide_console(), sweep_table(title, ranked))


def sweep_table(
    title: str, ranked: Sequence[Ranked], most: int = 10, rest: str = "sweep.csv"
) -> Table:
    """The best configurations of a sweep, one row each; `rest` says where the others are."""
    table = Table(title=f"{title}, greedy", title_justify="left")
    fields = list(ranked[0].values)
    for column in ("rank", *fields, "return (IQM)", "95 % interval", "seeds", "steps"):
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    for row in ranked[:most]:
        i = row.interval
        reach = _reach(i.low, i.high, i.count)
        score = f"{i.value:.1f}" if i.count else "-"
        numbers = [score, reach, str(i.count), f"{row.steps:,}"]
        table.add_row(str(row.rank), *(str(row.values[f]) for f in fields), *numbers)
    if len(ranked) > most:
        table.caption = f"and {len(ranked) - most} more in {rest}"
    return table


def evaluation_table(title: str, greedy: np.ndarray, sampled: np.ndarray) -> Table:
    """The scores [M] of greedy and of sampled actions, one row each; NaN does not count."""
    table = Table(title=title, title_justify="left")
    for column in ("actions", "return (IQM)", "95 % interval", "median", "min", "max", "seeds"):
        table.add_column(column, justify="left" if column == "actions" else "right")
    for name, returns in (("greedy", greedy), ("sampled", sampled)):
        s = summary(returns)
        numbers = [f"{s[k]:.1f}" for k in ("median", "min", "max")]
        interval = _reach(s["low"], s["high"], s["count"])
        table.add_row(name, f"{s['iqm']:.1f}", interval, *numbers, f"{s['count']:.0f}")
    return table


def _reach(low: float, high: float, count: float) -> str:
    """An interval, which one seed has not."""
    return f"{low:.1f} to {high:.1f}" if count > 1 else "-"
