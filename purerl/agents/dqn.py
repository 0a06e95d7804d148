"""Deep Q-learning (DQN) and what has been added to it, up to Rainbow.

Mnih et al. 2015, https://doi.org/10.1038/nature14236, algorithm 1. Options: double (van Hasselt et
al. 2016), dueling (Wang et al. 2016), n-step returns, prioritised replay (Schaul et al. 2016),
noisy networks (Fortunato et al. 2018), categorical (C51, Bellemare et al. 2017) and quantile
(QR-DQN, Dabney et al. 2018) distributions of returns. All of them but the last together are Rainbow
(Hessel et al. 2018).

Departures: time limits bootstrap from the true final observation; several environments at once;
double by default; errors are squared, not clipped (docs/decisions/0011); Adam; categorical
distributions begin with a mean of about 0, not in the middle of their support; a noisy network has
no noise in a convolution and in its first dense layer.
Axes: B environments, R rounds of K steps, N rows of a batch, U gradient steps, A actions, Z atoms.
"""

import functools
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.envs import Environment, Restart
from purerl.errors import UsageError, cached, check_settings
from purerl.experience import Experience, begin, collect, first_round, rounds
from purerl.networks import QFunction, check_q_function, check_torso, q_function
from purerl.ops import batching, q_learning
from purerl.replay import check_replay, draws, priorities, ring
from purerl.replay.draws import Tree
from purerl.rollout import chances
from purerl.spaces import Discrete
from purerl.types import Agent, Clock, EnvParams, Key, Magnitude, Metrics, Share, TrainState, pytree


@dataclass(frozen=True)
class Config:
    """Static settings: shapes, loop lengths and structure. A new value recompiles."""

    num_envs: int = 10  # environments stepped in parallel by one member
    unroll_length: int = 1  # steps of every environment in one round
    num_updates: int = 1  # gradient steps of one round
    num_rounds: int = 64  # rounds in one iteration
    batch_size: int = 128  # transitions of one gradient step
    capacity: int = 10_000  # steps that are kept, of all environments
    learning_starts: int = 1_000  # environment steps before the first round that learns
    target_period: int = 50  # gradient steps between updates of the target network
    n_step: int = 1  # rewards summed before the value of what follows
    double: bool = True  # the network chooses the next action, its target values it
    dueling: bool = False  # value and advantages apart
    prioritized: bool = False  # draw what was wrong more often
    noisy: bool = False  # explore by learnt noise in the dense layers, beside epsilon
    distribution: Literal["none", "categorical", "quantile"] = "none"  # of returns: C51 or QR-DQN
    atoms: int = 51  # of that distribution
    v_min: float = 0.0  # lowest return of a categorical distribution
    v_max: float = 100.0  # highest return of one
    loss: Literal["squared", "huber"] = "squared"  # without distribution; Huber takes medians
    torso: Literal["mlp", "cnn"] = "mlp"  # dense layers, or a convolution before them
    hidden_sizes: tuple[int, ...] = (64, 64)  # features of each dense layer
    activation: Literal["tanh", "relu", "swish"] = "relu"  # after each layer
    layer_norm: bool = False  # before each activation
    schedule: Literal["constant", "linear"] = "constant"  # learning rate over the run
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    learning_rate: Magnitude = 2.5e-4  # Adam step size
    discount: Share = 0.99  # weight of the next step's value, gamma
    target_rate: Share = 1.0  # share of the network in its target at each update; 1 copies
    epsilon_end: Share = 0.05  # probability of a random action after exploration
    exploration_fraction: Share = 0.5  # part of the run in which it falls from 1; 0: none
    max_grad_norm: Magnitude = 10.0  # gradients are scaled down to at most this global norm
    kappa: Annotated[float, (0.0, 1e6)] = 1.0  # quantile: errors up to this are squared
    priority_exponent: Magnitude = 0.6  # 0 draws uniformly
    importance_exponent: Share = 0.4  # correction of what is drawn too often; 1 at the end
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
    """What was lived, and how often each step of it is to be drawn."""

    experience: Experience
    priorities: Tree


class Chance(NamedTuple):
    """All that is random in one round, drawn before: for K steps, U N rows, U times 3 networks.

    On a CPU random numbers in a loop cost more than the products they go into.
    """

    steps: Any
    numbers: jax.Array
    noise: Any


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


def backup(params: Any, target: Any, batch: Batch, q: QFunction, config: Config, noise: Any):
    """What the values of the actions taken should have been: [N, Z], of the kind that is learnt."""
    out = q.apply(target, batch.next_obs, noise[0])
    judge = q.apply(params, batch.next_obs, noise[1]) if config.double else out
    following = q_learning.of_action(out, expected(judge, config).argmax(1))
    reward, discount = batch.reward.reshape(-1, 1), batch.discount.reshape(-1, 1)
    if config.distribution == "categorical":
        atoms = q_learning.support(config.v_min, config.v_max, config.atoms)
        moved = reward + discount * atoms.reshape(1, -1)
        return q_learning.project(moved, jax.nn.softmax(following), atoms)
    return reward + discount * following


def loss(
    params: Any, goal: jax.Array, batch: Batch, q: QFunction, config: Config, kappa: Any, noise: Any
):
    """Distance of the values of the actions taken from `goal` [N, Z].

    Returns:
      (loss, (|error| [N], values [N, A])).
    """
    out = q.apply(params, batch.obs, noise)
    chosen = q_learning.of_action(out, batch.action)
    if config.distribution == "categorical":
        losses = q_learning.cross_entropy(chosen, goal)
        # What is wrong is the divergence: the target's own entropy is not to be learnt.
        errors = losses - jax.scipy.special.entr(goal).sum(-1)
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


@cached
def _make(env: Environment, config: Config, q: QFunction | None) -> Agent:
    check(env, config)
    assert isinstance(env.action_space, Discrete)
    num_actions, prior = env.action_space.n, 0.0
    size = 1 if config.distribution == "none" else config.atoms
    if config.distribution == "categorical":
        atoms = q_learning.support(config.v_min, config.v_max, config.atoms)
        prior = q_learning.nothing_expected(atoms)
    if q is not None:
        check_q_function(q, env.observation_space, num_actions, size, noisy=True)
    own = q is not None
    q = q or q_function(
        env.observation_space, num_actions, prior, torso=config.torso, atoms=size,
        hidden_sizes=config.hidden_sizes, activation=config.activation,
        layer_norm=config.layer_norm, dueling=config.dueling, noisy=config.noisy,
    )  # fmt: skip
    num_envs, length, n = config.num_envs, config.unroll_length, config.n_step
    rows, capacity = config.num_updates * config.batch_size, config.capacity // num_envs
    first = first_round(config)  # that learns

    def init(key: Key, hparams: HParams) -> TrainState:
        params_key, env_key = jax.random.split(key)
        params = q.init(params_key)
        opt_state = optimizer(config, hparams, Clock(jnp.int32(0), jnp.int32(1))).init(params)
        action = jax.ShapeDtypeStruct((), jnp.int32)
        experience = begin(env_key, env, num_envs, config.capacity, action, hparams.env_params)
        priority = priorities.init(num_envs, capacity) if config.prioritized else ()
        # The target is a copy: the two are donated to the first iteration, each by itself.
        target = jax.tree.map(jnp.copy, params)
        learner = Learner(params, target, opt_state, jnp.float32(1.0))
        return TrainState(learner, Actor(experience, priority))

    def chance(key: Key, priority: Any, params: EnvParams) -> tuple[Restart, Chance]:
        """Where episodes start again, and all that is random in one iteration, leaves [R, ...]."""
        steps_key, rows_key, noise_key = jax.random.split(key, 3)
        count = length + 3 * config.num_updates
        noise_keys = jax.random.split(noise_key, (config.num_rounds, count))
        noise = jax.vmap(jax.vmap(q.noise))
        acting = noise(noise_keys[:, :length])
        losses = [noise(noise_keys[:, length + i :: 3]) for i in range(3)]
        restart, steps = chances(
            steps_key, env, num_envs, (config.num_rounds, length), params, config.reset_mode,
            lambda key, shape: (acting, jax.random.uniform(key, (*shape, 2, num_envs))),
        )  # fmt: skip
        numbers = draws.numbers(rows_key, priority, (config.num_rounds, rows))
        return restart, Chance(steps, numbers, losses)

    def live(drawn: Chance, number, learner: Learner, actor: Actor, restart, hparams, clock):
        """K steps of every environment, into the ring."""
        share = number / (clock.total * config.num_rounds)
        epsilon = q_learning.linear_epsilon(
            share, hparams.exploration_fraction, hparams.epsilon_end
        )

        def behave(drawn, obs):
            noise, numbers = drawn
            value = expected(q.apply(learner.params, obs, noise), config)
            action = q_learning.epsilon_greedy(numbers, value, epsilon)
            return action, action

        experience, _, metrics = collect(
            drawn.steps, env, behave, actor.experience, number * length, hparams.env_params, restart
        )
        tree = draws.insert(actor.priorities, capacity, number * length, length, n)
        return replace(learner, epsilon=epsilon), Actor(experience, tree), metrics

    def learn(drawn: Chance, number, learner: Learner, actor: Actor, hparams, clock):
        """U gradient steps on rows drawn at once; found: of `draws.judged`."""
        replay, share = actor.experience.replay, clock.step / clock.total
        time = (number + 1) * length  # steps of each environment that are in the ring
        beta = hparams.importance_exponent + (1.0 - hparams.importance_exponent) * share
        index, weight = draws.draw(drawn.numbers, replay, actor.priorities, time, n, beta)
        batch = ring.transitions(replay, index, n, hparams.discount)
        batch = Batch(*batch, weight)._replace(reward=batch.reward * hparams.reward_scale)
        adam = optimizer(config, hparams, clock)

        def step(learner, now):
            batch, noise, count = now
            params, target = learner.params, learner.target
            goal = backup(params, target, batch, q, config, noise[:2])
            gradient = jax.value_and_grad(loss, has_aux=True)
            (total, (errors, values)), grads = gradient(
                params, goal, batch, q, config, hparams.kappa, noise[2]
            )
            updates, opt_state = adam.update(grads, learner.opt_state, params)
            params = optax.apply_updates(params, updates)
            target = jax.lax.cond(
                count % config.target_period == 0,
                lambda: optax.incremental_update(params, target, hparams.target_rate),
                lambda: target,
            )
            return Learner(params, target, opt_state, learner.epsilon), (total, errors, values)

        counts = (number - first) * config.num_updates + 1 + jnp.arange(config.num_updates)
        now = batching.strided(batch, config.num_updates), drawn.noise, counts
        learner, (losses, errors, values) = jax.lax.scan(step, learner, now)
        found = draws.judged(actor.priorities, index, errors, hparams.priority_exponent)
        terms = {"loss/q": losses, "value/error": errors, "value/mean": values}
        return learner, found, {name: x.mean() for name, x in terms.items()}

    def remember(actor: Actor, found, learned: jax.Array):
        tree = draws.remember(actor.priorities, capacity, found, learned)
        return replace(actor, priorities=tree)

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        learner, actor = state
        restart, drawn = chance(key, actor.priorities, hparams.env_params)
        learner, actor, metrics = rounds(
            functools.partial(live, restart=restart, hparams=hparams, clock=clock),
            functools.partial(learn, hparams=hparams, clock=clock),
            learner, actor, drawn, clock,
            num_rounds=config.num_rounds, first=first, remember=remember,
        )  # fmt: skip
        metrics |= {"policy/epsilon": learner.epsilon}
        return TrainState(learner, actor), metrics

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        if greedy:
            return q_learning.best(expected(q.apply(learner.params, obs, ()), config)), carry
        noise_key, key = jax.random.split(key)
        value = expected(q.apply(learner.params, obs, q.noise(noise_key)), config)
        numbers = jax.random.uniform(key, (2, obs.shape[0]))
        return q_learning.epsilon_greedy(numbers, value, learner.epsilon), carry

    steps = num_envs * length * config.num_rounds
    return Agent(
        init, update, act, lambda batch: (), HParams(), env, config, steps,
        first * num_envs * length, own_network=own,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    if not isinstance(env.action_space, Discrete):
        raise UsageError(f"env={env.name!r}: DQN needs discrete actions, not {env.action_space}")
    check_torso(config.torso, env.observation_space)
    check_replay(config, config.n_step)
    if config.distribution != "none" and config.atoms < 2:
        raise UsageError(f"atoms={config.atoms}: a distribution needs at least 2")
    if config.distribution == "categorical" and config.v_min >= config.v_max:
        raise UsageError(f"v_min={config.v_min}: must be below v_max={config.v_max}")
