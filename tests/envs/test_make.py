"""`purerl.make`: every name, and one line for each thing that cannot be."""

import dataclasses
import json
import subprocess
import sys
import types
import urllib.error

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from brax import envs as brax_envs

import purerl
from purerl import UsageError, envs
from purerl.envs import brax as brax_adapter
from purerl.envs import gymnax as gymnax_adapter


def error_of(call) -> str:
    with pytest.raises(purerl.UsageError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_lists_of_names_are_those_of_gymnax_and_brax():
    assert list(gymnax_adapter.ENVIRONMENTS) == gymnax.registered_envs
    assert list(brax_adapter.ENVIRONMENTS) == list(brax_envs._envs)
    assert len(purerl.registered()) == len(set(purerl.registered())) == 26 + 12 + 8 + 3 + 10


@pytest.mark.parametrize("name", [n for n in purerl.registered() if not n.startswith("brax/")])
def test_every_name_makes_the_environment_of_that_name(name, mnist):
    assert purerl.make(name).name == name


@pytest.mark.parametrize("name", brax_adapter.ENVIRONMENTS)
def test_every_brax_environment_traces_on_its_default_backend(name):
    env = purerl.make(f"brax/{name}")
    state, obs = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.eval_shape(env.action_space.sample, jax.random.key(0))
    after, step = jax.eval_shape(env.step, jax.random.key(0), state, action)
    assert obs.shape == step.obs.shape == env.observation_space.shape
    assert jax.tree.map(str, state) == jax.tree.map(str, after)


def test_the_table_of_backends_is_what_brax_accepts():
    for name in ("swimmer", "inverted_pendulum"):
        for backend in brax_adapter.BACKENDS:
            if backend in brax_adapter.ENVIRONMENTS[name]:
                brax_envs.get_environment(name, backend=backend)
            else:
                with pytest.raises(ValueError, match="Unsupported backend"):
                    brax_envs.get_environment(name, backend=backend)


def test_equal_arguments_give_the_same_object():
    env = purerl.make("brax/fast", episode_length=10, action_repeat=2)
    assert env is purerl.make("brax/fast", action_repeat=2, episode_length=10, backend="spring")
    assert env is not purerl.make("brax/fast", episode_length=10)
    assert purerl.make("gymnax/CartPole-v1") is purerl.make("gymnax/CartPole-v1")
    rooms = purerl.make("gymnax/FourRooms-misc", goal_fixed=[8, 9])
    assert rooms is purerl.make("gymnax/FourRooms-misc", goal_fixed=(8, 9))
    assert purerl.make("probe/memory", delay=2) is purerl.make("probe/memory", delay=2)


@pytest.mark.parametrize(
    ("name", "argument", "same"),
    [
        ("gymnax/DeepSea-bsuite", {"size": np.int64(5)}, {"size": 5}),
        ("gymnax/CartPole-v1", {"gravity": np.float32(20)}, {"gravity": 20.0}),
        ("gymnax/Acrobot-v1", {"available_torque": jnp.array([-2.0, 0.0, 2.0])},
         {"available_torque": [-2.0, 0.0, 2.0]}),
        ("gymnax/DiscountingChain-bsuite", {"reward_timestep": np.array([1, 2, 3, 4, 5])},
         {"reward_timestep": [1, 2, 3, 4, 5]}),
        ("gymnax/DeepSea-bsuite", {"action_mapping_key": jax.random.key(3)},
         {"action_mapping_key": jax.random.key_data(jax.random.key(3))}),
        ("brax/fast", {"episode_length": 1e2}, {"episode_length": 100}),
    ],
)  # fmt: skip
def test_an_array_is_taken_and_recorded_as_numbers(name, argument, same):
    """As config.json has it, from which the environment can be made again."""
    env = purerl.make(name, **argument)
    assert env is purerl.make(name, **same)
    _, recorded = envs.spec(env)
    assert env is purerl.make(name, **json.loads(json.dumps(recorded)))
    state, _ = env.reset(jax.random.key(0))
    action = env.action_space.sample(jax.random.key(1))
    _, timestep = jax.jit(env.step)(jax.random.key(2), state, action)  # a tuple has no traced index
    assert np.isfinite(timestep.reward)


def test_arguments_of_an_environment_are_what_it_is_made_with():
    mapped = [
        purerl.make("gymnax/DeepSea-bsuite", action_mapping_key=jax.random.key(i))._env
        for i in (0, 3)
    ]
    assert (mapped[0].action_mapping != mapped[1].action_mapping).any()
    acrobot = purerl.make("gymnax/Acrobot-v1", available_torque=[-2.0, 0.0, 2.0])
    np.testing.assert_array_equal(acrobot._defaults.available_torque, [-2.0, 0.0, 2.0])


def test_an_integer_for_a_float_parameter_still_sweeps():
    assert purerl.make("gymnax/CartPole-v1", gravity=20).params["gravity"] == 20.0
    assert "memory_length" not in purerl.make("gymnax/MemoryChain-bsuite", memory_length=5.0).params


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """CartPole with other rewards, under CartPole's name."""

    scale: float = 2.0
    name = "gymnax/CartPole-v1"

    def __getattr__(self, field):
        return getattr(purerl.make("gymnax/CartPole-v1"), field)


def test_an_environment_of_one_s_own_is_not_taken_for_a_registered_one():
    own = Wrapped()
    name, arguments = envs.spec(own)
    assert name not in purerl.registered()
    assert "did you mean gymnax/CartPole-v1" in error_of(lambda: purerl.make(name, **arguments))
    assert envs.spec(Wrapped(scale=3.0)) != envs.spec(own)
    made = purerl.make("probe/truncation", steps=3)
    assert envs.spec(made) == ("probe/truncation", {"steps": 3})
    assert envs.spec(type(made)(steps=3))[0] != "probe/truncation"


def test_an_unknown_name_gets_the_nearest():
    message = error_of(lambda: purerl.make("brax/inverted_pendulumm"))
    assert "'brax/inverted_pendulumm'" in message
    assert "brax/inverted_pendulum" in message
    assert "gymnax/CartPole-v1" in error_of(lambda: purerl.make("CartPole-v1"))
    assert "purerl.registered()" in error_of(lambda: purerl.make("zzzzzzzz"))
    # The suite's name is no likeness: neither CartPole nor Pong is meant.
    message = error_of(lambda: purerl.make("gymnax/Pendulm-v1"))
    assert message.endswith("did you mean gymnax/Pendulum-v1?")


def test_a_backend_the_environment_lacks():
    message = error_of(lambda: purerl.make("brax/swimmer", backend="spring"))
    assert message == "backend='spring': must be one of generalized"
    assert purerl.make("brax/swimmer").backend == "generalized"
    message = error_of(lambda: purerl.make("brax/ant", backend="bullet"))
    assert message.endswith("must be one of spring, generalized, positional, mjx")


@pytest.mark.parametrize(
    ("name", "kwargs", "says"),
    [
        ("brax/ant", {"episode_length": 0}, "episode_length=0: must be positive"),
        ("brax/ant", {"action_repeat": -1}, "action_repeat=-1: must be positive"),
        ("brax/ant", {"wings": 2}, "'wings'"),
        ("brax/ant", {"use_contact_forces": True}, "use_contact_forces not implemented"),
        ("brax/fast", {"obs_mode": "dict_pixels"}, "would be a dict"),
        ("gymnax/CartPole-v1", {"gravitas": 1.0}, "did you mean gravity?"),
        ("gymnax/CartPole-v1", {"total_mass": 1.0}, "no argument"),
        (
            "gymnax/CartPole-v1",
            {"max_steps_in_episode": 0},
            "max_steps_in_episode=0: must be positive",
        ),
        (
            "gymnax/CartPole-v1",
            {"max_steps_in_episode": -1},
            "max_steps_in_episode=-1: must be positive",
        ),
        ("gymnax/CartPole-v1", {"max_steps_in_episode": 9.5}, "must be a whole number"),
        ("gymnax/CartPole-v1", {"gravity": "much"}, "gravity='much': must be a number"),
        ("gymnax/CartPole-v1", {"gravity": print}, "must be a number, a text, or a list"),
        ("brax/ant", {"episode_length": 10.5}, "episode_length=10.5: must be a whole number"),
        ("gymnax/MetaMaze-misc", {"maze_size": 4}, "maze_size=4"),
        ("gymnax/FrozenLake-misc", {"success_rate": 2.0}, "between 0 and 1"),
        ("probe/memory", {"delay": 0}, "delay=0: must be positive"),
        ("probe/value", {"delay": 1}, "'delay'"),
    ],
)
def test_an_argument_that_cannot_be(name, kwargs, says):
    assert says in error_of(lambda: purerl.make(name, **kwargs))


def test_mnist_without_its_data_or_a_network(monkeypatch, tmp_path):
    def offline(*_):
        raise urllib.error.URLError("no network")

    loader = sys.modules["gymnax.utils.load_mnist"]
    monkeypatch.setattr(loader.load_mnist, "__defaults__", (str(tmp_path),))
    monkeypatch.setattr(loader, "urlretrieve", offline)
    message = error_of(lambda: purerl.make("gymnax/MNISTBandit-bsuite", fraction=0.5))
    assert message.startswith("env='gymnax/MNISTBandit-bsuite': ")
    assert "no network" in message


def test_a_parameter_that_cannot_be_swept():
    env = purerl.make("gymnax/CartPole-v1")
    envs.check_params(env, {"gravity": 1.0, "length": 2.0})
    message = error_of(lambda: envs.check_params(env, {"gravty": 1.0}))
    assert message.startswith("env.gravty: no parameter of env='gymnax/CartPole-v1'")
    assert "did you mean gravity" in message
    assert "max_torque" in error_of(
        lambda: envs.check_params(purerl.make("gymnax/Pendulum-v1"), ["max_torque"])
    )
    assert "it has none" in error_of(
        lambda: envs.check_params(purerl.make("brax/fast"), ["gravity"])
    )


def test_what_is_not_needed_is_not_imported_and_making_prints_nothing(tmp_path):
    program = (
        "import sys, purerl\n"
        "assert not {'brax', 'gymnax', 'mujoco', 'matplotlib', 'pgx'} & set(sys.modules)\n"
        "purerl.make('brax/halfcheetah', backend='spring')\n"
        "purerl.make('gymnax/CartPole-v1')\n"
        "assert not {'seaborn', 'scipy.stats', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "from gymnax.environments.misc import pong\n"
        "assert len(pong.sns.color_palette()) > 0  # imported when it is used\n"
        "import matplotlib.pyplot\n"
        "assert matplotlib.pyplot.figure is pong.plt.figure\n"
    )
    path = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        cwd=tmp_path,
        env=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir()), "mujoco writes a log file where it warns"


class Walk(toys.Countdown):
    """An environment that lies in a module."""


class Half:
    """No whole one."""

    name = "test/half"


def test_an_environment_of_one_s_own_is_named_by_where_it_lies(monkeypatch):
    module = types.ModuleType("mine.walks")
    module.Walk, module.Half = Walk, Half
    monkeypatch.setitem(sys.modules, "mine", types.ModuleType("mine"))
    monkeypatch.setitem(sys.modules, "mine.walks", module)
    env = purerl.make("mine.walks:Walk", max_episode_steps=7)
    assert isinstance(env, Walk)
    assert env.max_episode_steps == 7
    assert purerl.make("mine.walks:Walk", max_episode_steps=7) is env
    assert envs.spec(env) == ("mine.walks:Walk", {"max_episode_steps": 7})
    for name, kwargs, said in (
        ("mine.walks:Wlk", {}, "module 'mine.walks' has no attribute 'Wlk'"),
        ("yours:Walk", {}, "No module named 'yours'"),
        ("mine.walks:Walk", {"stepz": 3}, ".*unexpected keyword argument 'stepz'"),
        (
            "mine.walks:Half",
            {},
            "is no Environment: it has no observation_space, .*step",
        ),
    ):
        with pytest.raises(UsageError, match=f"^env='{name}': {said}"):
            purerl.make(name, **kwargs)
