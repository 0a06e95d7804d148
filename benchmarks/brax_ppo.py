"""Many seeds of PPO in one program, beside brax's own PPO, one seed after another.

The same environment and physics, the same networks, batches and gradient steps, and the same steps
for each seed. Times are of training alone: every program has run once before it is timed.
"""

import contextlib
import functools
import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import peak, prepare, run, say, traced
from benchmarks.records import provenance

SEEDS = 8  # of brax
ITERATIONS = 3  # that are timed, of 327,680 steps each, unless quick
EPOCHS = 3  # of brax, each of all iterations; two begin with compiling, as the second's arrays lie
# where the first has put them
REMOVED = "device_put_replicated"  # brax 0.14.2 calls it, jax 0.11 has it no more
UNROLL = 5  # steps of brax's rows, as in its notebook; ours are single steps
AIM = 1.3  # our seconds for all seeds, in brax's for 8 of them


def compare(job: dict[str, Any]) -> None:
    """Ours, then brax's."""
    from purerl.engine.cohort import Cohort
    from purerl.engine.placement import place
    from purerl.engine.population import population
    from purerl.engine.programs import compile_programs

    iterations, seeds = (1, 2) if job["quick"] else (ITERATIONS, SEEDS)
    agent, hparams, settings, members = prepare(job)
    say(**provenance(**settings), aim=AIM, steps_per_seed=iterations * agent.steps_per_update)
    where = place(members, 1, cpu_batch=agent.cpu_batch)
    programs = compile_programs(agent, where, 1, 1)
    cohort = Cohort(population(hparams, members), where, programs)
    cohort.evaluate(0)  # compiled in the background: that is not to be timed
    run(cohort, 0, 1)
    with traced(job["profile"]):
        ours = run(cohort, 1, iterations)
    say(
        compile_seconds=round(programs.compile_seconds, 2),
        steps_per_second=round(members * iterations * agent.steps_per_update / ours),
        seconds=round(ours, 3),
        **peak(),
    )
    del cohort, programs
    compile_programs.cache_clear()

    # Brax compiles for every seed anew what is the same program; the second time it is found here.
    with _kept():
        theirs: list[float] = []
        for seed in range(seeds):
            first, then = train_brax(settings, agent.steps_per_update, iterations, seed)
            theirs.append(then)
            one = ours / statistics.median(theirs)
            say(
                brax_seconds=[round(x, 3) for x in theirs],
                brax_steps_per_second=round(
                    iterations * agent.steps_per_update / statistics.median(theirs)
                ),
                ratio_to_eight=round(one / 8, 3),  # ours for all seeds, by brax's for 8
                ratio_per_seed=round(one / members, 3),  # ours for one of the seeds, by brax's
                **({"brax_first_seconds": round(first, 2)} if seed == 0 else {}),
            )


def train_brax(
    settings: dict[str, Any], steps: int, iterations: int, seed: int
) -> tuple[float, float]:
    """Seconds of brax's PPO for `iterations` of so many steps: with compiling, and without."""
    from brax import envs
    from brax.training.agents.ppo import networks
    from brax.training.agents.ppo import train as ppo

    unroll = UNROLL if settings["unroll_length"] % UNROLL == 0 else settings["unroll_length"]
    rows = steps // unroll // settings["num_minibatches"]
    walls: list[float] = []
    if not hasattr(jax, REMOVED):
        setattr(jax, REMOVED, _replicated)
    ppo.train(
        environment=envs.get_environment(settings["env"].split("/")[1], backend="spring"),
        num_timesteps=EPOCHS * iterations * steps,
        num_evals=EPOCHS + 1,
        run_evals=False,
        episode_length=1000,
        num_envs=settings["num_envs"],
        unroll_length=unroll,
        batch_size=rows,
        num_minibatches=settings["num_minibatches"],
        num_updates_per_batch=settings["num_epochs"],
        normalize_observations=settings["normalize_obs"],
        learning_rate=settings["learning_rate"],
        entropy_cost=settings["entropy_coef"],
        discounting=settings["discount"],
        reward_scaling=settings["reward_scale"],
        clipping_epsilon=settings["clip_eps"],
        network_factory=functools.partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=tuple(settings["hidden_sizes"]),
            value_hidden_layer_sizes=tuple(settings["hidden_sizes"]),
        ),
        max_devices_per_host=1,
        seed=seed,
        progress_fn=lambda _, metrics: walls.append(float(metrics["training/walltime"])),
    )
    return walls[0], walls[-1] - walls[-2]


def _replicated(tree: Any, devices: Any) -> Any:
    """Leaves with a first axis of devices, which pmap spreads."""
    return jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Compiled programs are kept in a directory of their own for as long as this lasts."""
    with tempfile.TemporaryDirectory() as directory:
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        try:
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", None)
