"""Deep deterministic policy gradient (DDPG), for continuous actions.

Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971, algorithm 1; the noise that explores is
uncorrelated, which does as well (Fujimoto et al. 2018, section 6.1), but for `noise_correlation`.

Departures: time limits bootstrap from the true final observation; several environments at once.
Actions, and the noise on them, are those in [-1, 1].
Axes: B environments, R rounds of K steps, N rows of a batch, U gradient steps,
A action dimensions.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.envs import Environment, Restart
from purerl.errors import cached, check_settings
from purerl.experience import Experience, action_noise, begin, collect, first_round, rounds
from purerl.networks import Network, check_actions, critics, deterministic_actor, to_env
from purerl.ops import batching, statistics
from purerl.replay import Transitions, check_replay, ring
from purerl.rollout import chances
from purerl.spaces import Box
from purerl.types import (
    Agent,
    Clock,
    EnvParams,
    Key,
    Magnitude,
    Metrics,
    Share,
    TrainState,
    pytree,
)


@dataclass(frozen=True)
class Config:
    """Static settings: shapes, loop lengths and structure. A new value recompiles."""

    num_envs: int = 1  # environments stepped in parallel by one member
    unroll_length: int = 1  # steps of every environment in one round
    num_updates: int = 1  # gradient steps of one round
    num_rounds: int = 64  # rounds in one iteration
    batch_size: int = 256  # transitions of one gradient step
    capacity: int = 100_000  # steps that are kept, of all environments
    learning_starts: int = 1_000  # environment steps of random actions, before the first gradient
    n_step: int = 1  # rewards summed before the value of what follows
    hidden_sizes: tuple[int, ...] = (256, 256)  # features of each dense layer
    activation: Literal["tanh", "relu", "swish"] = "relu"  # after each layer
    layer_norm: bool = False  # in the critic, before each activation
    normalize_obs: bool = False  # by the running mean and variance
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    critic_learning_rate: Magnitude = 1e-3  # Adam step size of the critic
    actor_learning_rate: Magnitude = 3e-4  # of the actor
    discount: Share = 0.99  # weight of the next step's value, gamma
    target_rate: Share = 0.005  # share of the networks in their targets at each update
    exploration_noise: Magnitude = 0.1  # deviation of what is added to actions while collecting
    noise_correlation: Share = 0.0  # of exploring noise, from a step to the next of an iteration
    reward_scale: float = 1.0  # multiplies rewards before learning
    env_params: EnvParams = {}  # overrides of the environment's float parameters


class Networks(NamedTuple):
    """Parameters of the actor and of the critic, whose leaves are [1, ...]."""

    actor: Any
    critic: Any


@pytree
class Learner:
    """Networks, their targets, and the Adam state of each."""

    params: Networks
    target: Networks
    opt_states: Networks
    obs_stats: statistics.Running


class Chance(NamedTuple):
    """All that is random in one round, drawn before: for K steps and for U N rows."""

    steps: Any
    numbers: jax.Array


def backup(target: Networks, batch: Transitions, actor: Network, critic: Network) -> jax.Array:
    """float32 [N]: r + gamma Q'(s', mu'(s'))."""
    action = actor.apply(target.actor, batch.next_obs)
    return batch.reward + batch.discount * critic.apply(target.critic, batch.next_obs, action)[0]


def critic_loss(params: Any, goal: jax.Array, batch: Transitions, critic: Network):
    """Half the squared error -> (scalar, mean of the values)."""
    value = critic.apply(params, batch.obs, batch.action)[0]
    return 0.5 * jnp.square(value - goal).mean(), value.mean()


def actor_loss(params: Any, values: Any, obs: jax.Array, actor: Network, critic: Network):
    """-Q(s, mu(s)), whose gradient is the deterministic policy gradient (Silver et al. 2014)."""
    return -critic.apply(values, obs, actor.apply(params, obs)).mean()


def make(env: Environment, config: Config = Config()) -> Agent:
    """DDPG for one environment.

    Raises:
      UsageError: a setting that cannot be, before anything compiles.
    """
    return _make(env, config)


@cached
def _make(env: Environment, config: Config) -> Agent:
    check(env, config)
    space = env.action_space
    assert isinstance(space, Box)
    size = space.low.size
    tower: dict[str, Any] = {"hidden_sizes": config.hidden_sizes, "activation": config.activation}
    actor = deterministic_actor(env.observation_space, space, **tower)
    critic = critics(env.observation_space, space, 1, layer_norm=config.layer_norm, **tower)
    env_action = to_env(space)
    num_envs, length = config.num_envs, config.unroll_length
    normalize_obs = config.normalize_obs and isinstance(env.observation_space, Box)
    rows = config.num_updates * config.batch_size
    first = first_round(config)  # that learns

    def optimizers(hparams: HParams) -> Networks:
        return Networks(
            optax.adam(hparams.actor_learning_rate), optax.adam(hparams.critic_learning_rate)
        )

    def init(key: Key, hparams: HParams) -> TrainState:
        actor_key, critic_key, env_key = jax.random.split(key, 3)
        params = Networks(actor.init(actor_key), critic.init(critic_key))
        adam = optimizers(hparams)
        states = Networks(adam.actor.init(params.actor), adam.critic.init(params.critic))
        shape = env.observation_space.shape if normalize_obs else ()
        # The target is a copy: the two are donated to the first iteration, each by itself.
        learner = Learner(params, jax.tree.map(jnp.copy, params), states, statistics.init(shape))
        action = jax.ShapeDtypeStruct((size,), jnp.float32)
        experience = begin(env_key, env, num_envs, config.capacity, action, hparams.env_params)
        return TrainState(learner, experience)

    def see(learner: Learner, obs: jax.Array) -> jax.Array:
        return statistics.normalize(learner.obs_stats, obs) if normalize_obs else obs

    def chance(key: Key, hparams: HParams) -> tuple[Restart, Chance]:
        """Where episodes start again, and all that is random in one iteration, leaves [R, ...]."""
        steps_key, rows_key = jax.random.split(key)
        restart, steps = chances(
            steps_key, env, num_envs, (config.num_rounds, length), hparams.env_params,
            config.reset_mode,
            lambda key, shape: action_noise(
                key, (*shape, num_envs, size), hparams.noise_correlation
            ),
        )  # fmt: skip
        return restart, Chance(steps, jax.random.bits(rows_key, (config.num_rounds, rows)))

    def live(drawn: Chance, number, learner: Learner, experience: Experience, restart, hparams):
        """K steps of every environment, into the ring; random ones before learning starts."""

        def behave(drawn, obs):
            noise, anything = drawn
            chosen = actor.apply(learner.params.actor, see(learner, obs))
            chosen = jnp.clip(chosen + hparams.exploration_noise * noise, -1.0, 1.0)
            action = jnp.where(number < first, anything, chosen)
            return env_action(action), action

        experience, obs, metrics = collect(
            drawn.steps, env, behave, experience, number * length, hparams.env_params, restart
        )
        if normalize_obs:
            stats = statistics.update(learner.obs_stats, obs)
            learner = replace(learner, obs_stats=stats)
        return learner, experience, metrics

    def learn(drawn: Chance, number, learner: Learner, experience: Experience, hparams: HParams):
        """U gradient steps on rows drawn at once."""
        replay, n = experience.replay, config.n_step
        index = ring.uniform(drawn.numbers, replay, (number + 1) * length, n)
        batch = ring.transitions(replay, index, n, hparams.discount)
        batch = batch._replace(
            obs=see(learner, batch.obs),
            next_obs=see(learner, batch.next_obs),
            reward=batch.reward * hparams.reward_scale,
        )
        adam = optimizers(hparams)

        def step(learner: Learner, batch: Transitions):
            params, target, states = learner.params, learner.target, learner.opt_states
            goal = backup(target, batch, actor, critic)
            gradient = jax.value_and_grad(critic_loss, has_aux=True)
            (loss, value), grads = gradient(params.critic, goal, batch, critic)
            updates, critic_state = adam.critic.update(grads, states.critic)
            values = optax.apply_updates(params.critic, updates)
            policy_loss, grads = jax.value_and_grad(actor_loss)(
                params.actor, values, batch.obs, actor, critic
            )
            updates, actor_state = adam.actor.update(grads, states.actor)
            params = Networks(optax.apply_updates(params.actor, updates), values)
            follow = functools.partial(optax.incremental_update, step_size=hparams.target_rate)
            target = Networks(follow(params.actor, target.actor), follow(values, target.critic))
            states = Networks(actor_state, critic_state)
            return Learner(params, target, states, learner.obs_stats), (loss, value, policy_loss)

        batches = batching.split(batch, config.num_updates)
        learner, (loss, value, policy_loss) = jax.lax.scan(step, learner, batches)
        return learner, {
            "loss/critic": loss.mean(),
            "value/mean": value.mean(),
            "loss/policy": policy_loss.mean(),
        }

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        learner, experience = state
        restart, drawn = chance(key, hparams)
        learner, experience, metrics = rounds(
            functools.partial(live, restart=restart, hparams=hparams),
            functools.partial(learn, hparams=hparams),
            learner, experience, drawn, clock, num_rounds=config.num_rounds, first=first,
        )  # fmt: skip
        return TrainState(learner, experience), metrics

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        del key, greedy  # the policy is deterministic; noise is for collecting
        return env_action(actor.apply(learner.params.actor, see(learner, obs))), carry

    steps = num_envs * length * config.num_rounds
    return Agent(
        init, update, act, lambda batch: (), HParams(), env, config, steps,
        first * num_envs * length, cpu_batch=1,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    check_actions(env.name, env.action_space, "DDPG")
    check_replay(config, config.n_step)
