"""Deep Q-learning (DQN) and what has been added to it, up to Rainbow.

Mnih et al. 2015, https://doi.org/10.1038/nature14236, algorithm 1. Options: double (van Hasselt et
al. 2016), dueling (Wang et al. 2016), n-step returns, prioritised replay (Schaul et al. 2016),
noisy networks (Fortunato et al. 2018), categorical (C51, Bellemare et al. 2017) and quantile
(QR-DQN, Dabney et al. 2018) distributions of returns. All of them but the last together are Rainbow
(Hessel et al. 2018).

Departures: time limits bootstrap from the true final observation; several environments at once.
Axes: B environments, K steps, N rows of a batch, U gradient steps, A actions, Z atoms.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.envs import Environment, Restart, VectorState, reset_batch, restarts
from purerl.errors import UsageError, check_settings
from purerl.networks import QFunction, check_torso, q_function
from purerl.ops import q_learning
from purerl.replay import Priorities, Ring, Steps, check_capacity, priorities, ring
from purerl.rollout import chances, play
from purerl.spaces import Discrete
from purerl.types import Agent, Clock, EnvParams, Key, Metrics, TrainState, pytree


@dataclass(frozen=True)
class Config:
    """Static settings: shapes, loop lengths and structure. A new value recompiles."""

    num_envs: int = 10  # environments stepped in parallel by one member
    unroll_length: int = 1  # steps of every environment in one round, then
    num_updates: int = 1  # gradient steps
    num_rounds: int = 64  # rounds in one iteration
    batch_size: int = 128  # transitions of one gradient step
    capacity: int = 10_000  # steps that are kept, of all environments
    learning_starts: int = 1_000  # environment steps before the first gradient step
    target_period: int = 50  # gradient steps between updates of the target network
    n_step: int = 1  # rewards summed before the value of what follows
    double: bool = True  # the network chooses the next action, its target values it
    dueling: bool = False  # value and advantages apart
    prioritized: bool = False  # draw what was wrong more often
    noisy: bool = False  # explore by learnt noise in the dense layers, without epsilon
    distribution: Literal["none", "categorical", "quantile"] = "none"  # of returns: C51 or QR-DQN
    atoms: int = 51  # of that distribution
    v_min: float = 0.0  # lowest return of a categorical distribution
    v_max: float = 100.0  # highest
    loss: Literal["squared", "huber"] = "squared"  # without distribution; Huber takes medians
    torso: Literal["mlp", "cnn"] = "mlp"  # dense layers, or a convolution before them
    hidden_sizes: tuple[int, ...] = (64, 64)  # features of each dense layer
    activation: Literal["tanh", "relu", "swish"] = "relu"  # after each layer
    layer_norm: bool = False  # before each activation
    schedule: Literal["constant", "linear"] = "constant"  # learning rate over the run
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    learning_rate: float = 2.5e-4  # Adam step size
    discount: float = 0.99  # weight of the next step's value, gamma
    target_rate: float = 1.0  # share of the network in its target at each update; 1 copies
    epsilon_end: float = 0.05  # probability of a random action, after
    exploration_fraction: float = 0.5  # this part of the run; it begins with 1
    max_grad_norm: float = 10.0  # gradients are scaled down to at most this global norm
    kappa: float = 1.0  # quantile distribution: errors up to this are squared, which blurs it
    priority_exponent: float = 0.6  # 0 draws uniformly
    importance_exponent: float = 0.4  # correction of what is drawn too often; 1 at the end
    reward_scale: float = 1.0  # multiplies rewards before learning
    env_params: EnvParams = {}  # overrides of the environment's float parameters


@pytree
class Learner:
    """The network, its target, Adam's state, and the epsilon it explores with."""

    params: Any
    target: Any
    opt_state: optax.OptState
    epsilon: jax.Array


@pytree
class Actor:
    """Environments [B, ...], their last steps, and how often each of those is to be drawn."""

    env: VectorState
    replay: Ring
    priorities: Priorities | tuple[()]


class Chance(NamedTuple):
    """All that is random in one round, drawn before: for K steps, for U N rows, for U losses."""

    steps: Any
    numbers: jax.Array
    keys: Key


class Batch(NamedTuple):
    """Rows [N, ...] of one gradient step: `discount` is that of the value of `next_obs`."""

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    next_obs: jax.Array
    discount: jax.Array
    weight: jax.Array


def optimizer(config: Config, hparams: HParams, clock: Clock) -> optax.GradientTransformation:
    """Global-norm clipping, then Adam; the schedule's horizon is the run, counted in iterations."""
    left = 1.0 - clock.step / clock.total if config.schedule == "linear" else 1.0
    clip = optax.clip_by_global_norm(hparams.max_grad_norm)
    return optax.chain(clip, optax.adam(hparams.learning_rate * left))


def expected(out: jax.Array, config: Config) -> jax.Array:
    """The network's [N, A, Z] -> values [N, A]."""
    if config.distribution == "categorical":
        atoms = q_learning.support(config.v_min, config.v_max, config.atoms)
        return jax.nn.softmax(out) @ atoms
    return out.mean(-1)


def backup(params: Any, target: Any, batch: Batch, q: QFunction, config: Config, keys: Key):
    """What the values of the actions taken should have been: [N, Z], of the kind that is learnt."""
    out = q.apply(target, batch.next_obs, keys[0])
    judge = q.apply(params, batch.next_obs, keys[1]) if config.double else out
    following = q_learning.of_action(out, expected(judge, config).argmax(1))
    reward, discount = batch.reward.reshape(-1, 1), batch.discount.reshape(-1, 1)
    if config.distribution == "categorical":
        atoms = q_learning.support(config.v_min, config.v_max, config.atoms)
        moved = reward + discount * atoms.reshape(1, -1)
        return q_learning.project(moved, jax.nn.softmax(following), atoms)
    return reward + discount * following


def loss(
    params: Any, goal: jax.Array, batch: Batch, q: QFunction, config: Config, kappa: Any, key: Key
):
    """Distance of the values of the actions taken from `goal` [N, Z] -> (scalar, (errors, ...))."""
    out = q.apply(params, batch.obs, key)
    chosen = q_learning.of_action(out, batch.action)
    if config.distribution == "categorical":
        losses = errors = q_learning.cross_entropy(chosen, goal)
    elif config.distribution == "quantile":
        losses = errors = q_learning.quantile_huber(chosen, goal, kappa)
    else:
        errors = chosen[:, 0] - goal[:, 0]
        losses = q_learning.huber(errors) if config.loss == "huber" else 0.5 * errors**2
    return (batch.weight * losses).mean(), (jnp.abs(errors), expected(out, config))


def make(env: Environment, config: Config = Config(), q: QFunction | None = None) -> Agent:
    """DQN for one environment; a network of your own replaces the built-in one.

    Raises:
      UsageError: a setting that cannot be, before anything compiles.
    """
    return _make(env, config, q)


@functools.cache  # so that equal settings give the same agent, compiled once
def _make(env: Environment, config: Config, q: QFunction | None) -> Agent:
    check(env, config)
    assert isinstance(env.action_space, Discrete)
    num_actions = env.action_space.n
    q = q or q_function(
        env.observation_space, num_actions, torso=config.torso,
        atoms=1 if config.distribution == "none" else config.atoms,
        hidden_sizes=config.hidden_sizes, activation=config.activation,
        layer_norm=config.layer_norm, dueling=config.dueling, noisy=config.noisy,
    )  # fmt: skip
    num_envs, length, n = config.num_envs, config.unroll_length, config.n_step
    rows, capacity = config.num_updates * config.batch_size, config.capacity // num_envs
    first = -(-config.learning_starts // (num_envs * length))  # the round that learns first
    limit = env.max_episode_steps

    def init(key: Key, hparams: HParams) -> TrainState:
        params_key, env_key = jax.random.split(key)
        params = q.init(params_key)
        opt_state = optimizer(config, hparams, Clock(jnp.int32(0), jnp.int32(1))).init(params)
        world = reset_batch(env_key, env, num_envs, hparams.env_params)
        flag = jax.ShapeDtypeStruct((), bool)
        number = jax.ShapeDtypeStruct((), jnp.float32)
        action = jax.ShapeDtypeStruct((), jnp.int32)
        obs = jax.ShapeDtypeStruct(world.obs.shape[1:], world.obs.dtype)
        replay = ring.init(Steps(obs, action, number, flag, flag), num_envs, config.capacity, limit)
        priority = priorities.init(num_envs, capacity) if config.prioritized else ()
        epsilon = jnp.float32(0.0 if config.noisy else 1.0)
        # The target is a copy: the two are donated to the first iteration, each by itself.
        target = jax.tree.map(jnp.copy, params)
        return TrainState(
            Learner(params, target, opt_state, epsilon), Actor(world, replay, priority)
        )

    def chance(key: Key, restart: Restart, memory: Any) -> Chance:
        """All that is random in one round."""
        act_key, rows_key, loss_key = jax.random.split(key, 3)

        def noise(key):
            noise_key, key = jax.random.split(key)
            return noise_key, jax.random.uniform(key, (2, num_envs))

        if config.prioritized:
            numbers = priorities.numbers(rows_key, memory, rows)
        else:
            numbers = jax.random.bits(rows_key, (rows,))
        keys = jax.random.split(loss_key, (config.num_updates, 3))
        return Chance(chances(act_key, restart, num_envs, length, noise), numbers, keys)

    def collect(drawn: Any, params: Any, epsilon: jax.Array, actor: Actor, time, restart, hparams):
        """K steps of every environment, into the ring."""

        def behave(noise, carry, obs, start):
            noise_key, numbers = noise
            value = expected(q.apply(params, obs, noise_key), config)
            action = q_learning.epsilon_greedy(numbers, value, epsilon)
            return carry, action, action

        world, _, rollout, metrics = play(
            drawn, env, behave, actor.env, (), hparams.env_params, restart
        )
        steps = Steps(
            rollout.obs, rollout.extras, rollout.reward, rollout.terminated, rollout.truncated
        )
        replay = ring.insert(actor.replay, time, steps, rollout.final[1])
        priority = actor.priorities
        if isinstance(priority, Priorities):
            priority = priorities.insert(priority, capacity, time, length, n)
        return Actor(world, replay, priority), metrics

    def learn(drawn: Any, learner: Learner, actor: Actor, time, count, hparams, clock):
        """U gradient steps on rows drawn at once; `count` is how many there were before."""
        numbers, keys = drawn
        replay, priority = actor.replay, actor.priorities
        if isinstance(priority, Priorities):
            chosen = priorities.draw(numbers, priority, capacity, time)
            index, share = chosen.index, clock.step / clock.total
            beta = hparams.importance_exponent + (1.0 - hparams.importance_exponent) * share
            items = num_envs * ring.count(replay, time, n)
            weight = priorities.importance(chosen, items, beta)
        else:
            index, weight = ring.uniform(numbers, replay, time, n), jnp.ones(rows)
        batch = ring.transitions(replay, index, n, hparams.discount)
        batch = Batch(*batch, weight)._replace(reward=batch.reward * hparams.reward_scale)
        adam = optimizer(config, hparams, clock)

        def step(learner, now):
            batch, keys, number = now
            params, target = learner.params, learner.target
            goal = backup(params, target, batch, q, config, keys[:2])
            gradient = jax.grad(loss, has_aux=True)
            grads, (errors, values) = gradient(
                params, goal, batch, q, config, hparams.kappa, keys[2]
            )
            updates, opt_state = adam.update(grads, learner.opt_state, params)
            params = optax.apply_updates(params, updates)
            due = (number + 1) % config.target_period == 0
            rate = jnp.where(due, hparams.target_rate, 0.0)
            target = optax.incremental_update(params, target, rate)
            return Learner(params, target, opt_state, learner.epsilon), (errors, values)

        by_update = lambda x: jnp.swapaxes(x.reshape(-1, config.num_updates, *x.shape[1:]), 0, 1)
        numbers = count + jnp.arange(config.num_updates, dtype=jnp.int32)
        now = jax.tree.map(by_update, batch), keys, numbers
        learner, (errors, values) = jax.lax.scan(step, learner, now)
        if isinstance(priority, Priorities):
            error = jnp.swapaxes(errors, 0, 1).reshape(-1)
            error = (error + 1e-6) ** hparams.priority_exponent
            priority = priorities.update(priority, capacity, index, error)
        return (learner, priority), {"loss/q": errors, "value/mean": values}

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        pool_key, rounds_key = jax.random.split(key)
        restart = restarts(pool_key, env, num_envs, hparams.env_params, config.reset_mode)
        drawn = jax.vmap(lambda key: chance(key, restart, state.actor.priorities))(
            jax.random.split(rounds_key, config.num_rounds)
        )
        shape = config.num_updates, config.batch_size
        nothing = {
            "loss/q": jnp.zeros(shape),
            "value/mean": jnp.zeros((*shape, num_actions)),
        }

        def round(state, now):
            learner, actor = state
            drawn, number = now
            time, share = number * length, number / (clock.total * config.num_rounds)
            epsilon = q_learning.linear_epsilon(
                share, hparams.exploration_fraction, hparams.epsilon_end
            )
            epsilon = learner.epsilon if config.noisy else epsilon
            learner = Learner(learner.params, learner.target, learner.opt_state, epsilon)
            actor, metrics = collect(
                drawn.steps, learner.params, epsilon, actor, time, restart, hparams
            )
            before = (number - first) * config.num_updates
            (learner, priority), terms = jax.lax.cond(
                number >= first,
                lambda: learn(drawn[1:], learner, actor, time + length, before, hparams, clock),
                lambda: ((learner, actor.priorities), nothing),
            )
            return TrainState(learner, Actor(actor.env, actor.replay, priority)), metrics | terms

        numbers = clock.step * config.num_rounds + jnp.arange(config.num_rounds, dtype=jnp.int32)
        state, metrics = jax.lax.scan(round, state, (drawn, numbers))
        summed = lambda name: name.startswith("episode/")
        metrics = {k: x.sum() if summed(k) else x.mean() for k, x in metrics.items()}
        return state, metrics | {"policy/epsilon": state.learner.epsilon}

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        noise_key, key = jax.random.split(key)
        value = expected(q.apply(learner.params, obs, None if greedy else noise_key), config)
        epsilon = 0.0 if greedy else learner.epsilon
        numbers = jax.random.uniform(key, (2, obs.shape[0]))
        return q_learning.epsilon_greedy(numbers, value, epsilon), carry

    steps = num_envs * length * config.num_rounds
    return Agent(
        init, update, act, lambda batch: (), HParams(), env, config, steps, config.learning_starts
    )


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config)
    if not isinstance(env.action_space, Discrete):
        raise UsageError(f"env={env.name!r}: DQN needs discrete actions, not {env.action_space}")
    check_torso(config.torso, env.observation_space)
    check_capacity(config.capacity, config.batch_size, config.num_envs, config.unroll_length)
    least = config.num_envs * (config.n_step + config.unroll_length)
    for name in ("capacity", "learning_starts"):
        if (steps := getattr(config, name)) <= least:
            said = f"must be above num_envs * (n_step + unroll_length) = {least}"
            raise UsageError(f"{name}={steps}: {said}")
    if config.distribution != "none" and config.atoms < 2:
        raise UsageError(f"atoms={config.atoms}: a distribution needs at least 2")
    if config.distribution == "categorical" and config.v_min >= config.v_max:
        raise UsageError(f"v_min={config.v_min}: must be below v_max={config.v_max}")
