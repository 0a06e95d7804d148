"""Soft actor-critic for discrete actions.

Christodoulou 2019, https://arxiv.org/abs/1910.07207, algorithm 1: expectations over all actions
take the place of samples (eq. 10 to 12).

Departures: time limits bootstrap from the true final observation; several environments at once;
the temperature is learnt as a logarithm; the entropy wanted is by default 0.3 log A, there 0.98.
Axes: B environments, R rounds of K steps, N rows of a batch, U gradient steps,
A actions, E = 2 critics.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.distributions import Categorical
from purerl.envs import Environment, Restart
from purerl.errors import UsageError, cached, check_settings
from purerl.experience import Experience, begin, collect, first_round, rounds
from purerl.networks import QFunction, check_q_function, check_torso, q_function
from purerl.ops import batching, q_learning
from purerl.replay import Transitions, check_replay, ring
from purerl.rollout import chances
from purerl.spaces import Discrete
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

    num_envs: int = 10  # environments stepped in parallel by one member
    unroll_length: int = 1  # steps of every environment in one round
    num_updates: int = 1  # gradient steps of one round
    num_rounds: int = 64  # rounds in one iteration
    batch_size: int = 128  # transitions of one gradient step
    capacity: int = 100_000  # steps that are kept, of all environments
    learning_starts: int = 1_000  # environment steps of random actions, before the first gradient
    temperature: Literal["learned", "fixed"] = "learned"  # weight of the entropy
    torso: Literal["mlp", "cnn"] = "mlp"  # dense layers, or a convolution before them
    hidden_sizes: tuple[int, ...] = (64, 64)  # features of each dense layer
    activation: Literal["tanh", "relu", "swish"] = "relu"  # after each layer
    layer_norm: bool = False  # before each activation
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    learning_rate: Magnitude = 5e-4  # Adam step size of all networks and of the temperature
    discount: Share = 0.99  # weight of the next step's value, gamma
    target_rate: Share = 0.01  # share of the critics in their targets, each gradient step
    target_entropy: Share = 0.3  # wanted, as a share of the greatest there is, log A
    initial_temperature: Magnitude = 1.0  # at first, or always if it is fixed
    reward_scale: float = 1.0  # multiplies rewards before learning
    env_params: EnvParams = {}  # overrides of the environment's float parameters


class Params(NamedTuple):
    """What gradients change: the actor, critics with leaves [E, ...], and the temperature."""

    actor: Any
    critics: Any
    log_temperature: jax.Array


@pytree
class Learner:
    """Networks, the critics' targets, and Adam's state."""

    params: Params
    target: Any
    opt_state: optax.OptState


class Chance(NamedTuple):
    """All that is random in one round, drawn before: for K steps and for U N rows."""

    steps: Any
    numbers: jax.Array


def policy(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Probabilities and their logarithms [N, A]: log-softmax, as 0 log 0 is not a number."""
    log_probs = jax.nn.log_softmax(logits)
    return jnp.exp(log_probs), log_probs


def backup(params: Params, target: Any, batch: Transitions, q: QFunction) -> jax.Array:
    """float32 [N]: r + gamma sum_a pi(a | s') (min Q'(s', a) - temperature log pi(a | s'))."""
    probs, log_probs = policy(q.apply(params.actor, batch.next_obs)[..., 0])
    value = jax.vmap(lambda p: q.apply(p, batch.next_obs)[..., 0])(target).min(0)
    soft = (probs * (value - jnp.exp(params.log_temperature) * log_probs)).sum(-1)
    return batch.reward + batch.discount * soft


def loss(
    params: Params, goal: jax.Array, batch: Transitions, q: QFunction, target_entropy: jax.Array
):
    """Losses of critics (as SAC), actor (eq. 12) and temperature (eq. 11) -> (scalar, metrics).

    One sum, as no two of them share a parameter that both would change.
    """
    value = jax.vmap(lambda p: q.apply(p, batch.obs)[..., 0])(params.critics)  # [E, N, A]
    chosen = jax.vmap(lambda v: q_learning.of_action(v, batch.action))(value)
    critic_loss = 0.5 * jnp.square(chosen - goal.reshape(1, -1)).mean(1).sum()
    probs, log_probs = policy(q.apply(params.actor, batch.obs)[..., 0])
    temperature = jax.lax.stop_gradient(jnp.exp(params.log_temperature))
    least = jax.lax.stop_gradient(value.min(0))
    actor_loss = (probs * (temperature * log_probs - least)).sum(-1).mean()
    entropy = -(probs * log_probs).sum(-1).mean()
    temperature_loss = params.log_temperature * jax.lax.stop_gradient(entropy - target_entropy)
    return critic_loss + actor_loss + temperature_loss, {
        "loss/critic": critic_loss,
        "loss/policy": actor_loss,
        "policy/entropy": entropy,
        "value/mean": value.mean(),
    }


def make(env: Environment, config: Config = Config(), q: QFunction | None = None) -> Agent:
    """Discrete SAC for one environment; a network of your own, for actor and critics, replaces the
    built-in one.

    Raises:
      UsageError: a setting that cannot be, before anything compiles.
    """
    return _make(env, config, q)


@cached
def _make(env: Environment, config: Config, q: QFunction | None) -> Agent:
    check(env, config)
    assert isinstance(env.action_space, Discrete)
    num_actions = env.action_space.n
    if q is not None:
        check_q_function(q, env.observation_space, num_actions)
    network = q or q_function(
        env.observation_space, num_actions, torso=config.torso, hidden_sizes=config.hidden_sizes,
        activation=config.activation, layer_norm=config.layer_norm,
    )  # fmt: skip
    num_envs, length = config.num_envs, config.unroll_length
    rows = config.num_updates * config.batch_size
    first = first_round(config)  # that learns

    def initial_log_temperature(hparams: HParams) -> jax.Array:
        # A temperature of 0 has no logarithm, and a learner must be finite.
        return jnp.log(jnp.maximum(jnp.float32(hparams.initial_temperature), 1e-30))

    def init(key: Key, hparams: HParams) -> TrainState:
        actor_key, critic_key, env_key = jax.random.split(key, 3)
        critics = jax.vmap(network.init)(jax.random.split(critic_key, 2))
        params = Params(network.init(actor_key), critics, initial_log_temperature(hparams))
        opt_state = optax.adam(hparams.learning_rate).init(params)
        # The target is a copy: the two are donated to the first iteration, each by itself.
        learner = Learner(params, jax.tree.map(jnp.copy, critics), opt_state)
        action = jax.ShapeDtypeStruct((), jnp.int32)
        experience = begin(env_key, env, num_envs, config.capacity, action, hparams.env_params)
        return TrainState(learner, experience)

    def chance(key: Key, params: EnvParams) -> tuple[Restart, Chance]:
        """Where episodes start again, and all that is random in one iteration, leaves [R, ...]."""
        steps_key, rows_key = jax.random.split(key)
        restart, steps = chances(
            steps_key, env, num_envs, (config.num_rounds, length), params, config.reset_mode,
            lambda key, shape: jax.random.gumbel(key, (*shape, num_envs, num_actions)),
        )  # fmt: skip
        return restart, Chance(steps, jax.random.bits(rows_key, (config.num_rounds, rows)))

    def live(drawn: Chance, number, learner: Learner, experience: Experience, restart, hparams):
        """K steps of every environment, into the ring; random ones before learning starts."""

        def behave(noise, obs):
            logits = network.apply(learner.params.actor, obs)[..., 0]
            logits = jnp.where(number < first, 0.0, logits)
            action = (logits + noise).argmax(-1).astype(jnp.int32)  # the Gumbel-max trick
            return action, action

        experience, _, metrics = collect(
            drawn.steps, env, behave, experience, number * length, hparams.env_params, restart
        )
        return learner, experience, metrics

    def learn(drawn: Chance, number, learner: Learner, experience: Experience, hparams: HParams):
        """U gradient steps on rows drawn at once."""
        index = ring.uniform(drawn.numbers, experience.replay, (number + 1) * length, 1)
        batch = ring.transitions(experience.replay, index, 1, hparams.discount)
        batch = batch._replace(reward=batch.reward * hparams.reward_scale)
        adam = optax.adam(hparams.learning_rate)
        wanted = hparams.target_entropy * jnp.log(float(num_actions))

        def step(learner: Learner, batch: Transitions):
            params = learner.params
            goal = backup(params, learner.target, batch, network)
            grads, terms = jax.grad(loss, has_aux=True)(params, goal, batch, network, wanted)
            if config.temperature == "fixed":
                grads = grads._replace(log_temperature=jnp.zeros(()))
            updates, opt_state = adam.update(grads, learner.opt_state)
            params: Any = optax.apply_updates(params, updates)
            target = optax.incremental_update(params.critics, learner.target, hparams.target_rate)
            return Learner(params, target, opt_state), terms

        learner, terms = jax.lax.scan(step, learner, batching.split(batch, config.num_updates))
        return learner, {name: x.mean() for name, x in terms.items()}

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        learner, experience = state
        if config.temperature == "fixed":  # at what population-based training may have changed
            params = learner.params._replace(log_temperature=initial_log_temperature(hparams))
            learner = replace(learner, params=params)
        restart, drawn = chance(key, hparams.env_params)
        learner, experience, metrics = rounds(
            functools.partial(live, restart=restart, hparams=hparams),
            functools.partial(learn, hparams=hparams),
            learner, experience, drawn, clock, num_rounds=config.num_rounds, first=first,
        )  # fmt: skip
        metrics |= {"policy/temperature": jnp.exp(learner.params.log_temperature)}
        return TrainState(learner, experience), metrics

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        chosen = Categorical(network.apply(learner.params.actor, obs)[..., 0])
        return chosen.mode() if greedy else chosen.sample(key), carry

    steps = num_envs * length * config.num_rounds
    return Agent(
        init, update, act, lambda batch: (), HParams(), env, config, steps,
        first * num_envs * length, own_network=q is not None,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    if not isinstance(env.action_space, Discrete):
        raise UsageError(
            f"env={env.name!r}: discrete SAC needs discrete actions, not {env.action_space}"
        )
    check_torso(config.torso, env.observation_space)
    check_replay(config)
