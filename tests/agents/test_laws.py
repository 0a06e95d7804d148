"""Every agent keeps every law of tests/laws.py, and agents that break one are caught."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import laws
import pytest
import toys
from laws import LAWS, Case
from reinforce_page import reinforce

from purerl.agents import alphazero, ddpg, dqn, mpc, muzero, ppo, pqn, sac, sac_discrete, td3

TINY = {"num_envs": 4, "unroll_length": 8, "num_minibatches": 2, "num_epochs": 2}
SMALL = {**TINY, "hidden_sizes": (8,)}

# Small enough to be full, and written over, before a case ends.
REPLAY = {"num_envs": 4, "num_rounds": 3, "batch_size": 8, "capacity": 32, "learning_starts": 20,
          "hidden_sizes": (8,)}  # fmt: skip

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
    Case("dqn-cartpole", dqn, "gymnax/CartPole-v1", dqn.Config(**REPLAY, unroll_length=2)),
    Case(
        "rainbow-catch",
        dqn,
        "gymnax/Catch-bsuite",
        dqn.Config(
            **REPLAY,
            n_step=2,
            dueling=True,
            prioritized=True,
            noisy=True,
            num_updates=2,
            distribution="categorical",
            atoms=5,
            v_min=-1.0,
            v_max=1.0,
        ),
        sweep=("priority_exponent", (0.3, 0.6)),
    ),
    Case(
        "qr-dqn-acrobot",
        dqn,
        "gymnax/Acrobot-v1",
        dqn.Config(**REPLAY, distribution="quantile", atoms=5, double=False, schedule="linear"),
        sweep=("discount", (0.9, 0.99)),
    ),
    Case(
        "pqn-cartpole",
        pqn,
        "gymnax/CartPole-v1",
        pqn.Config(**SMALL),
        sweep=("q_lambda", (0.0, 0.9)),
    ),
    Case(
        "sac-pendulum",
        sac,
        "gymnax/Pendulum-v1",
        sac.Config(
            **REPLAY,
            num_updates=2,
            policy_period=2,
            n_step=2,
            num_critics=3,
            layer_norm=True,
            dropout=0.1,
            normalize_obs=True,
        ),
        sweep=("target_entropy", (-1.0, 0.0)),
    ),
    Case(
        "td3-pendulum",
        td3,
        "gymnax/Pendulum-v1",
        td3.Config(**REPLAY, n_step=2),
        sweep=("noise_correlation", (0.0, 0.9)),
    ),
    Case(
        "ddpg-pendulum",
        ddpg,
        "gymnax/Pendulum-v1",
        ddpg.Config(**REPLAY, unroll_length=2),
        sweep=("exploration_noise", (0.1, 0.2)),
    ),
    Case(
        "discrete-sac-catch",
        sac_discrete,
        "gymnax/Catch-bsuite",
        sac_discrete.Config(**REPLAY),
        sweep=("target_entropy", (0.3, 0.6)),
    ),
    # With the true model nothing is learnt: its laws are in test_mpc.py.
    Case(
        "mpc-learned",
        mpc,
        "gymnax/Pendulum-v1",
        mpc.Config(
            **REPLAY,
            model="learned",
            unroll_length=2,
            num_updates=2,
            ensemble=2,
            horizon=3,
            population=8,
            elites=2,
            iterations=2,
        ),
        sweep=("bound_coef", (0.01, 0.1)),
    ),
    Case(
        "alphazero-tic-tac-toe",
        alphazero,
        "game/tic_tac_toe",
        alphazero.Config(**SMALL, num_simulations=2),
        env_kwargs=(("opponent", "random"),),
    ),
    Case(
        "muzero-tic-tac-toe",  # whose episodes are never truncated
        muzero,
        "game/tic_tac_toe",
        muzero.Config(
            **REPLAY,
            num_simulations=2,
            model_steps=1,
            n_step=2,
            latent_size=4,
            atoms=5,
            prioritized=True,
        ),
        env_kwargs=(("opponent", "random"),),
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


TOY = toys.make()


def weak(key, state, hparams, clock):
    state, metrics = TOY.update(key, state, hparams, clock)
    learner = dataclasses.replace(state.learner, every_third=jnp.asarray(1.0))
    return state._replace(learner=learner), metrics


def vector(key, state, hparams, clock):
    state, metrics = TOY.update(key, state, hparams, clock)
    return state, metrics | {"toy/all": state.learner.params}


def shared_actor(key, hparams):
    state = TOY.init(key, hparams)
    return state._replace(actor=(state.actor, jnp.zeros(())))


def one_key_twice(key, state, hparams, clock):
    state, metrics = TOY.update(key, state, hparams, clock)
    return state, metrics | {"toy/noise": jax.random.normal(key)}


def same_start(key, hparams):
    return TOY.init(jax.random.key(0), hparams)


@pytest.mark.parametrize(
    ("law", "broken"),
    [
        (laws.state_types_are_fixed, {"update": weak}),
        (laws.state_types_are_fixed, {"update": vector}),
        (laws.actors_lead_with_environments, {"init": shared_actor}),
        (laws.keys_ranks_and_numbers_are_clean, {"update": one_key_twice}),
        (laws.members_differ_at_initialisation, {"init": same_start}),
    ],
    ids=lambda x: x.__name__ if callable(x) else next(iter(x.values())).__name__,
)
def test_a_broken_agent_is_caught(law, broken):
    law(toys.Case(TOY))
    with pytest.raises((AssertionError, jax.errors.KeyReuseError)):
        law(toys.Case(dataclasses.replace(TOY, **broken)))


def test_a_branch_that_is_lost_is_caught():
    laws.conds_survive_the_member_axis(toys.Case(TOY))
    batched = toys.make(config=toys.Config(batched_branch=True))
    with pytest.raises(AssertionError):
        laws.conds_survive_the_member_axis(toys.Case(batched))
