"""Tuned settings from Python are those of the command line."""

import dataclasses

import pytest

import purerl
from purerl import UsageError
from purerl.agents import dqn, ppo, sac
from purerl.flags import parse


@pytest.mark.parametrize(
    ("name", "variant", "module", "env"),
    [
        ("ppo", None, ppo, "gymnax/CartPole-v1"),
        ("ppo", None, ppo, "brax/hopper"),
        ("rainbow", "rainbow", dqn, "gymnax/CartPole-v1"),
        ("redq", "redq", sac, "gymnax/Pendulum-v1"),
    ],
)
def test_tuned_settings_are_those_of_the_experiment(name, variant, module, env):
    agent, total_steps = purerl.tuned(name, env)
    flags, config, hparams = parse(module, env.split("/")[0], env, [], variant)
    assert agent.config == config
    assert total_steps == flags.total_steps
    assert agent.hparams._replace(env_params={}) == hparams._replace(env_params={})
    assert purerl.tuned(name, env)[0] is agent


@pytest.mark.parametrize(
    ("name", "env", "said"),
    [
        (
            "raimbow",
            "gymnax/CartPole-v1",
            "algorithm='raimbow': no such one; did you mean rainbow?",
        ),
        ("ppo", "gymnax/CartPol-v1", "env='gymnax/CartPol-v1': no such environment"),
        ("sac", "gymnax/CartPole-v1", "env='gymnax/CartPole-v1': SAC needs continuous actions"),
    ],
)
def test_what_cannot_be_is_one_line(name, env, said):
    with pytest.raises(UsageError) as caught:
        purerl.tuned(name, env)
    assert str(caught.value).startswith(said)


def test_a_tuned_agent_trains():
    agent, _ = purerl.tuned("dqn", "gymnax/Catch-bsuite")
    small = dataclasses.asdict(agent.config) | {"num_rounds": 4, "learning_starts": 300}
    small["hidden_sizes"] = tuple(small["hidden_sizes"])
    made = dqn.make(agent.env, dqn.Config(**small))
    result = purerl.train(made, 400, hparams=agent.hparams, eval_episodes=1)
    assert result.returns.shape == (1,)
