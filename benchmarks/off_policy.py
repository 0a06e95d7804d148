"""How fast is learning from replay? DQN and SAC beside Rejax, replay beside flashbax, as JSON.

    python -m benchmarks off_policy
    python -m benchmarks off_policy --rejax DIR         DIR: a checkout of Rejax, beside ours
    python -m benchmarks off_policy --only dqn | sac | replay

What is compared runs in turn, and is reported as the median of several repeats, without compiling.
DQN and SAC have a process for each side, so that each has the devices and threads it would have:
ours as experiments do (a device for each core; for one member one, and a thread less), Rejax as JAX
does (one device, whose threads use all cores). DQN: CartPole, 10 environments, one gradient step
of 128 rows for every step of them, double, 64-64 networks. SAC: Pendulum, one environment, one
gradient step of 256 rows for every step of it, 64-64 networks; its limit is a loop of the matrix
products of such a gradient step, forward and backward, and of nothing else. Results are kept in
benchmarks/results/<device>/off_policy.json.
"""

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import purerl
from benchmarks import subjects
from benchmarks.arguments import checkout_has, known, parser, repeats
from benchmarks.records import ROOT, keep, provenance
from benchmarks.timing import alternate
from purerl.agents import dqn, sac
from purerl.engine.hosts import use_cores
from purerl.engine.programs import EPISODES
from purerl.errors import UsageError
from purerl.ops.linear import linear, project
from purerl.replay import Steps, priorities, ring
from purerl.spaces import Box
from purerl.types import Agent, TrainState

NUM_ENVS, BATCH = 10, 128


type Timed = tuple[Callable[[], Any], int]
"""A call that trains on, and how many environment steps of all members together it makes."""


def our(agent: Agent, members: int, steps: int, **hparams: float) -> Timed:
    """Of `members` members on all devices that find work, for at least `steps` steps each."""
    agent = dataclasses.replace(agent, hparams=agent.hparams._replace(**hparams))
    return subjects.training(agent, members, steps, min(members, jax.device_count()))


def rejax(name: str, members: int, steps: int, **settings: Any) -> Timed:
    """One of Rejax's algorithms for `steps` steps of each member, without its evaluations."""
    algorithm = getattr(importlib.import_module("rejax.algos"), name).create(
        total_timesteps=10**6, eval_freq=10**6, skip_initial_evaluation=True, num_epochs=1,
        target_update_freq=1, learning_rate=1e-3, **settings,
    )  # fmt: skip
    iterations = steps // settings["num_envs"]
    keys = jax.random.split(jax.random.PRNGKey(0), members)
    init = algorithm.init_state if members == 1 else jax.vmap(algorithm.init_state)
    states = init(keys[0] if members == 1 else keys)
    states = jax.tree.map(jnp.array, states)  # its target begins as the network, one buffer

    def iterate(state):
        # What `train` runs between two evaluations.
        more = lambda _, state: algorithm.train_iteration(state)
        return jax.lax.fori_loop(0, iterations, more, state)

    run = iterate if members == 1 else jax.vmap(iterate)
    compiled = jax.jit(run, donate_argnums=0).lower(states).compile()
    held = [compiled(states)]

    def call() -> Any:
        held[0] = compiled(held[0])
        return held[0]

    return call, members * iterations * settings["num_envs"]


def our_dqn(members: int, capacity: int, steps: int) -> Timed:
    """Ten environments, one gradient step of 128 rows for every step of them."""
    config = dqn.Config(
        num_envs=NUM_ENVS, batch_size=BATCH, capacity=capacity, activation="swish",
        learning_starts=1000, target_period=1,
    )  # fmt: skip
    agent = dqn.make(purerl.make("gymnax/CartPole-v1"), config)
    return our(agent, members, steps, target_rate=0.01)


def rejax_dqn(members: int, capacity: int, steps: int) -> Timed:
    return rejax(
        "DQN", members, steps, env=_Five("CartPole-v1"), num_envs=NUM_ENVS, buffer_size=capacity,
        fill_buffer=1000, batch_size=BATCH, max_grad_norm=10.0, ddqn=True, polyak=0.99,
    )  # fmt: skip


SAC = sac.Config(
    num_envs=1, batch_size=256, capacity=10_048, activation="swish", hidden_sizes=(64, 64),
    learning_starts=256,
)  # fmt: skip


def our_sac(members: int, steps: int) -> Timed:
    """One environment, one gradient step of 256 rows for every step of it; Rejax's networks."""
    return our(sac.make(purerl.make("gymnax/Pendulum-v1"), SAC), members, steps)


def sac_products(members: int, steps: int) -> Timed:
    """As many gradient steps as `our_sac` takes, of which only the matrix products are left.

    Each kernel becomes its own gradient: so all are wanted, and none can be moved out of the loop.
    """
    env = purerl.make("gymnax/Pendulum-v1")
    agent = sac.make(env, SAC)
    seen, space = env.observation_space, env.action_space
    assert isinstance(seen, Box)
    assert isinstance(space, Box)
    inputs, size = seen.low.size, space.low.size

    def kernels(inputs: int, outputs: int) -> list[jax.Array]:
        # Of zeros, which take as long as other numbers and never overflow.
        sizes = [inputs, *SAC.hidden_sizes]
        layers = [jnp.zeros(shape) for shape in itertools.pairwise(sizes)]
        return [*layers, jnp.zeros((outputs, sizes[-1]))]

    def tower(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
        for kernel in kernels[:-1]:  # barriers, or with nothing between they may be reassociated
            x = jax.lax.optimization_barrier(linear(x, kernel))
        return project(x, kernels[-1])

    def policy(actor: list[jax.Array], obs: jax.Array) -> jax.Array:
        mean, spread = jnp.split(tower(actor, obs), 2, -1)
        return mean + spread  # [N, A], for which both are wanted

    def values(critics: list[jax.Array], obs: jax.Array, action: jax.Array) -> jax.Array:
        return jax.vmap(tower, (0, None))(critics, jnp.concatenate([obs, action], -1))

    def step(learner: Any, obs: jax.Array, following: jax.Array):
        actor, critics, target = learner
        goal = values(target, following, policy(actor, following))
        value, pull = jax.vjp(lambda c: values(c, obs, obs[:, :size]), critics)
        (moved,) = pull(value - goal)  # so the backward pass waits for the goal, as ours does
        value, pull = jax.vjp(lambda a: values(moved, obs, policy(a, obs)), actor)
        return *pull(value), moved, moved

    def init(key: Any, hparams: Any) -> TrainState:
        critics = jax.vmap(lambda _: kernels(inputs + size, 1))(jnp.arange(SAC.num_critics))
        learner = kernels(inputs, 2 * size), critics, jax.tree.map(jnp.copy, critics)
        # Observations that the compiler does not know, in front of them an axis of one environment.
        return TrainState(learner, jax.random.normal(key, (1, 2, SAC.batch_size, inputs)))

    def update(key: Any, state: TrainState, hparams: Any, clock: Any):
        one = lambda learner, _: (step(learner, *state.actor[0]), None)
        learner, _ = jax.lax.scan(one, state.learner, length=SAC.num_rounds)
        return TrainState(learner, state.actor), dict.fromkeys(EPISODES, jnp.float32(0))

    def act(key: Any, learner: Any, carry: Any, obs: jax.Array, greedy: bool):
        return jnp.zeros((obs.shape[0], size)), carry

    return our(dataclasses.replace(agent, init=init, update=update, act=act), members, steps)


def rejax_sac(members: int, steps: int) -> Timed:
    return rejax(
        "SAC", members, steps, env=_Five("Pendulum-v1"), num_envs=1, buffer_size=10_000,
        fill_buffer=256, batch_size=256, polyak=0.995, max_grad_norm=10.0,
        agent_kwargs={"activation": "swish"},
    )  # fmt: skip


class _Five:
    """A gymnax environment with the five-valued step of gymnax 0, for which Rejax was written."""

    def __init__(self, name: str):
        import gymnax

        self._env, self.default_params = gymnax.make(name)

    def __getattr__(self, name):
        if name == "_env":  # while it is being copied
            raise AttributeError(name)
        return getattr(self._env, name)

    def step(self, key, state, action, params):
        obs, state, reward, terminated, truncated, info = self._env.step(key, state, action, params)
        return obs, state, reward, terminated | truncated, info


def _distrax() -> types.ModuleType:
    """What Rejax's DQN and SAC use of it: distrax itself does not import under jax 0.11."""

    class EpsilonGreedy:
        def __init__(self, preferences, epsilon):
            greedy = jax.nn.one_hot(preferences.argmax(-1), preferences.shape[-1])
            self.probs = greedy * (1 - epsilon) + epsilon / preferences.shape[-1]

        def sample(self, seed):
            return jax.random.categorical(seed, jnp.log(self.probs))

    class MultivariateNormalDiag:
        def __init__(self, loc, scale_diag):
            self.loc, self.scale = loc, scale_diag

        def sample(self, seed):
            return self.loc + self.scale * jax.random.normal(seed, self.loc.shape)

        def log_prob(self, x):
            return jax.scipy.stats.norm.logpdf(x, self.loc, self.scale).sum(-1)

    class Tanh:
        def forward_and_log_det(self, x):
            return jnp.tanh(x), 2.0 * (jnp.log(2.0) - x - jax.nn.softplus(-2.0 * x))

    module = types.ModuleType("distrax")
    vars(module).update(
        EpsilonGreedy=EpsilonGreedy, MultivariateNormalDiag=MultivariateNormalDiag, Tanh=Tanh
    )
    return module


MAKERS: dict[str, Callable[..., Timed]] = {
    "purerl-dqn": our_dqn,
    "rejax-dqn": rejax_dqn,
    "purerl-sac": our_sac,
    "rejax-sac": rejax_sac,
    "products-sac": sac_products,
}


def serve(name: str, members: int, *numbers: int) -> None:
    """Time a call for every line that is read; first say how many steps it makes."""
    if name.startswith("rejax"):
        sys.modules["distrax"] = _distrax()
    else:
        use_cores(alone_on="gymnax/CartPole-v1" if members == 1 else None)  # or one like it
    call, steps = MAKERS[name](members, *numbers)
    jax.block_until_ready(call())
    print(steps, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        jax.block_until_ready(call())
        print(time.perf_counter() - began, flush=True)


@contextlib.contextmanager
def served(checkout: Path | None, name: str, numbers: tuple[int, ...]) -> Iterator[Timed]:
    """A call in a process of its own, whose seconds it returns, and how many steps it makes."""
    words = [sys.executable, "-m", "benchmarks", "off_policy", "--serve", name, *map(str, numbers)]
    words += ["--rejax", str(checkout.resolve())] if checkout else []
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, text=True, stdin=pipe, stdout=pipe) as child:
        assert child.stdin
        assert child.stdout
        told, answers = child.stdin, child.stdout

        def answer() -> str:
            line = answers.readline()
            if not line:
                raise UsageError(f"{name}: ended before it was timed")
            return line

        def call() -> float:
            told.write("\n")
            told.flush()
            return float(answer())

        yield call, int(answer())
        told.close()


def beside(
    checkout: Path | None, repeats: int, numbers: dict[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Environment steps/s over all members, ours and the peer's in turn.

    Args:
      checkout: of Rejax; without one only ours is run.
      repeats: how often each is timed.
      numbers: what is timed, by its name in MAKERS, and what it is made of. `products` are only the
        matrix products of as many gradient steps as ours, where there is one of these a step.
    """
    seconds: dict[str, list[float]] = {}
    timed: dict[str, Timed] = {}
    with contextlib.ExitStack() as stack:
        for name, made_of in numbers.items():
            side = name.split("-")[0]
            if side != "rejax" or checkout:
                timed[side] = stack.enter_context(served(checkout, name, made_of))
                seconds[side] = []
        for _ in range(repeats):
            for side, (call, _) in timed.items():
                seconds[side].append(call())
    limit = "products" in timed
    speed = {name: timed[name][1] / statistics.median(t) for name, t in seconds.items()}
    row: dict[str, Any] = {
        f"{name}_steps_per_second": round(x) for name, x in speed.items() if name != "products"
    }
    if limit:
        row["updates_per_second"] = round(speed["purerl"])
        row["matmul_limit_updates_per_second"] = round(speed["products"])
        row["share_of_matmul_limit"] = round(speed["purerl"] / speed["products"], 3)
    row["seconds"] = {k: [round(t, 4) for t in v] for k, v in seconds.items()}
    row["steps"] = {name: steps for name, (_, steps) in timed.items()}
    row["apart"] = True  # each side in a process of its own
    if checkout:
        row["ratio"] = round(speed["purerl"] / speed["rejax"], 2)
    return row


def show(name: str, row: dict[str, Any]) -> None:
    hidden = ("seconds", "steps", "apart")
    shown = ", ".join(f"{k} {v}" for k, v in row.items() if k not in hidden)
    print(f"{name}: {shown}", flush=True)


def dqn_rates(checkout: Path | None, steps: int, repeats: int) -> None:
    """By members and capacity."""
    for members, capacity in ((1, 10_000), (8, 10_000), (1, 1_000_000)):
        each = steps // members
        peer = each if capacity == 10_000 else each // 20  # it is that slow
        sides = {
            "purerl-dqn": (members, capacity, each), "rejax-dqn": (members, capacity, peer)
        }  # fmt: skip
        row = beside(checkout, repeats, sides)
        about = provenance(
            agent="dqn", env="gymnax/CartPole-v1", members=members, capacity=capacity
        )
        keep("off_policy", f"dqn-{members}-{capacity}", about | row)
        show(f"DQN, {members} members, capacity {capacity:,}", row)


def sac_rates(checkout: Path | None, steps: int, repeats: int) -> None:
    """By members; a gradient step an environment step, so as many updates/s."""
    for members in (1, 8):
        each = steps // members
        sides = ("purerl-sac", "rejax-sac", "products-sac")
        row = beside(checkout, repeats, dict.fromkeys(sides, (members, each)))
        about = provenance(agent="sac", env="gymnax/Pendulum-v1", members=members)
        keep("off_policy", f"sac-{members}", about | row)
        show(f"SAC, {members} members", row)


def replay(
    capacity: int, repeats: int, calls_each: int = 2000, inserts_each: int = 100_000
) -> None:
    """Microseconds of an insert and of a sample of 256 transitions, ours and flashbax's in turn.

    Prioritised: of 256 transitions that are drawn by priority and whose priorities are then set.
    An insert takes less than a microsecond, so many are timed at once.
    """
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
        return jax.lax.fori_loop(0, inserts_each, insert, buffer)

    # Both draw what they can before the loop: we all numbers, flashbax its keys.
    def our_sample(buffer, key):
        def one(total, numbers):
            index = ring.uniform(numbers, buffer, jnp.int32(10**6), 1)
            return total + checksum(ring.transitions(buffer, index, 1, 0.99)), ()

        numbers = jax.random.bits(key, (calls_each, batch))
        return jax.lax.scan(one, jnp.float32(0), numbers)[0]

    def their_insert(state):
        return jax.lax.fori_loop(0, inserts_each, lambda i, s: theirs.add(s, items), state)

    def their_sample(state, key):
        def one(total, key):
            return total + checksum(theirs.sample(state, key).experience), ()

        return jax.lax.scan(one, jnp.float32(0), jax.random.split(key, calls_each))[0]

    length = capacity // envs
    tree = priorities.insert(priorities.init(envs, length), length, jnp.int32(0), length, 0)
    ranked = flashbax.make_prioritised_flat_buffer(
        max_length=capacity, min_length=batch, sample_batch_size=batch, add_batch_size=envs
    )
    ranks = ranked.init(item)
    fill = lambda state, _: (ranked.add(state, items), ())
    ranks = jax.jit(lambda state: jax.lax.scan(fill, state, length=length)[0])(ranks)

    def our_ranks(tree, key):
        def one(tree, now):
            numbers, new = now
            drawn = priorities.draw(numbers, tree, length, jnp.int32(length))
            found = checksum(ring.transitions(buffer, drawn.index, 1, 0.99))
            return priorities.update(tree, length, drawn.index, new), found

        numbers = priorities.numbers(key, tree, (calls_each, batch))
        new = jax.random.uniform(key, (calls_each, batch))
        return jax.lax.scan(one, tree, (numbers, new))

    def their_ranks(ranks, key):
        def one(ranks, now):
            key, new = now
            drawn = ranked.sample(ranks, key)
            return ranked.set_priorities(ranks, drawn.indices, new), checksum(drawn.experience)

        new = jax.random.uniform(key, (calls_each, batch))
        return jax.lax.scan(one, ranks, (jax.random.split(key, calls_each), new))

    held = {"ours": buffer, "theirs": state}
    inserts = {"ours": our_insert, "theirs": their_insert}
    inserts = {k: jax.jit(f, donate_argnums=0).lower(held[k]).compile() for k, f in inserts.items()}
    samples = {"ours": our_sample, "theirs": their_sample}
    samples = {k: jax.jit(f).lower(held[k], key).compile() for k, f in samples.items()}

    kept = {"ours": tree, "theirs": ranks}
    ranking = {"ours": our_ranks, "theirs": their_ranks}
    ranking = {
        k: jax.jit(f, donate_argnums=0).lower(kept[k], key).compile() for k, f in ranking.items()
    }

    def insert(name: str) -> Any:
        held[name] = inserts[name](held[name])
        return held[name]

    def rank(name: str) -> Any:
        kept[name], found = ranking[name](kept[name], key)
        return found

    out = provenance(capacity=capacity, envs=envs, batch=batch)
    for kind, calls in (
        ("insert", {name: lambda n=name: insert(n) for name in held}),
        ("sample", {name: lambda n=name: samples[n](held[n], key) for name in held}),
        ("prioritised", {name: lambda n=name: rank(n) for name in held}),
    ):
        seconds = alternate(calls, repeats)
        number = inserts_each if kind == "insert" else calls_each
        micro = {k: statistics.median(t) / number * 1e6 for k, t in seconds.items()}
        out[kind] = {
            "purerl_us": round(micro["ours"], 2),
            "flashbax_us": round(micro["theirs"], 2),
            "ratio": round(micro["theirs"] / micro["ours"], 2),
            "seconds": {k: [round(x, 4) for x in t] for k, t in seconds.items()},
        }
        print(f"{kind} at capacity {capacity:,}: {out[kind]}", flush=True)
    keep("off_policy", f"replay-{capacity}", out)


def main(argv: list[str]) -> int:
    flags = parser("off_policy", __doc__)
    flags.add_argument("--rejax", type=Path, help="a checkout of Rejax to run beside ours")
    flags.add_argument("--only", help="dqn, sac or replay")
    flags.add_argument("--steps", type=int, default=160_000, help="a repeat, over all members")
    repeats(flags, 5)
    flags.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    given = flags.parse_args(argv)
    if given.only:
        known("only", given.only, ("dqn", "sac", "replay"))
    if given.rejax:
        checkout_has("rejax", given.rejax, "src/rejax/algos/__init__.py")
        sys.path.insert(0, str(given.rejax / "src"))
    if given.serve:
        serve(given.serve[0], *map(int, given.serve[1:]))
        return 0
    if given.only in (None, "dqn"):
        dqn_rates(given.rejax, given.steps, given.repeats)
    if given.only in (None, "sac"):
        sac_rates(given.rejax, given.steps // 16, given.repeats)
    if given.only in (None, "replay"):
        for capacity in (10_000, 1_000_000):
            replay(capacity, given.repeats)
    return 0
