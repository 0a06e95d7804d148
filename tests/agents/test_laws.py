"""Every agent keeps every law of tests/laws.py, and agents that break one are caught."""

import inspect

import pytest
from laws import LAWS, Case
from reinforce_page import reinforce

from purerl.agents import ppo

TINY = {"num_envs": 4, "unroll_length": 8, "num_minibatches": 2, "num_epochs": 2}
SMALL = {**TINY, "hidden_sizes": (8,)}

CASES = [
    Case("ppo-cartpole", ppo, "gymnax/CartPole-v1", ppo.Config(**SMALL, schedule="linear")),
    Case(
        "ppo-pendulum",
        ppo,
        "gymnax/Pendulum-v1",
        ppo.Config(**SMALL, normalize_obs=True, normalize_reward=True, reset_mode="full"),
        sweep=("discount", (0.9, 0.99)),
    ),
    Case(
        "ppo-gru",
        ppo,
        "probe/memory",
        ppo.Config(**SMALL, core="gru", core_size=8),
        sweep=("entropy_coef", (0.0, 0.1)),
    ),
    Case(
        "reinforce",
        reinforce(),
        "gymnax/CartPole-v1",
        reinforce().Config(num_envs=4, unroll_length=8),
        sweep=("discount", (0.9, 0.99)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law, case, tmp_path):
    arguments = (case, tmp_path) if "directory" in inspect.signature(law).parameters else (case,)
    law(*arguments)
