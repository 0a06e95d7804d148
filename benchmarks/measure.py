"""What one row of `python -m benchmarks gpu` measures, in this process, as lines of JSON.

A line is printed as soon as it is known, so that a row that is cut off keeps what it has.
"""

import contextlib
import dataclasses
import importlib
import json
import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.records import ROOT, provenance

REPEATS = 5
SECONDS = 1.0  # of one repeat, about
EVALUATIONS = 20  # on the way to a score
# With --quick: every algorithm's loops with little in them, and a body that compiles sooner.
TINY_ENV = {"brax/ant": "brax/inverted_pendulum"}
TINY: dict[str, dict[str, Any]] = {
    "ppo": {"num_envs": 8, "unroll_length": 16, "num_minibatches": 2, "num_epochs": 1},
    "dqn": {"num_envs": 4, "num_rounds": 8, "capacity": 256, "learning_starts": 32},
    "sac": {"num_envs": 4, "num_rounds": 8, "capacity": 256, "learning_starts": 32,
            "batch_size": 16, "hidden_sizes": (16, 16)},
    "muzero": {"num_envs": 4, "num_rounds": 4, "capacity": 256, "learning_starts": 64,
               "batch_size": 8, "num_simulations": 2, "n_step": 3},
}  # fmt: skip
TINY_MEMBERS, TINY_STEPS, TINY_SECONDS = 2, 2_048, 0.1


def say(**known: Any) -> None:
    """One line."""
    print(json.dumps(known), flush=True)


def train(job: dict[str, Any]) -> None:
    """Compile, run, and train to the score if there is one."""
    from purerl.engine.cohort import Cohort
    from purerl.engine.placement import place
    from purerl.engine.population import population
    from purerl.engine.programs import compile_programs, longest_episode

    agent, hparams, settings, members = prepare(job)
    say(**provenance(**settings))
    where = place(members, cpu_batch=agent.cpu_batch)
    limit = longest_episode(agent.env)
    evaluated = (1, 1) if job["score"] is None else (8, limit)
    programs = compile_programs(agent, where, *evaluated)
    cohort = Cohort(population(hparams, members), where, programs)
    say(
        compile_seconds=round(programs.compile_seconds, 2),
        estimated_mb=round((programs.state_bytes + programs.temporary_bytes) / 1e6),
    )
    cohort.evaluate(0)  # compiled in the background: that is not to be timed
    unit, seconds, target = agent.steps_per_update, [], TINY_SECONDS if job["quick"] else SECONDS
    step = agent.learning_starts // unit + 1
    run(cohort, 0, step)
    count = max(1, min(200, round(target / max(run(cohort, step, 1), 1e-6))))
    step += 1
    trace = traced(job["profile"])
    for repeat in range(REPEATS):
        with trace if repeat == REPEATS - 1 else contextlib.nullcontext():
            seconds.append(run(cohort, step, count))
        step += count
        say(
            steps_per_second=round(members * count * unit / statistics.median(seconds)),
            seconds=[round(x, 4) for x in seconds],
            iterations=count,
            **peak(),
        )
    if job["score"] is not None:
        del cohort
        fresh = Cohort(population(hparams, members), where, programs)
        for score in to_score(fresh, job["score"], settings["total_steps"], unit):
            say(score=score)


def prepare(job: dict[str, Any]) -> tuple[Any, Any, dict[str, Any], int]:
    """(agent, its HParams, all settings, members) of a row: the preset, then the row's own."""
    import purerl
    from purerl.presets import preset

    module = importlib.import_module(f"purerl.agents.{job['agent']}")
    env: str = job["env"]
    members: int = job["members"]
    settings = preset(job["agent"], env) | job["settings"]
    if job["quick"]:
        env = TINY_ENV.get(env) or env
        settings |= TINY[job["agent"]] | {"total_steps": TINY_STEPS}
        members = min(members, TINY_MEMBERS)
    fields = {f.name for f in dataclasses.fields(module.Config)}
    tuples = lambda x: tuple(x) if isinstance(x, list) else x
    config = module.Config(**{k: tuples(v) for k, v in settings.items() if k in fields})
    numbers = {k: v for k, v in settings.items() if k in module.HParams._fields}
    agent = module.make(purerl.make(env), config)
    about = {"agent": job["agent"], "env": env, "members": members, "flags": job["flags"]}
    return agent, module.HParams(**numbers), about | settings, members


def run(cohort: Any, step: int, count: int, total: int = 10**6) -> float:
    """Seconds of so many iterations."""
    import jax

    began = time.perf_counter()
    jax.block_until_ready(cohort.advance(step, count, total))
    return time.perf_counter() - began


def to_score(cohort: Any, wanted: float, total_steps: int, unit: int) -> Iterator[dict[str, Any]]:
    """Train until the greedy return reaches what is wanted; how far it is, after each evaluation.

    Seconds are of training alone.
    """
    from purerl.analysis.intervals import iqm

    total = max(EVALUATIONS, total_steps // unit)
    count, step, seconds, curve = total // EVALUATIONS, 0, 0.0, []
    reached = False
    while step < total and not reached:
        now = min(count, total - step)
        seconds += run(cohort, step, now, total)
        step += now
        value = float(iqm(cohort.evaluate(step).greedy.mean(1)))
        known = math.isfinite(value)  # brax may compute NaN
        curve.append([step * unit, round(seconds, 2), round(value, 2) if known else None])
        reached = known and value >= wanted
        yield {
            "wanted": wanted,
            "seconds": round(seconds, 2) if reached else None,
            "steps": step * unit,
            "curve": list(curve),  # of [steps of a member, seconds, greedy return]
        }


def peak() -> dict[str, Any]:
    """MB: of the device, where it tells, and of this process."""
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    on_device = stats.get("peak_bytes_in_use")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_device_mb": on_device and round(on_device / 1e6), "peak_mb": round(used)}


def traced(directory: str | None) -> Any:
    """A context that writes a trace, to be read by TensorBoard or Perfetto."""
    import jax

    return jax.profiler.trace(directory) if directory else contextlib.nullcontext()


def tests(job: dict[str, Any]) -> None:
    """The tests marked gpu, in this process; with --quick on a CPU too."""
    import pytest

    files = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in p.read_text()]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        words = ["-o", "addopts=", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        words += [f"--junit-xml={report}", *map(str, files)]
        with contextlib.redirect_stdout(sys.stderr):
            status = pytest.main(words + (["--on-cpu"] if job["quick"] else []))
        found = ElementTree.parse(report).getroot().iter("testcase")
        ends = {case.get("name", "?"): {child.tag for child in case} for case in found}
    say(
        **provenance(),
        passed=sum(not ended & {"failure", "error", "skipped"} for ended in ends.values()),
        skipped=[name for name, ended in ends.items() if "skipped" in ended],
        failures=[name for name, ended in ends.items() if ended & {"failure", "error"}],
    )
    sys.exit(int(status))


def brax(job: dict[str, Any]) -> None:
    from benchmarks import brax_ppo

    brax_ppo.compare(job)


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    {"train": train, "tests": tests, "brax": brax}[job["what"]](job)
