"""Presets: every name in them means something, and every entry can be trained."""

import dataclasses
import fnmatch
import importlib

import jax
import jax.numpy as jnp
import pytest

import purerl
from purerl.flags import FLAGS
from purerl.presets import PRESETS, VARIANTS, preset

ENTRIES = [(name, pattern) for name, table in PRESETS.items() for pattern in table]


def module_of(algorithm):
    return importlib.import_module(f"purerl.agents.{VARIANTS.get(algorithm, algorithm)}")


def names_of(pattern):
    """The environments of a pattern, those that need nothing else installed."""
    names = [name for name in purerl.registered() if not name.startswith("pgx/")]
    return [name for name in names if fnmatch.fnmatch(name, pattern) and "MNIST" not in name]


@pytest.mark.parametrize(("algorithm", "pattern"), ENTRIES)
def test_every_field_is_one_that_someone_reads(algorithm, pattern):
    module = module_of(algorithm)
    known = {f.name for f in dataclasses.fields(module.Config)} | set(module.HParams._fields)
    known |= {f.name for flags in FLAGS.values() for f in dataclasses.fields(flags)}
    assert PRESETS[algorithm][pattern].keys() <= known
    assert names_of(pattern)


def made(algorithm, name):
    """The agent of a preset; None for actions of another kind, as patterns have both."""
    module, env = module_of(algorithm), purerl.make(name)
    chosen = preset(algorithm, name)
    fields = {f.name for f in dataclasses.fields(module.Config)}
    try:
        return module.make(env, module.Config(**{k: v for k, v in chosen.items() if k in fields}))
    except purerl.UsageError as error:
        if "needs" not in str(error):
            raise
        return None


@pytest.mark.parametrize(("algorithm", "pattern"), [e for e in ENTRIES if e[1] != "*"])
def test_every_entry_makes_an_agent(algorithm, pattern):
    """On one of its environments: no capacity is left over, nothing is of the wrong type."""
    agents = (made(algorithm, name) for name in names_of(pattern))
    agent = next(agent for agent in agents if agent is not None)
    assert preset(algorithm, agent.env.name)["total_steps"] > agent.learning_starts


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0"])
@pytest.mark.parametrize("algorithm", ["c51", "rainbow", "muzero"])
def test_returns_lie_in_the_support_of_their_distribution(algorithm, name):
    """Of the environments of classic control: whatever is done, for as long as an episode lasts."""
    env, module = purerl.make(f"gymnax/{name}"), module_of(algorithm)
    found = {**dataclasses.asdict(module.Config()), **preset(algorithm, env.name)}
    discount = found.get("discount", module.HParams().discount)
    key = jax.random.key(0)
    _, timestep = env.step(key, env.reset(key)[0], jnp.int32(1))
    most = timestep.reward * (1.0 - discount**env.max_episode_steps) / (1.0 - discount)
    assert found["v_min"] <= most <= found["v_max"]
    assert found["v_min"] <= timestep.reward <= found["v_max"]


@pytest.mark.parametrize(
    ("algorithm", "env", "field", "wanted"),
    [
        ("ppo", "gymnax/CartPole-v1", "total_steps", 500_000),  # not 1,000,000, as of all
        ("redq", "gymnax/Pendulum-v1", "learning_starts", 500),  # not 1,000, as of its suite
        ("rainbow", "gymnax/Breakout-MinAtar", "n_step", 1),  # not 3, as of all
        ("rainbow", "gymnax/Breakout-MinAtar", "batch_size", 32),  # of dqn, whose variant it is
        ("rainbow", "gymnax/CartPole-v1", "epsilon_end", 0.0),  # not that of dqn
    ],
)
def test_the_more_specific_setting_wins(algorithm, env, field, wanted):
    assert preset(algorithm, env)[field] == wanted
