"""Proximal policy optimisation with the clipped surrogate (PPO).

Schulman et al. 2017, https://arxiv.org/abs/1707.06347, algorithm 1, eq. 7 and 9; implementation
details of Huang et al. 2022, https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details.

Departures: time limits bootstrap from the true final observation; value clipping is off by default.
Axes: T steps, B environments, N rows of a minibatch, L steps of a row (T with memory, 1 without).
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from purerl.envs import Environment, VectorState, reset_batch
from purerl.errors import UsageError, cached, check_settings
from purerl.networks import Policy, actor_critic, check_policy, check_torso
from purerl.ops import batching, returns, statistics
from purerl.rollout import successor_values, unroll
from purerl.spaces import Box
from purerl.types import Agent, Clock, EnvParams, Key, Magnitude, Metrics, Share, TrainState, pytree


@dataclass(frozen=True)
class Config:
    """Static settings: shapes, loop lengths and structure. A new value recompiles."""

    num_envs: int = 64  # environments stepped in parallel by one member
    unroll_length: int = 128  # steps of every environment between updates
    num_epochs: int = 4  # passes over the collected steps
    num_minibatches: int = 4  # gradient steps of one pass
    torso: Literal["mlp", "cnn"] = "mlp"  # dense layers, or a convolution before them
    hidden_sizes: tuple[int, ...] = (64, 64)  # features of each dense layer
    activation: Literal["tanh", "relu", "swish"] = "tanh"  # after each layer
    shared_torso: bool = False  # one torso for actor and critic instead of one each
    core: Literal["none", "gru", "lstm"] = "none"  # memory between torso and heads
    core_size: int = 64  # units of that memory
    squash: bool = False  # continuous actions: tanh-squashed instead of clipped normal
    initial_log_std: float = 0.0  # continuous actions, in half action ranges
    normalize_obs: bool = False  # by the running mean and variance
    normalize_reward: bool = False  # divide by the deviation of the discounted sum
    normalize_advantage: bool = True  # standardise advantages within a minibatch
    clip_value: bool = False  # clip the change of the value prediction by value_clip_eps
    schedule: Literal["constant", "linear"] = "constant"  # learning rate over the run
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    learning_rate: Magnitude = 3e-4  # Adam step size
    discount: Share = 0.99  # weight of the next step's value, gamma
    gae_lambda: Share = 0.95  # trace decay of generalised advantage estimation
    clip_eps: Magnitude = 0.2  # the probability ratio counts up to 1 +- this
    value_coef: Magnitude = 0.5  # weight of the value loss
    entropy_coef: float = 0.01  # weight of the entropy bonus
    max_grad_norm: Magnitude = 0.5  # gradients are scaled down to at most this global norm
    target_kl: Magnitude = float("inf")  # past this, the iteration's remaining updates are skipped
    value_clip_eps: Magnitude = 0.2  # with clip_value: the value may change by +- this
    reward_scale: float = 1.0  # multiplies rewards before learning
    env_params: EnvParams = {}  # overrides of the environment's float parameters


@pytree
class Learner:
    """Parameters, Adam's state, and running statistics.

    Those of observations stay while a batch is used; those of returns have it in them already.
    """

    params: Any
    opt_state: optax.OptState
    obs_stats: statistics.Running
    return_stats: statistics.Running


@pytree
class Actor:
    """Environments, the policy's memory, and the discounted return so far, each [B, ...]."""

    env: VectorState
    carry: Any
    discounted: jax.Array


@pytree
class Batch:
    """What is learnt from: rows [N, L, ...], and the memory [N, ...] each row began with."""

    obs: jax.Array
    start: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    value_target: jax.Array
    carry: Any


def optimizer(config: Config, hparams: HParams, clock: Clock) -> optax.GradientTransformation:
    """Global-norm clipping, then Adam; the schedule's horizon is the run, counted in iterations."""
    left = 1.0 - clock.step / clock.total if config.schedule == "linear" else 1.0
    clip = optax.clip_by_global_norm(hparams.max_grad_norm)
    return optax.chain(clip, optax.adam(hparams.learning_rate * left, eps=1e-5))


def loss(params: Any, batch: Batch, policy: Policy, config: Config, hparams: HParams, key: Key):
    """Clipped surrogate + value error - entropy bonus (eq. 9) -> (scalar, metrics)."""
    by_time = lambda x: jnp.swapaxes(x, 0, 1)
    obs, start = by_time(batch.obs), by_time(batch.start)
    _, distribution, value = policy.unroll(params, batch.carry, obs, start)  # [L, N]
    log_ratio = distribution.log_prob(by_time(batch.action)) - by_time(batch.log_prob)
    ratio = jnp.exp(log_ratio)
    advantage = by_time(batch.advantage)
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = jnp.clip(ratio, 1.0 - hparams.clip_eps, 1.0 + hparams.clip_eps)
    policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()

    target, old = by_time(batch.value_target), by_time(batch.value)
    error = jnp.square(value - target)
    if config.clip_value:
        near = old + jnp.clip(value - old, -hparams.value_clip_eps, hparams.value_clip_eps)
        error = jnp.maximum(error, jnp.square(near - target))
    value_loss = 0.5 * error.mean()
    entropy = distribution.entropy(key).mean()
    total = policy_loss + hparams.value_coef * value_loss - hparams.entropy_coef * entropy
    return total, {
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "policy/entropy": entropy,
        "policy/kl": (ratio - 1.0 - log_ratio).mean(),  # Schulman's k3 estimator
        "policy/clip_fraction": (jnp.abs(ratio - 1.0) > hparams.clip_eps).mean(),
        "policy/ratio_error": jnp.abs(ratio - 1.0).max(),
    }


def make(env: Environment, config: Config = Config(), policy: Policy | None = None) -> Agent:
    """PPO for one environment; a policy of your own replaces the built-in actor-critic.

    Raises:
      UsageError: a setting that cannot be, before anything compiles.
    """
    return _make(env, config, policy)


@cached
def _make(env: Environment, config: Config, policy: Policy | None) -> Agent:
    check(env, config)
    normalize_obs = config.normalize_obs and isinstance(env.observation_space, Box)
    own = policy is not None
    if policy is not None:
        check_policy(policy, env.observation_space, env.action_space)
    policy = policy or actor_critic(
        env.observation_space, env.action_space, torso=config.torso,
        hidden_sizes=config.hidden_sizes, activation=config.activation,
        shared=config.shared_torso, core=config.core, core_size=config.core_size,
        squash=config.squash, initial_log_std=config.initial_log_std,
    )  # fmt: skip
    recurrent = bool(jax.tree.leaves(policy.initial_carry(1)))
    num_envs, length = config.num_envs, config.unroll_length
    # Without memory a row is one step of one environment; with it, all steps of one.
    rows, row_length = (num_envs, length) if recurrent else (num_envs * length, 1)
    if config.normalize_advantage and config.num_minibatches == num_envs * length:
        raise UsageError(
            f"num_minibatches={config.num_minibatches}: leaves one step in each, whose advantage "
            "normalize_advantage makes 0"
        )
    if rows % config.num_minibatches:
        unit = "num_envs (with memory, whole ones)" if recurrent else "num_envs * unroll_length"
        raise UsageError(f"num_minibatches={config.num_minibatches}: must divide {unit} = {rows}")

    def init(key: Key, hparams: HParams) -> TrainState:
        params_key, env_key = jax.random.split(key)
        params = policy.init(params_key)
        opt_state = optimizer(config, hparams, Clock(jnp.int32(0), jnp.int32(1))).init(params)
        obs_stats = statistics.init(env.observation_space.shape if normalize_obs else ())
        learner = Learner(params, opt_state, obs_stats, statistics.init())
        world = reset_batch(env_key, env, num_envs, hparams.env_params)
        actor = Actor(world, policy.initial_carry(num_envs), jnp.zeros(num_envs))
        return TrainState(learner, actor)

    def see(learner: Learner, obs: jax.Array) -> jax.Array:
        return statistics.normalize(learner.obs_stats, obs) if normalize_obs else obs

    def collect(key: Key, state: TrainState, hparams: HParams):
        """T steps of every environment and what they were worth -> (state, batch, metrics)."""
        learner, actor = state
        params = learner.params

        def behave(key, carry, obs, start):
            carry, distribution, value = policy.step(params, carry, see(learner, obs), start)
            action = distribution.sample(key)
            extras = (action, distribution.log_prob(action), value)
            return carry, policy.env_action(distribution.squash(action)), extras

        world, carry, rollout, metrics = unroll(
            key, env, behave, actor.env, actor.carry, length=length,
            params=hparams.env_params, reset_mode=config.reset_mode,
        )  # fmt: skip
        action, log_prob, value = rollout.extras
        _, _, last = policy.step(params, carry, see(learner, world.obs), world.start)
        final_carry, final_obs = rollout.final
        never = jnp.zeros(num_envs, bool)
        bootstrap = lambda carry, obs: policy.step(params, carry, see(learner, obs), never)[2]
        final = jax.vmap(bootstrap)(final_carry, final_obs)

        reward, return_stats = rollout.reward * hparams.reward_scale, learner.return_stats
        discounted = actor.discounted
        if config.normalize_reward:
            discounted, sums = returns.discounted_sum(
                reward, rollout.start, hparams.discount, discounted
            )
            return_stats = statistics.update(return_stats, sums)
            reward = reward * jax.lax.rsqrt(return_stats.variance + 1e-8)
        next_value = successor_values(value, last, final, rollout)
        advantage = returns.generalized_advantage(
            reward, value, next_value, rollout.terminated, rollout.done,
            hparams.discount, hparams.gae_lambda,
        )  # fmt: skip

        def as_rows(x):  # [T, B, ...] -> [rows, L, ...]
            x = jnp.swapaxes(x, 0, 1) if recurrent else x
            return x.reshape(rows, row_length, *x.shape[2:])

        batch = jax.tree.map(as_rows, Batch(
            see(learner, rollout.obs), rollout.start, action, log_prob, value, advantage,
            advantage + value, carry=(),
        ))  # fmt: skip
        batch = replace(batch, carry=actor.carry if recurrent else ())
        obs_stats = learner.obs_stats
        obs_stats = statistics.update(obs_stats, rollout.obs) if normalize_obs else obs_stats
        learner = replace(learner, obs_stats=obs_stats, return_stats=return_stats)
        return TrainState(learner, Actor(world, carry, discounted)), batch, metrics

    def learn(
        shuffle_key: Key, loss_key: Key, learner: Learner, batch: Batch, hparams: HParams,
        clock: Clock,
    ) -> tuple[Learner, Metrics]:  # fmt: skip
        """Epochs of minibatches, until the policy has moved by target_kl."""
        packed, unpack = batching.pack(batch)
        adam = optimizer(config, hparams, clock)

        def minibatch(scanned, now):
            learning, stop = scanned
            index, key = now
            chosen = unpack(batching.take(packed, index))
            params, opt_state = learning
            gradient = jax.grad(loss, has_aux=True)
            grads, terms = gradient(params, chosen, policy, config, hparams, key)
            updates, opt_state = adam.update(grads, opt_state, params)
            stepped = optax.apply_updates(params, updates), opt_state
            stop |= terms["policy/kl"] > hparams.target_kl
            learning = jax.tree.map(lambda old, new: jnp.where(stop, old, new), learning, stepped)
            return (learning, stop), terms

        steps = config.num_epochs * config.num_minibatches
        if recurrent:
            permutation = lambda key: jax.random.permutation(key, rows)
            order = jax.vmap(permutation)(jax.random.split(shuffle_key, config.num_epochs))
        else:
            order = batching.shuffles(shuffle_key, config.num_epochs, length, num_envs)
        order = order.reshape(steps, rows // config.num_minibatches)
        learning = (learner.params, learner.opt_state), jnp.bool_(False)
        now = order, jax.random.split(loss_key, steps)
        ((params, opt_state), _), terms = jax.lax.scan(minibatch, learning, now)
        metrics = {name: x.mean() for name, x in terms.items()}
        # Nothing has been learnt yet in the first minibatch: rollout and loss must agree there.
        metrics["policy/ratio_error"] = terms["policy/ratio_error"][0]
        return replace(learner, params=params, opt_state=opt_state), metrics

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        rollout_key, shuffle_key, loss_key = jax.random.split(key, 3)
        (learner, actor), batch, metrics = collect(rollout_key, state, hparams)
        learner, terms = learn(shuffle_key, loss_key, learner, batch, hparams, clock)
        return TrainState(learner, actor), metrics | terms

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        never = jnp.zeros(obs.shape[0], bool)
        carry, distribution, _ = policy.step(learner.params, carry, see(learner, obs), never)
        action = distribution.mode() if greedy else distribution.sample(key)
        return policy.env_action(distribution.squash(action)), carry

    return Agent(
        init, update, act, policy.initial_carry, HParams(), env, config, num_envs * length,
        own_network=own,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    check_torso(config.torso, env.observation_space)
    space = env.action_space
    if isinstance(space, Box) and not np.issubdtype(space.dtype, np.floating):
        raise UsageError(f"env={env.name!r}: PPO needs float actions in a Box, not {space.dtype}")
    if config.squash and not (isinstance(env.action_space, Box) and env.action_space.bounded):
        raise UsageError(f"squash=True: needs bounded continuous actions, not {env.action_space}")
