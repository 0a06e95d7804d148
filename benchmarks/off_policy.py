"""How fast is learning from replay? DQN beside Rejax, and the replay beside flashbax, as JSON.

    python benchmarks/off_policy.py
    python benchmarks/off_policy.py --rejax DIR         DIR: a checkout of Rejax, beside ours
    python benchmarks/off_policy.py --only dqn | replay

Everything that is compared runs in one process, alternating, and is reported as the median of
several repeats, without compiling. DQN: CartPole, 10 environments, one gradient step of 128 rows
for every step of them, double, 64-64 networks. Results are merged into
benchmarks/results/off_policy.json; `python benchmarks/tables.py` shows them.
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from throughput import alternate

import purerl
from purerl.agents import dqn
from purerl.engine.cohort import Cohort
from purerl.engine.hosts import use_cores
from purerl.engine.placement import place
from purerl.engine.population import population
from purerl.engine.programs import compile_programs
from purerl.replay import Steps, ring

RESULTS = Path(__file__).parent / "results" / "off_policy.json"
NUM_ENVS, BATCH = 10, 128


def our_dqn(members: int, capacity: int, steps: int) -> Callable[[], Any]:
    """A call that trains `members` members for `steps` environment steps each."""
    config = dqn.Config(
        num_envs=NUM_ENVS, batch_size=BATCH, capacity=capacity, activation="swish",
        learning_starts=1000, target_period=1,
    )  # fmt: skip
    agent = dqn.make(purerl.make("gymnax/CartPole-v1"), config)
    where, hparams = place(members), agent.hparams._replace(target_rate=0.01)
    cohort = Cohort(population(hparams, members), where, compile_programs(agent, where, 1, 1))
    iterations = steps // agent.steps_per_update
    cohort.advance(0, iterations, 10**6)  # so that learning has begun
    done = [iterations]

    def call() -> Any:
        done[0] += iterations
        return cohort.advance(done[0], iterations, 10**6)

    return call


def rejax_dqn(members: int, capacity: int, steps: int) -> Callable[[], Any]:
    """A call that runs Rejax's DQN for as many steps, without its evaluations."""
    algorithm = importlib.import_module("rejax.algos").DQN.create(
        env=_Five(), num_envs=NUM_ENVS, buffer_size=capacity, fill_buffer=1000,
        batch_size=BATCH, total_timesteps=10**6, eval_freq=10**6, learning_rate=1e-3,
        max_grad_norm=10.0, num_epochs=1, skip_initial_evaluation=True, ddqn=True,
        target_update_freq=1, polyak=0.99,
    )  # fmt: skip
    keys = jax.random.split(jax.random.PRNGKey(0), members)
    init = algorithm.init_state if members == 1 else jax.vmap(algorithm.init_state)
    states = init(keys[0] if members == 1 else keys)
    states = jax.tree.map(jnp.array, states)  # its target begins as the network, one buffer

    def iterate(state):
        # What `train` runs between two evaluations.
        more = lambda _, state: algorithm.train_iteration(state)
        return jax.lax.fori_loop(0, steps // NUM_ENVS, more, state)

    run = iterate if members == 1 else jax.vmap(iterate)
    compiled = jax.jit(run, donate_argnums=0).lower(states).compile()
    held = [compiled(states)]

    def call() -> Any:
        held[0] = compiled(held[0])
        return held[0]

    return call


class _Five:
    """gymnax's CartPole with the five-valued step of gymnax 0, for which Rejax was written."""

    def __init__(self):
        import gymnax

        self._env, self.default_params = gymnax.make("CartPole-v1")

    def __getattr__(self, name):
        if name == "_env":  # while it is being copied
            raise AttributeError(name)
        return getattr(self._env, name)

    def step(self, key, state, action, params):
        obs, state, reward, terminated, truncated, info = self._env.step(key, state, action, params)
        return obs, state, reward, terminated | truncated, info


def _distrax() -> types.ModuleType:
    """Its EpsilonGreedy: distrax itself does not import under jax 0.11."""

    class EpsilonGreedy:
        def __init__(self, preferences, epsilon):
            greedy = jax.nn.one_hot(preferences.argmax(-1), preferences.shape[-1])
            self.probs = greedy * (1 - epsilon) + epsilon / preferences.shape[-1]

        def sample(self, seed):
            return jax.random.categorical(seed, jnp.log(self.probs))

    module = types.ModuleType("distrax")
    vars(module).update(EpsilonGreedy=EpsilonGreedy)
    return module


def rates(checkout: Path | None, steps: int, repeats: int) -> dict[str, Any]:
    """Environment steps/s over all members, ours and the peer's in turn."""
    out: dict[str, Any] = {}
    for members, capacity in ((1, 10_000), (8, 10_000), (1, 1_000_000)):
        each = steps // members
        calls = {"purerl": our_dqn(members, capacity, each)}
        if checkout:
            peer = each if capacity == 10_000 else each // 20  # it is that slow
            calls["rejax"] = rejax_dqn(members, capacity, peer)
        seconds = alternate(calls, repeats)
        done = {"purerl": members * each, "rejax": members * (each if capacity == 10_000 else peer)}
        speed = {name: done[name] / statistics.median(t) for name, t in seconds.items()}
        row: dict[str, Any] = {f"{k}_steps_per_second": round(v) for k, v in speed.items()}
        row["seconds"] = {k: [round(t, 4) for t in v] for k, v in seconds.items()}
        if checkout:
            row["ratio"] = round(speed["purerl"] / speed["rejax"], 2)
        out[f"members_{members}_capacity_{capacity}"] = row
        shown = ", ".join(f"{k} {v}" for k, v in row.items() if k != "seconds")
        print(f"DQN, {members} members, capacity {capacity:,}: {shown}", flush=True)
    return out


def replay(capacity: int, repeats: int, calls_each: int = 2000) -> dict[str, Any]:
    """Microseconds of an insert and of a sample of 256 transitions, ours and flashbax's in turn."""
    import flashbax

    envs, batch = 16, 256
    obs, key = jnp.zeros(8), jax.random.key(0)
    flag, number = jnp.zeros((), bool), jnp.float32(0)
    buffer = ring.init(Steps(obs, jnp.int32(0), number, flag, flag), envs, capacity, 1000)
    row = Steps(obs, jnp.int32(0), number, flag, flag)
    block = jax.tree.map(lambda x: jnp.zeros((1, envs, *x.shape), x.dtype), row)
    finals = jnp.zeros((1, envs, 8))
    theirs = flashbax.make_flat_buffer(
        max_length=capacity, min_length=batch, sample_batch_size=batch, add_batch_size=envs
    )
    item = {"obs": obs, "action": jnp.int32(0), "reward": number, "done": flag}
    state = theirs.init(item)
    items = jax.tree.map(lambda x: jnp.zeros((envs, *x.shape), x.dtype), item)

    def checksum(tree: Any) -> jax.Array:
        sums = [jnp.sum(x).astype(jnp.float32) for x in jax.tree.leaves(tree)]
        return jnp.stack(sums).sum()

    # Loops inside of one program, as training has them; results are used, so nothing is left out.
    def our_insert(buffer):
        insert = lambda i, b: ring.insert(b, i, block, finals)
        return jax.lax.fori_loop(0, calls_each, insert, buffer)

    # Both draw what they can before the loop: we all numbers, flashbax its keys.
    def our_sample(buffer, key):
        def one(total, numbers):
            index = ring.uniform(numbers, buffer, jnp.int32(10**6), 1)
            return total + checksum(ring.transitions(buffer, index, 1, 0.99)), ()

        numbers = jax.random.bits(key, (calls_each, batch))
        return jax.lax.scan(one, jnp.float32(0), numbers)[0]

    def their_insert(state):
        return jax.lax.fori_loop(0, calls_each, lambda i, s: theirs.add(s, items), state)

    def their_sample(state, key):
        def one(total, key):
            return total + checksum(theirs.sample(state, key).experience), ()

        return jax.lax.scan(one, jnp.float32(0), jax.random.split(key, calls_each))[0]

    held = {"ours": buffer, "theirs": state}
    inserts = {"ours": our_insert, "theirs": their_insert}
    inserts = {k: jax.jit(f, donate_argnums=0).lower(held[k]).compile() for k, f in inserts.items()}
    samples = {"ours": our_sample, "theirs": their_sample}
    samples = {k: jax.jit(f).lower(held[k], key).compile() for k, f in samples.items()}

    def insert(name: str) -> Any:
        held[name] = inserts[name](held[name])
        return held[name]

    out: dict[str, Any] = {"capacity": capacity, "envs": envs, "batch": batch}
    for kind, calls in (
        ("insert", {name: lambda n=name: insert(n) for name in held}),
        ("sample", {name: lambda n=name: samples[n](held[n], key) for name in held}),
    ):
        seconds = alternate(calls, repeats)
        micro = {k: statistics.median(t) / calls_each * 1e6 for k, t in seconds.items()}
        out[kind] = {
            "purerl_us": round(micro["ours"], 2),
            "flashbax_us": round(micro["theirs"], 2),
            "ratio": round(micro["theirs"] / micro["ours"], 2),
        }
        print(f"{kind} at capacity {capacity:,}: {out[kind]}", flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rejax", type=Path, help="a checkout of Rejax to run beside ours")
    parser.add_argument("--only", choices=["dqn", "replay"])
    parser.add_argument("--steps", type=int, default=160_000, help="a repeat, over all members")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    use_cores()
    if given.rejax:
        sys.modules["distrax"] = _distrax()
        sys.path.insert(0, str(given.rejax / "src"))
    device = jax.devices()[0]
    entry: dict[str, Any] = {"cores": os.cpu_count(), "jax": jax.__version__}
    entry["date"] = time.strftime("%Y-%m-%d")
    if given.only in (None, "dqn"):
        entry["dqn"] = rates(given.rejax, given.steps, given.repeats)
    if given.only in (None, "replay"):
        entry["replay"] = [replay(n, given.repeats) for n in (10_000, 1_000_000)]
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[device.device_kind] = known.get(device.device_kind, {}) | entry
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
