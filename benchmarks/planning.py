"""How fast is planning? Simulations/s while MuZero acts, beside bare mctx, as JSON.

    python -m benchmarks planning

Bare: mctx's Gumbel search on one batch of observations again and again, with the same network.
Ours: environments stepped with such searches, their steps inserted into the replay, nothing learnt
yet. Both in one process, alternating, the median of several repeats, without compiling. Results are
kept in benchmarks/results/<device>/planning.json.
"""

import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import mctx

import purerl
from benchmarks.arguments import parser, repeats
from benchmarks.records import keep, provenance
from benchmarks.timing import alternate
from purerl.agents import muzero
from purerl.engine.cohort import Cohort
from purerl.engine.placement import place
from purerl.engine.population import population
from purerl.engine.programs import compile_programs, cpu_options
from purerl.networks import muzero_model
from purerl.ops import two_hot
from purerl.ops.search import outcome

ITERATIONS = 20


def bare(env: Any, config: muzero.Config, discount: float):
    """A call of as many searches as `ours` makes, with nothing around them."""
    model = muzero_model(
        env.observation_space, env.action_space.n, atoms=config.atoms,
        latent_size=config.latent_size, torso=config.torso, hidden_sizes=config.hidden_sizes,
    )  # fmt: skip
    atoms = two_hot.support(config.v_min, config.v_max, config.atoms)
    scale = config.value_scale / (config.v_max - config.v_min)
    params = model.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (config.num_envs, *env.observation_space.shape))

    def recurrent(params, key, action, latent) -> Any:
        latent, reward = model.dynamics(params, latent, action)
        logits, value = model.predict(params, latent)
        reward = two_hot.decode(reward, atoms)
        value = two_hot.decode(value, atoms)
        return outcome(reward, jnp.full_like(reward, discount), logits, value), latent

    def search(total, key):
        latent = model.represent(params, obs + total)
        logits, value = model.predict(params, latent)
        kind: Any = mctx.RootFnOutput  # a dataclass of chex, which type checkers do not see
        root = kind(prior_logits=logits, value=two_hot.decode(value, atoms), embedding=latent)
        found = mctx.gumbel_muzero_policy(
            params, key, root, recurrent, config.num_simulations,
            qtransform=functools.partial(
                mctx.qtransform_completed_by_mix_value, value_scale=scale, rescale_values=False
            ),
        )  # fmt: skip
        return 1e-9 * found.action.sum(), ()

    # Bits, as `ops.search.plan` gives them to mctx.
    keys = jax.random.key_data(jax.random.split(jax.random.key(2), ITERATIONS * config.num_rounds))
    run = jax.jit(lambda keys: jax.lax.scan(search, jnp.float32(0), keys)[0])
    compiled = run.lower(keys).compile(cpu_options(2))
    return lambda: compiled(keys)


def ours(agent: Any):
    """A call of ITERATIONS iterations in which nothing is learnt yet."""
    where = place(1, devices=1)
    cohort = Cohort(population(agent.hparams, 1), where, compile_programs(agent, where, 1, 1))
    done = [0]

    def call() -> Any:
        began, done[0] = done[0], done[0] + ITERATIONS
        return cohort.advance(began, ITERATIONS, 10**6)

    return call


def main(argv: list[str]) -> int:
    flags = parser("planning", __doc__)
    repeats(flags, 5)
    given = flags.parse_args(argv)
    env = purerl.make("gymnax/CartPole-v1")
    for num_envs in (32, 256):
        config = muzero.Config(num_envs=num_envs, capacity=400 * num_envs, learning_starts=10**9)
        agent = muzero.make(env, config)
        calls = {"purerl": ours(agent), "mctx": bare(env, config, agent.hparams.discount)}
        seconds = alternate(calls, given.repeats)
        steps = ITERATIONS * config.num_rounds * num_envs
        speed = {
            name: steps * config.num_simulations / statistics.median(t)
            for name, t in seconds.items()
        }
        found = {
            **{f"{name}_simulations_per_second": round(x) for name, x in speed.items()},
            "ratio": round(speed["purerl"] / speed["mctx"], 3),
            "seconds": {name: [round(x, 4) for x in t] for name, t in seconds.items()},
        }
        about = provenance(agent="muzero", env="gymnax/CartPole-v1", num_envs=num_envs)
        keep("planning", f"muzero-CartPole-v1-{num_envs}", about | found)
        print(f"{num_envs} environments: {found}", flush=True)
    return 0
