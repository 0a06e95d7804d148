"""Soft actor-critic (SAC) with a learnt temperature, for continuous actions.

Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905, algorithm 1 and eq. 5, 7 and 18. Options:
delayed policies (Fujimoto et al. 2018), many critics of which a random subset makes the target
(REDQ, Chen et al. 2021, https://arxiv.org/abs/2101.05982) and dropout with LayerNorm in the critics
(DroQ, Hiraoka et al. 2022, https://arxiv.org/abs/2110.02034), and noise that lasts
(`experience.action_noise`).

Departures: time limits bootstrap from the true final observation; several environments at once;
the temperature is learnt as a logarithm. Actions and entropies are those in [-1, 1].
Axes: B environments, R rounds of K steps, N rows of a batch, U gradient steps,
A action dimensions, E critics.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.envs import Environment, Restart
from purerl.errors import UsageError, cached, check_settings
from purerl.experience import Experience, action_noise, begin, collect, first_round, rounds
from purerl.networks import Network, check_actions, critics, tanh_normal_actor, to_env
from purerl.ops import batching, statistics
from purerl.replay import Transitions, check_replay, ring
from purerl.rollout import chances
from purerl.spaces import Box
from purerl.types import Agent, Clock, EnvParams, Key, Magnitude, Metrics, Share, TrainState, pytree


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
    n_step: int = 1  # rewards summed before the value of what follows; without their entropies
    policy_period: int = 1  # gradient steps of the critics for each one of the actor
    num_critics: int = 2  # independent critics
    target_critics: int = 2  # of them, drawn each time; their least value counts
    actor_values: Literal["min", "mean"] = "min"  # of the critics: what the actor climbs
    temperature: Literal["learned", "fixed"] = "learned"  # weight of the entropy
    hidden_sizes: tuple[int, ...] = (256, 256)  # features of each dense layer
    activation: Literal["tanh", "relu", "swish"] = "relu"  # after each layer
    layer_norm: bool = False  # in the critics, before each activation
    dropout: float = 0.0  # share of the critics' features left out while learning
    normalize_obs: bool = False  # by the running mean and variance
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    critic_learning_rate: Magnitude = 1e-3  # Adam step size of the critics
    actor_learning_rate: Magnitude = 3e-4  # of the actor
    temperature_learning_rate: Magnitude = 3e-4  # of the logarithm of the temperature
    discount: Share = 0.99  # weight of the next step's value, gamma
    target_rate: Share = 0.005  # share of the critics in their targets, each gradient step
    target_entropy: float = -1.0  # wanted of each action dimension, in nats
    initial_temperature: Magnitude = 1.0  # at first, or always if it is fixed
    noise_correlation: Share = 0.0  # of exploring noise, from a step to the next of an iteration
    reward_scale: float = 1.0  # multiplies rewards before learning
    env_params: EnvParams = {}  # overrides of the environment's float parameters


class Params(NamedTuple):
    """What gradients change: actor, critics with leaves [E, ...], the temperature's logarithm."""

    actor: Any
    critics: Any
    log_temperature: Any


@pytree
class Learner:
    """Networks and temperature, the critics' targets, and the Adam state of each."""

    params: Params
    target: Any
    opt_states: Params
    obs_stats: statistics.Running


class Draw(NamedTuple):
    """All that is random in U gradient steps, leaves [U, ...]."""

    following: jax.Array  # [N, A] standard normal, for the next actions
    fresh: jax.Array  # [N, A] likewise, for those of the actor's loss
    chosen: jax.Array  # [E] whose ranks choose the critics of the target
    keys: Key  # [3] for dropout: of the target, of the critics' loss, of the actor's


class Chance(NamedTuple):
    """All that is random in one round, drawn before: for K steps, for U N rows, for U steps."""

    steps: Any
    numbers: jax.Array
    draws: Draw


def sample(actor: Network, params: Any, obs: jax.Array, noise: jax.Array):
    """Reparameterised actions [N, A] in [-1, 1] and their log-densities [N]."""
    policy = actor.apply(params, obs)
    before = policy.mean + jnp.exp(policy.log_std) * noise
    return jnp.tanh(before), policy.log_prob(before)


def backup(
    params: Params, target: Any, batch: Transitions, actor: Network, critics: Network,
    config: Config, draw: Draw,
) -> jax.Array:  # fmt: skip
    """float32 [N]: r + gamma (min Q'(s', a') - temperature log pi(a' | s')) (eq. 3 and 5)."""
    action, log_prob = sample(actor, params.actor, batch.next_obs, draw.following)
    dropout = (draw.keys[0],) if config.dropout else ()
    value = critics.apply(target, batch.next_obs, action, *dropout)
    if config.target_critics < config.num_critics:
        rank = (draw.chosen.reshape(-1, 1) > draw.chosen.reshape(1, -1)).sum(1)
        value = jnp.where((rank < config.target_critics).reshape(-1, 1), value, jnp.inf)
    soft = value.min(0) - jnp.exp(params.log_temperature) * log_prob
    return batch.reward + batch.discount * soft


def critic_loss(
    params: Any, goal: jax.Array, batch: Transitions, critics: Network, config: Config, draw: Draw
):
    """Half the squared error of every critic, summed over them (eq. 5) -> (scalar, their mean)."""
    dropout = (draw.keys[1],) if config.dropout else ()
    value = critics.apply(params, batch.obs, batch.action, *dropout)
    return 0.5 * jnp.square(value - goal.reshape(1, -1)).mean(1).sum(), value.mean()


def actor_loss(
    policy: Any, params: Params, obs: jax.Array, actor: Network, critics: Network,
    config: Config, draw: Draw,
):  # fmt: skip
    """temperature log pi(a | s) - Q(s, a) for fresh a (eq. 7) -> (scalar, mean of log pi)."""
    action, log_prob = sample(actor, policy, obs, draw.fresh)
    dropout = (draw.keys[2],) if config.dropout else ()
    value = critics.apply(params.critics, obs, action, *dropout)
    value = value.min(0) if config.actor_values == "min" else value.mean(0)
    temperature = jnp.exp(params.log_temperature)
    return (temperature * log_prob - value).mean(), log_prob.mean()


def temperature_gradient(log_prob: jax.Array, target_entropy: jax.Array | float) -> jax.Array:
    """Of -log_temperature (log pi + H), with respect to it (eq. 18; its logarithm for itself).

    Both have the same fixed point; the steps of the logarithm do not shrink with the temperature.
    """
    return -(log_prob + target_entropy)


def make(env: Environment, config: Config = Config()) -> Agent:
    """SAC for one environment.

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
    actor = tanh_normal_actor(env.observation_space, space, **tower)
    critic = critics(
        env.observation_space, space, config.num_critics, layer_norm=config.layer_norm,
        dropout=config.dropout, **tower,
    )  # fmt: skip
    env_action = to_env(space)
    num_envs, length = config.num_envs, config.unroll_length
    normalize_obs = config.normalize_obs and isinstance(env.observation_space, Box)
    rows = config.num_updates * config.batch_size
    first = first_round(config)  # that learns

    def optimizers(hparams: HParams) -> Params:
        return Params(
            optax.adam(hparams.actor_learning_rate),
            optax.adam(hparams.critic_learning_rate),
            optax.adam(hparams.temperature_learning_rate),
        )

    def initial_log_temperature(hparams: HParams) -> jax.Array:
        # A temperature of 0 has no logarithm, and a learner must be finite.
        return jnp.log(jnp.maximum(jnp.float32(hparams.initial_temperature), 1e-30))

    def init(key: Key, hparams: HParams) -> TrainState:
        actor_key, critic_key, env_key = jax.random.split(key, 3)
        params = Params(
            actor.init(actor_key), critic.init(critic_key), initial_log_temperature(hparams)
        )
        states = Params(
            *(adam.init(p) for adam, p in zip(optimizers(hparams), params, strict=True))
        )
        shape = env.observation_space.shape if normalize_obs else ()
        # The target is a copy: the two are donated to the first iteration, each by itself.
        target = jax.tree.map(jnp.copy, params.critics)
        learner = Learner(params, target, states, statistics.init(shape))
        action = jax.ShapeDtypeStruct((size,), jnp.float32)
        experience = begin(env_key, env, num_envs, config.capacity, action, hparams.env_params)
        return TrainState(learner, experience)

    def see(learner: Learner, obs: jax.Array) -> jax.Array:
        return statistics.normalize(learner.obs_stats, obs) if normalize_obs else obs

    def chance(key: Key, hparams: HParams) -> tuple[Restart, Chance]:
        """Where episodes start again, and all that is random in one iteration, leaves [R, ...]."""
        steps_key, rows_key, noise_key, chosen_key, dropout_key = jax.random.split(key, 5)
        updates = config.num_rounds, config.num_updates
        restart, steps = chances(
            steps_key, env, num_envs, (config.num_rounds, length), hparams.env_params,
            config.reset_mode,
            lambda key, shape: action_noise(
                key, (*shape, num_envs, size), hparams.noise_correlation
            ),
        )  # fmt: skip
        noise = jax.random.normal(noise_key, (2, *updates, config.batch_size, size))
        chosen = jax.random.uniform(chosen_key, (*updates, config.num_critics))
        draws = Draw(noise[0], noise[1], chosen, jax.random.split(dropout_key, (*updates, 3)))
        return restart, Chance(steps, jax.random.bits(rows_key, (config.num_rounds, rows)), draws)

    def live(drawn: Chance, number, learner: Learner, experience: Experience, restart, hparams):
        """K steps of every environment, into the ring; random ones before learning starts."""

        def behave(drawn, obs):
            noise, anything = drawn
            chosen, _ = sample(actor, learner.params.actor, see(learner, obs), noise)
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

        def improve(params: Params, states: Params, obs, draw):
            """A step of the actor and of the temperature."""
            gradient = jax.value_and_grad(actor_loss, has_aux=True)
            (loss, log_prob), grads = gradient(
                params.actor, params, obs, actor, critic, config, draw
            )
            updates, state = adam.actor.update(grads, states.actor)
            params = params._replace(actor=optax.apply_updates(params.actor, updates))
            states = states._replace(actor=state)
            if config.temperature == "learned":
                grad = temperature_gradient(log_prob, size * hparams.target_entropy)
                change, state = adam.log_temperature.update(grad, states.log_temperature)
                params = params._replace(log_temperature=params.log_temperature + change)
                states = states._replace(log_temperature=state)
            return params, states, (loss, -log_prob)

        def step(learner: Learner, now):
            batch, draw, count = now
            params, states = learner.params, learner.opt_states
            # Once, not in each kernel that reads it: those XLA would split over threads, each time
            # moving what follows to another core.
            goal = jax.lax.optimization_barrier(
                backup(params, learner.target, batch, actor, critic, config, draw)
            )
            gradient = jax.value_and_grad(critic_loss, has_aux=True)
            (loss, value), grads = gradient(params.critics, goal, batch, critic, config, draw)
            updates, state = adam.critics.update(grads, states.critics)
            params = params._replace(critics=optax.apply_updates(params.critics, updates))
            states = states._replace(critics=state)
            target = optax.incremental_update(params.critics, learner.target, hparams.target_rate)
            ask = lambda: improve(params, states, batch.obs, draw)
            if config.policy_period == 1:
                params, states, terms = ask()
            else:
                nothing = jnp.float32(0.0), jnp.float32(0.0)
                due, skip = count % config.policy_period == 0, lambda: (params, states, nothing)
                params, states, terms = jax.lax.cond(due, ask, skip)
            return Learner(params, target, states, learner.obs_stats), (loss, value, *terms)

        counts = (number - first) * config.num_updates + 1 + jnp.arange(config.num_updates)
        now = batching.split(batch, config.num_updates), drawn.draws, counts
        learner, (loss, value, policy_loss, entropy) = jax.lax.scan(step, learner, now)
        return learner, {
            "loss/critic": loss.mean(),
            "value/mean": value.mean(),
            # Zero where the actor waits: of every policy_period steps one counts.
            "loss/policy": config.policy_period * policy_loss.mean(),
            "policy/entropy": config.policy_period * entropy.mean(),
        }

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        learner, experience = state
        if config.temperature == "fixed":  # at what population-based training may have changed
            params = learner.params._replace(log_temperature=initial_log_temperature(hparams))
            learner = replace(learner, params=params)
        restart, drawn = chance(key, hparams)
        learner, experience, metrics = rounds(
            functools.partial(live, restart=restart, hparams=hparams),
            functools.partial(learn, hparams=hparams),
            learner, experience, drawn, clock, num_rounds=config.num_rounds, first=first,
        )  # fmt: skip
        metrics |= {"policy/temperature": jnp.exp(learner.params.log_temperature)}
        return TrainState(learner, experience), metrics

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        shape = obs.shape[0], size
        noise = jnp.zeros(shape) if greedy else jax.random.normal(key, shape)
        action, _ = sample(actor, learner.params.actor, see(learner, obs), noise)
        return env_action(action), carry

    steps = num_envs * length * config.num_rounds
    return Agent(
        init, update, act, lambda batch: (), HParams(), env, config, steps,
        first * num_envs * length, cpu_batch=1,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    check_actions(env.name, env.action_space, "SAC")
    check_replay(config, config.n_step)
    if config.target_critics > config.num_critics:
        raise UsageError(
            f"target_critics={config.target_critics}: must be at most "
            f"num_critics={config.num_critics}"
        )
    if not 0.0 <= config.dropout < 1.0:
        raise UsageError(f"dropout={config.dropout}: must be from 0 to below 1")
