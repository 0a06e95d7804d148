"""One run of purerl, as JSON on the last line: `python -m benchmarks.peers.ours TASK`."""

import dataclasses
import importlib
import json
import sys
import time
from typing import Any

import jax

import purerl
from purerl.engine.cohort import Cohort
from purerl.engine.hosts import use_cores
from purerl.engine.placement import place
from purerl.engine.population import population
from purerl.engine.programs import compile_programs, longest_episode

RATES = ("learning_rate", "critic_learning_rate", "actor_learning_rate",
         "temperature_learning_rate")  # fmt: skip


def make(task: dict[str, Any]):
    """(agent, hparams) of a task's settings; one learning rate is that of every network."""
    module = importlib.import_module(f"purerl.agents.{task['algorithm']}")
    settings = dict(task["settings"])
    fields = {field.name for field in dataclasses.fields(module.Config)}
    numbers = set(module.HParams._fields)
    if (rate := settings.get("learning_rate")) is not None and "learning_rate" not in numbers:
        settings |= {name: rate for name in RATES if name in numbers}
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k in fields}
    agent = module.make(purerl.make(task["env"]), module.Config(**config))
    return agent, module.HParams(**{k: v for k, v in settings.items() if k in numbers})


def main(task: dict[str, Any]) -> dict[str, Any]:
    use_cores(alone_on=task["env"])
    agent, hparams = make(task)
    iterations = max(1, task["steps"] // task["chunks"] // agent.steps_per_update)
    where = place(1, cpu_batch=agent.cpu_batch)
    limit = longest_episode(agent.env)
    programs = compile_programs(agent, where, task["episodes"], limit)
    cohort = Cohort(population(hparams, [task["seed"]]), where, programs)
    cohort.evaluate(0)  # so that compiling it is over before the clock starts
    seconds, returns = [], []
    for index in range(task["chunks"]):
        began = time.perf_counter()
        cohort.advance(index * iterations, iterations, task["chunks"] * iterations)
        jax.block_until_ready(cohort.state)
        seconds.append(time.perf_counter() - began)
        found = cohort.evaluate((index + 1) * iterations)
        returns.append(float((found.greedy if task["greedy"] else found.sampled).mean()))
    return {
        "compile_seconds": programs.compile_seconds,
        "chunk_steps": iterations * agent.steps_per_update,
        "chunk_seconds": seconds,
        "returns": returns,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
