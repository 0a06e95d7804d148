"""How fast is it? Steps per second, as JSON.

    python -m benchmarks throughput                     PPO on CartPole
    python -m benchmarks throughput --agent sac         any other, with its tuned settings
    python -m benchmarks throughput --quick             compared with the committed run
    python -m benchmarks throughput --purejaxrl DIR     DIR: a checkout of PureJaxRL, beside ours

Everything that is compared runs in one process, alternating, and is reported as the median of
several repeats, without compiling. Without --agent or --env the work is 64 environments x 128
steps, 4 epochs x 4 minibatches, 64-64 tanh networks on CartPole. Results are kept in
benchmarks/results/<device>/throughput.json.
"""

import functools
import importlib.util
import statistics
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import purerl
from benchmarks import subjects
from benchmarks.arguments import checkout_has, known, parser, quick, repeats, subject
from benchmarks.quick import Row, run
from benchmarks.records import keep, provenance
from benchmarks.timing import alternate, calibration
from purerl.agents import ppo
from purerl.engine.cohort import Cohort
from purerl.engine.hosts import use_cores
from purerl.engine.placement import place
from purerl.engine.population import population
from purerl.engine.programs import compile_programs

CONFIG = ppo.Config(num_envs=64, unroll_length=128, num_epochs=4, num_minibatches=4)
STEPS = CONFIG.num_envs * CONFIG.unroll_length
SHAPE = ("num_envs", "unroll_length", "num_epochs", "num_minibatches")
WORK = {"agent": "ppo", "env": "gymnax/CartPole-v1", **{k: getattr(CONFIG, k) for k in SHAPE}}


def ours(
    env: str, members: int, updates: int, batch: int | None = None, devices: int = 1
) -> Callable[[], Any]:
    """A call that runs `updates` iterations of `members` members."""
    agent = ppo.make(purerl.make(env), CONFIG)
    where = place(members, devices, batch=batch)
    cohort = Cohort(population(agent.hparams, members), where, compile_programs(agent, where, 1, 1))

    def call() -> Any:
        return cohort.advance(0, updates, updates)

    return call


def purejaxrl(checkout: Path, members: int, updates: int) -> Callable[[], Any]:
    """A call that runs PureJaxRL's `ppo.py` for as many iterations, metrics reduced on device."""
    sys.modules["wrappers"], sys.modules["distrax"] = _wrappers(), _distrax()
    spec = importlib.util.spec_from_file_location("purejaxrl_ppo", checkout / "purejaxrl/ppo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = {
        "LR": 3e-4, "NUM_ENVS": 64, "NUM_STEPS": 128, "TOTAL_TIMESTEPS": updates * STEPS,
        "UPDATE_EPOCHS": 4, "NUM_MINIBATCHES": 4, "GAMMA": 0.99, "GAE_LAMBDA": 0.95,
        "CLIP_EPS": 0.2, "ENT_COEF": 0.01, "VF_COEF": 0.5, "MAX_GRAD_NORM": 0.5,
        "ACTIVATION": "tanh", "ENV_NAME": "CartPole-v1", "ANNEAL_LR": False, "DEBUG": False,
    }  # fmt: skip
    one = module.make_train(config)
    run = one if members == 1 else jax.vmap(one)
    reduced = lambda key: run(key)["metrics"]["returned_episode_returns"].mean()
    key = jax.random.PRNGKey(0)
    key = key if members == 1 else jax.random.split(key, members)
    compiled = jax.jit(reduced).lower(key).compile()
    return lambda: compiled(key)


def matmul_limit(repeats: int) -> float:
    """FLOP/s of a 1024 x 1024 x 1024 float32 product, which nothing here can pass."""
    x = jnp.ones((1024, 1024))
    product = jax.jit(jnp.matmul).lower(x, x).compile()
    seconds = alternate({"product": lambda: [product(x, x) for _ in range(20)]}, repeats)
    return 20 * 2 * 1024**3 / statistics.median(seconds["product"])


def flops_per_step() -> float:
    """Of the matrix products for one environment step: acting once, learning four times."""
    tower = 4 * 64 + 64 * 64
    forward = 2 * (2 * tower + 64 * 2 + 64 * 1)
    return forward * (1 + CONFIG.num_epochs * 3)


def throughput(members: list[int], checkout: Path | None, updates: int, repeats: int) -> None:
    """Steps/s over all members, ours and the peer's in turn."""
    limit = matmul_limit(repeats)
    for count in members:
        iterations = max(2, updates // count)
        calls = {"purerl": ours("gymnax/CartPole-v1", count, iterations)}
        if checkout:
            calls["purejaxrl"] = purejaxrl(checkout, count, iterations)
        seconds = alternate(calls, repeats)
        steps = count * iterations * STEPS
        rates = {name: steps / statistics.median(times) for name, times in seconds.items()}
        row: dict[str, Any] = {f"{k}_steps_per_second": round(v) for k, v in rates.items()}
        row["fraction_of_matmul_limit"] = round(rates["purerl"] * flops_per_step() / limit, 3)
        if checkout:
            row["ratio"] = round(rates["purerl"] / rates["purejaxrl"], 2)
        print(f"members {count}: " + ", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        row["seconds"] = {k: [round(t, 4) for t in v] for k, v in seconds.items()}
        row["matmul_gflops"] = round(limit / 1e9)
        keep("throughput", f"ppo-CartPole-v1-{count}", provenance(members=count, **WORK) | row)


def groups(members: int, updates: int, repeats: int) -> None:
    """Steps/s of one population by how many members run abreast."""
    iterations = max(2, updates // members)
    abreast = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= members]
    calls = {str(n): ours("gymnax/CartPole-v1", members, iterations, n) for n in abreast}
    seconds = alternate(calls, repeats)
    steps = members * iterations * STEPS
    rates = {n: round(steps / statistics.median(times)) for n, times in seconds.items()}
    print(f"{members} members, steps/s by members abreast: {rates}")
    row = {
        "steps_per_second": rates,
        "seconds": {k: [round(t, 4) for t in v] for k, v in seconds.items()},
    }
    keep("throughput", "ppo-CartPole-v1-abreast", provenance(members=members, **WORK) | row)


def _wrappers() -> types.ModuleType:
    """What PureJaxRL's ppo.py asks of its `wrappers`, for gymnax 1.0, whose step returns six."""

    class LogState(NamedTuple):
        env: Any
        total: Any
        length: Any
        returned: Any
        returned_length: Any
        time: Any

    class Wrapper:
        def __init__(self, env):
            self._env = env

        def __getattr__(self, name):
            return getattr(self._env, name)

    class LogWrapper(Wrapper):
        def reset(self, key, params):
            obs, env = self._env.reset(key, params)
            zero, none = jnp.float32(0), jnp.int32(0)
            return obs, LogState(env, zero, none, zero, none, none)

        def step(self, key, state, action, params):
            obs, env, reward, terminated, truncated, _ = self._env.step(
                key, state.env, action, params
            )
            done, total, length = terminated | truncated, state.total + reward, state.length + 1
            returned = jnp.where(done, total, state.returned)
            returned_length = jnp.where(done, length, state.returned_length)
            total, length = jnp.where(done, 0, total), jnp.where(done, 0, length)
            state = LogState(env, total, length, returned, returned_length, state.time + 1)
            info = {
                "returned_episode_returns": returned,
                "returned_episode_lengths": returned_length,
                "timestep": state.time,
                "returned_episode": done,
            }
            return obs, state, reward, done, info

    module = types.ModuleType("wrappers")
    vars(module).update(LogWrapper=LogWrapper, FlattenObservationWrapper=Wrapper)
    return module


def _distrax() -> types.ModuleType:
    """Its Categorical: distrax itself does not import under jax 0.11."""

    class Categorical:
        def __init__(self, logits):
            self.logits = jax.nn.log_softmax(logits)

        def sample(self, seed):
            return jax.random.categorical(seed, self.logits)

        def log_prob(self, action):
            return jnp.take_along_axis(self.logits, action[..., None], -1)[..., 0]

        def entropy(self):
            return -(jnp.exp(self.logits) * self.logits).sum(-1)

    module = types.ModuleType("distrax")
    vars(module).update(Categorical=Categorical)
    return module


def tuned(agent: str, env: str, members: list[int], steps: int, repeats: int) -> None:
    """Steps/s over all members, of any algorithm with its tuned settings, where experiments put it:
    on a CPU every core is a device."""
    use_cores()
    made = subjects.make(agent, env)
    for count in members:
        devices = min(count, jax.device_count())
        call, done = subjects.training(made, count, max(1, steps // count), devices)
        seconds = alternate({"purerl": call}, repeats)
        row: dict[str, Any] = {
            "purerl_steps_per_second": round(done / statistics.median(seconds["purerl"])),
            "steps": done,
            "seconds": {k: [round(t, 4) for t in v] for k, v in seconds.items()},
        }
        name = f"{subjects.name_of(agent, env)}-{count}"
        keep("throughput", name, provenance(agent=agent, env=env, members=count) | row)
        print(f"{name}: {row['purerl_steps_per_second']:,} steps/s", flush=True)


# Steps of a repetition of `--quick`: about a fifth of a second on 2 free cores.
QUICK = {"ppo": 65_536, "dqn": 20_480, "sac": 1_536}


def quick_row(agent: str, env: str, repeats: int = 7) -> Row:
    """Steps in the time of one calibration loop, which runs before each repetition."""
    call, steps = subjects.training(subjects.make(agent, env), 1, QUICK[agent])
    seconds = alternate({"calibration": calibration(), "program": call}, repeats)
    pairs = zip(seconds["calibration"], seconds["program"], strict=True)
    return Row("speed", [round(steps * c / p, 1) for c, p in pairs])


def main(argv: list[str]) -> int:
    flags = parser("throughput", __doc__)
    subject(flags)
    flags.add_argument("--purejaxrl", type=Path, help="a checkout of PureJaxRL to run beside ours")
    flags.add_argument("--members", type=int, nargs="+", default=[1, 4, 64])
    flags.add_argument("--updates", type=int, default=64, help="iterations a repeat, over members")
    flags.add_argument("--steps", type=int, default=50_000, help="with --agent: likewise")
    repeats(flags, 5)
    flags.add_argument("--only", help="throughput or groups")
    quick(flags)
    given = flags.parse_args(argv)
    if given.only:
        known("only", given.only, ("throughput", "groups"))
    if given.purejaxrl:
        checkout_has("purejaxrl", given.purejaxrl, "purejaxrl/ppo.py")
    if given.quick:
        rows = {
            f"speed {subjects.name_of(*pair)}": functools.partial(quick_row, *pair)
            for pair in subjects.quick_ones(QUICK, given.agent, given.env)
        }
        return run("throughput", rows, given.keep)
    if given.agent or given.env:
        agent = given.agent or "ppo"
        env = subjects.check(agent, given.env)
        tuned(agent, env, given.members, given.steps, given.repeats)
        return 0
    if given.only in (None, "throughput"):
        throughput(given.members, given.purejaxrl, given.updates, given.repeats)
    if given.only in (None, "groups"):
        groups(64, given.updates, given.repeats)
    return 0
