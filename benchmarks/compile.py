"""How long does a start take? Compile seconds of an experiment, tracing included, as JSON.

    python -m benchmarks compile
    python -m benchmarks compile --agent dqn --env Acrobot-v1
    python -m benchmarks compile --quick                compared with the committed run

Each start is a process of its own: the first with an empty compile cache, the second with what the
first has left there. Medians of several. Results are kept in
benchmarks/results/<device>/compile.json. Quickly: the programs of an agent in this process, again
and again, beside a calibration program that is compiled in turn.
"""

import functools
import statistics
import tempfile
import time

import jax
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import subjects
from benchmarks.arguments import parser, quick, repeats, subject
from benchmarks.quick import Row, run
from benchmarks.records import keep, provenance
from benchmarks.timing import calibration_compile, in_new_process
from purerl.engine.cohort import Cohort
from purerl.engine.placement import place
from purerl.engine.population import population
from purerl.engine.programs import compile_programs

TASKS = [("ppo", "gymnax/CartPole-v1"), ("ppo", "brax/inverted_pendulum")]
QUICK = ("ppo", "dqn")


def starts(command: str, repeats: int) -> dict[str, list[float]]:
    """Compile seconds of first starts, and of those that find the cache of the first."""
    found: dict[str, list[float]] = {"first": [], "cached": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for seconds in found.values():
                seconds.append(in_new_process(command, cache)[0]["compile_seconds"])
    return found


def compiling(agent: str, env: str) -> float:
    """CPU seconds to make an agent and compile its programs for one member, in this process.

    The one for evaluation is compiled behind the others; it is waited for by using it.
    """
    compile_programs.cache_clear()
    jax.clear_caches()
    began = time.process_time()
    made = subjects.make(agent, env)
    where = place(1, 1)
    Cohort(population(made.hparams, 1), where, compile_programs(made, where, 1, 1)).evaluate(0)
    return time.process_time() - began


def use_cache(folder: str | None) -> None:
    """Keep compiled programs there from now on, or nowhere."""
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()


def quick_row(agent: str, env: str, cached: bool, repeats: int = 3) -> Row:
    """CPU seconds of compiling over those of the calibration program, which no cache has.

    Not wall time: an agent's programs compile side by side, on as many cores as others leave.

    With `cached`, of starts that find everything where an earlier one has left it. What only the
    first of all compilations pays, such as imports, is left to the median.
    """
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        if cached:
            use_cache(folder)
            compiling(agent, env)
        for _ in range(repeats):
            use_cache(None)
            unit = calibration_compile()
            use_cache(folder if cached else None)
            ratios.append(round(compiling(agent, env) / unit, 3))
        use_cache(None)
    return Row("compile", ratios)


def main(argv: list[str]) -> int:
    flags = parser("compile", __doc__)
    subject(flags)
    repeats(flags, 3)
    quick(flags)
    given = flags.parse_args(argv)
    if given.quick:
        pairs = subjects.quick_ones(QUICK, given.agent, given.env)
        rows = {
            f"first compile {subjects.name_of(*pair)}": functools.partial(quick_row, *pair, False)
            for pair in pairs
        }
        rows |= {
            f"cached compile {subjects.name_of(*pair)}": functools.partial(quick_row, *pair, True)
            for pair in pairs[:1]
        }
        return run("compile", rows, given.keep)
    tasks = TASKS
    if given.agent or given.env:
        agent = given.agent or "ppo"
        tasks = [(agent, subjects.check(agent, given.env))]
    for agent, env in tasks:
        made = subjects.make(agent, env)
        steps = made.learning_starts + 2 * max(made.steps_per_update, 4096)
        seconds = starts(f"{subjects.experiment(agent, env)} --total-steps {steps}", given.repeats)
        row = {f"{k}_seconds": round(statistics.median(v), 2) for k, v in seconds.items()}
        about = provenance(agent=agent, env=env, total_steps=steps)
        name = subjects.name_of(agent, env)
        keep("compile", name, about | row | {"seconds": seconds})
        print(f"{name}: {row}", flush=True)
    return 0
