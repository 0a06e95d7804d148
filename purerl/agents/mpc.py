"""Model-predictive control (MPC): at every step, the first action of the best plan that is found.

Plans are sought by the cross-entropy method, `purerl.ops.cem`, from where the last one left off.
They are tried on the environment itself (`model="true"`), whose observation is then its whole
state, or on a learnt ensemble of probabilistic networks (`model="learned"`): PETS, Chua et al.
2018, https://arxiv.org/abs/1805.12114, algorithm 1, with trajectory sampling TS-infinity, in which
a particle keeps its member of the ensemble. Its members learn by the likelihood (eq. 1)

    -log N(y; mu(x), sigma^2(x)),   x = (obs, action),   y = (next_obs - obs, reward)

Departures from PETS: rewards are learnt too, and count by their mean; outputs are standardised as
inputs are; each member draws its own rows for every gradient step, in place of a bootstrapped data
set; learning goes on from where it was, every few steps, without weight decay; candidates are
clipped, not truncated normal, and come in pairs around the mean; all candidates of an iteration
meet the same chances, so that they differ by their actions only. The learnt model knows no
termination. A time limit is no end to either model: plans look past it.
Axes: B environments, R rounds of K steps, P candidates, H steps of a plan, A action dimensions,
E members, Q particles (of a member), N rows of a batch (of a member), U gradient steps, O observed
numbers.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.envs import Environment, Restart, Revealed, VectorState, reset_batch
from purerl.errors import UsageError, cached, check_settings
from purerl.experience import begin, first_round, rounds
from purerl.networks import Ensemble, Network, check_actions, gaussian_ensemble, to_env
from purerl.networks.torsos import flatten
from purerl.ops import cem, statistics
from purerl.ops.batching import where_row
from purerl.replay import Ring, Steps, Transitions, check_replay, ring
from purerl.rollout import chances, play
from purerl.spaces import Box
from purerl.types import Agent, Clock, EnvParams, Key, Magnitude, Metrics, Share, TrainState, pytree


@dataclass(frozen=True)
class Config:
    """Static settings: shapes, loop lengths and structure. A new value recompiles."""

    model: Literal["true", "learned"] = "true"  # what plans are tried on
    num_envs: int = 1  # environments stepped in parallel by one member
    unroll_length: int = 25  # steps of every environment in one round
    num_updates: int = 50  # gradient steps of one round, if the model is learned
    num_rounds: int = 4  # rounds in one iteration
    horizon: int = 25  # steps of a plan
    population: int = 400  # candidate plans in each iteration of the search
    elites: int = 40  # the best of them, to which the search moves
    iterations: int = 5  # of the search, at every step
    particles: int = 1  # futures of a candidate: with each member, or of the environment itself
    ensemble: int = 5  # members of the learned model
    batch_size: int = 32  # transitions of one gradient step, for each member
    capacity: int = 100_000  # steps that are kept, of all environments
    learning_starts: int = 200  # environment steps of random actions, before the first gradient
    hidden_sizes: tuple[int, ...] = (200, 200, 200)  # features of each dense layer
    activation: Literal["tanh", "relu", "swish"] = "swish"  # after each layer
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    discount: Share = 1.0  # weight of each further step of a plan, gamma
    deviation: Magnitude = 0.5  # of candidates at first, in half action ranges
    smoothing: Share = 0.1  # share of the old distribution that stays in each iteration
    learning_rate: Magnitude = 1e-3  # Adam step size of the learned model
    bound_coef: Magnitude = 0.01  # pull of the bounds of log-variances towards each other
    env_params: EnvParams = {}  # overrides of the environment's float parameters


@pytree
class Learner:
    """All that acting needs. With the true model, the settings only: the rest is ().

    Attributes:
      params: an Ensemble.
      opt_state: of Adam.
      inputs: statistics [O + A] of what was learnt from.
      outputs: statistics [O + 1], likewise; where an episode ended, of no change.
      settings: the HParams, with the environment's parameters that the true model simulates.
    """

    params: Any
    opt_state: Any
    inputs: Any
    outputs: Any
    settings: HParams


@pytree
class Actor:
    """Environments, their last steps (with the true model, ()), and plans to go on from.

    Attributes:
      env: B environments.
      replay: their steps.
      plan: float32 [B, H, A] the rest of the last plan, from the next step on.
    """

    env: VectorState
    replay: Ring | tuple[()]
    plan: jax.Array


class Chance(NamedTuple):
    """All that is random in one round, drawn before: for K steps and for U E N rows.

    What a plan needs is drawn as it is made: those are whole blocks of numbers.
    """

    steps: Any
    numbers: jax.Array


class Examples(NamedTuple):
    """What is learnt from, rows [...].

    Attributes:
      x: [..., O + A].
      y: [..., O + 1].
      known: float32 [..., O + 1], 0 where y has no meaning: the replay does not keep what was seen
        after a termination.
    """

    x: jax.Array
    y: jax.Array
    known: jax.Array


def simulate(
    key: Key, env: Environment, state: Any, action: jax.Array, discount: Any, particles: int,
    params: EnvParams,
) -> jax.Array:  # fmt: skip
    """float32 [B, P]: the return of plans in the environment itself, up to a termination.

        sum_t gamma^t r_t

    Args:
      key: consumed.
      env: what is simulated; its chances are drawn anew, the same for all candidates.
      state: where plans begin, leaves [B, ...].
      action: [B, P, H, ...] in the environment's units.
      discount: gamma.
      particles: Q, over which the return is averaged; 1 will do if nothing is random.
      params: float parameters of the environment.
    """
    num_envs, population, horizon = action.shape[:3]
    once = lambda key, state, action: env.step(key, state, action, params)
    over_particles = jax.vmap(once, (0, 0, None))
    advance = jax.vmap(jax.vmap(over_particles, (None, 0, 0)))  # environments, candidates

    def step(scanned: Any, now: Any):
        state, alive, total = scanned
        number, action, weight = now
        keys = jax.random.split(jax.random.fold_in(key, number), (num_envs, particles))
        state, timestep = advance(keys, state, action)
        total += weight * jnp.where(alive, timestep.reward, 0.0)
        return (state, alive & ~timestep.terminated, total), None

    shape = num_envs, population, particles
    spread = lambda x: jnp.broadcast_to(x[:, None, None], (*shape, *x.shape[1:]))
    number = jnp.arange(horizon, dtype=jnp.uint32)
    now = number, jnp.moveaxis(action, 2, 0), discounts(discount, horizon)
    scanned = jax.tree.map(spread, state), jnp.ones(shape, bool), jnp.zeros(shape)
    return jax.lax.scan(step, scanned, now)[0][2].mean(2)


def imagine(
    key: Key, model: Network, learner: Learner, obs: jax.Array, action: jax.Array, particles: int
) -> jax.Array:
    """float32 [B, P]: the return of plans that the learnt model expects.

    Each particle keeps its member, draws what follows from its normal distribution (TS-infinity,
    section 5), and returns are averaged over all E Q of them.

    Args:
      key: consumed.
      model: a `gaussian_ensemble` of x and y, both standardised.
      learner: its parameters and statistics.
      obs: [B, O] where plans begin.
      action: [B, P, H, A] in [-1, 1].
      particles: Q, of each member.
    """
    (num_envs, population, horizon, size), width = action.shape, obs.shape[1]
    members = jax.tree.leaves(learner.params.towers)[0].shape[0]
    shape = members, num_envs, population, particles
    noise = jax.random.normal(key, (horizon, members, num_envs, 1, particles, width))

    def step(scanned: Any, now: Any):
        obs, total = scanned
        noise, action, weight = now
        action = jnp.broadcast_to(action[None, :, :, None], (*shape, size))
        x = statistics.normalize(learner.inputs, jnp.concatenate([obs, action], -1))
        y = model.apply(learner.params, x.reshape(members, -1, width + size))
        mean, log_variance = (z.reshape(*shape, width + 1) for z in y)
        change = mean[..., :-1] + jnp.exp(0.5 * log_variance[..., :-1]) * noise
        y = unstandardized(learner.outputs, jnp.concatenate([change, mean[..., -1:]], -1))
        return (obs + y[..., :-1], total + weight * y[..., -1]), None

    spread = jnp.broadcast_to(obs[None, :, None, None], (*shape, width))
    weights = discounts(learner.settings.discount, horizon)
    now = noise, jnp.moveaxis(action, 2, 0), weights
    return jax.lax.scan(step, (spread, jnp.zeros(shape)), now)[0][1].mean((0, 3))


def discounts(discount: Any, horizon: int) -> jax.Array:
    """float32 [H]: gamma^t."""
    return jnp.float32(discount) ** jnp.arange(horizon, dtype=jnp.float32)


def unstandardized(running: statistics.Running, x: jax.Array) -> jax.Array:
    """What `statistics.normalize` turned into x, had it not clipped."""
    lift = (1,) * (x.ndim - 1) + (-1,)
    scale = jnp.sqrt(running.variance + 1e-8)
    return running.mean.reshape(lift) + scale.reshape(lift) * x


def examples(batch: Transitions, rank: int) -> Examples:
    """Transitions [N] with gamma = 1, observations of `rank` axes -> Examples [N]."""
    obs = flatten(batch.obs, rank)
    goes_on = batch.discount.reshape(-1, 1)
    change = jnp.where(goes_on > 0.0, flatten(batch.next_obs, rank) - obs, 0.0)
    reward = batch.reward.reshape(-1, 1)
    known = [jnp.broadcast_to(goes_on, change.shape), jnp.ones_like(reward)]
    x, y = jnp.concatenate([obs, batch.action], -1), jnp.concatenate([change, reward], -1)
    return Examples(x, y, jnp.concatenate(known, -1))


def standardized(
    inputs: statistics.Running, outputs: statistics.Running, rows: Examples
) -> Examples:
    """Examples in deviations from their mean. What is learnt is not clipped: a reward that is rare
    is many deviations out."""
    x, y = statistics.normalize(inputs, rows.x), statistics.normalize(outputs, rows.y, jnp.inf)
    return Examples(x, y, rows.known)


def likelihood_loss(params: Ensemble, batch: Examples, model: Network, bound_coef: Any):
    """-log N(y; mu(x), sigma^2(x)) a number, and the bounds' pull -> (scalar, rms error of mu).

    Summed over members, averaged over their rows [E, N] and the outputs. Chua et al. 2018, eq. 1,
    halved; the pull, bound_coef (sum of high - sum of low), is of appendix A.1.
    """
    mean, log_variance = model.apply(params, batch.x)
    error = jnp.square(mean - batch.y)
    loss = 0.5 * (error * jnp.exp(-log_variance) + log_variance + jnp.log(2.0 * jnp.pi))
    average = lambda x: (batch.known * x).sum((1, 2)) / batch.known.sum((1, 2))
    pull = bound_coef * (params.high - params.low).sum()
    return average(loss).sum() + pull, jnp.sqrt(average(error).mean())


def make(env: Environment, config: Config = Config()) -> Agent:
    """MPC for one environment; with the true model, the agent's environment is `Revealed`.

    Raises:
      UsageError: a setting that cannot be, before anything compiles.
    """
    return _make(env, config)


@cached
def _make(env: Environment, config: Config) -> Agent:
    check(env, config)
    learned = config.model == "learned"
    space, rank = env.action_space, len(env.observation_space.shape)
    known: Any = env if learned else Revealed(env)  # with the layout of its state, if revealed
    env = known
    assert isinstance(space, Box)
    env_action = to_env(space)
    num_envs, length, size = config.num_envs, config.unroll_length, space.low.size
    width = math.prod(env.observation_space.shape)
    rows = config.num_updates * config.ensemble * config.batch_size
    # The round after which the model learns first; until then actions are random.
    first = first_round(config) - 1
    model = gaussian_ensemble(
        width + size, width + 1, config.ensemble, hidden_sizes=config.hidden_sizes,
        activation=config.activation,
    )  # fmt: skip

    def initial_carry(batch: int) -> jax.Array:
        return jnp.zeros((batch, config.horizon, size))

    def init(key: Key, hparams: HParams) -> TrainState:
        model_key, env_key = jax.random.split(key)
        settings, plan = jax.tree.map(jnp.float32, hparams), initial_carry(num_envs)
        if not learned:
            world = reset_batch(env_key, env, num_envs, hparams.env_params)
            return TrainState(Learner((), (), (), (), settings), Actor(world, (), plan))
        params = model.init(model_key)
        opt_state = optax.adam(hparams.learning_rate).init(params)
        inputs, outputs = statistics.init((width + size,)), statistics.init((width + 1,))
        action = jax.ShapeDtypeStruct((size,), jnp.float32)
        experience = begin(env_key, env, num_envs, config.capacity, action, hparams.env_params)
        learner = Learner(params, opt_state, inputs, outputs, settings)
        return TrainState(learner, Actor(experience.env, experience.replay, plan))

    def think(key: Key, learner: Learner, plan: jax.Array, obs: jax.Array):
        """The first action [B, A] in [-1, 1] of the plan that was found, and the rest of it."""
        settings = learner.settings

        def score(key: Key, candidates: jax.Array) -> jax.Array:
            if learned:
                seen = flatten(obs, rank)
                return imagine(key, model, learner, seen, candidates, config.particles)
            state, action = known.layout.unpack(obs), env_action(candidates)
            return simulate(
                key, known.bare, state, action, settings.discount, config.particles,
                settings.env_params,
            )  # fmt: skip

        belief = cem.Belief(plan, jnp.full(plan.shape, settings.deviation))
        found, _ = cem.maximize(
            key, score, belief, config.population, config.elites, config.iterations,
            settings.smoothing,
        )  # fmt: skip
        rest = jnp.concatenate([found.mean[:, 1:], jnp.zeros_like(plan[:, :1])], 1)
        return found.mean[:, 0], rest

    def chance(key: Key, params: EnvParams) -> tuple[Restart, Chance]:
        """Where episodes start again, and all that is random in one iteration, leaves [R, ...]."""
        steps_key, rows_key = jax.random.split(key)
        shape = config.num_rounds, length
        restart, steps = chances(steps_key, env, num_envs, shape, params, config.reset_mode)
        numbers = jax.random.bits(rows_key, (config.num_rounds, rows if learned else 0))
        return restart, Chance(steps, numbers)

    def live(drawn: Chance, number, learner: Learner, actor: Actor, restart: Restart):
        """K steps of every environment, into the ring; random ones before learning starts."""

        def behave(key: Key, plan: jax.Array, obs: jax.Array, start: jax.Array):
            plan = where_row(start, jnp.zeros_like(plan), plan)
            ask = lambda key: think(key, learner, plan, obs)
            anything = lambda key: (jax.random.uniform(key, (num_envs, size), minval=-1.0), plan)
            if learned:
                action, plan = jax.lax.cond(number <= first, anything, ask, key)
            else:
                action, plan = ask(key)
            return plan, env_action(action), action

        params = learner.settings.env_params
        world, plan, lived, metrics = play(
            drawn.steps, env, behave, actor.env, actor.plan, params, restart
        )
        replay = actor.replay
        if isinstance(replay, Ring):
            steps = Steps(lived.obs, lived.extras, lived.reward, lived.terminated, lived.truncated)
            replay = ring.insert(replay, number * length, steps, lived.final[1])
        return learner, Actor(world, replay, plan), metrics

    def learn(drawn: Chance, number, learner: Learner, actor: Actor):
        """U gradient steps of every member on rows drawn at once, each member its own."""
        if not isinstance(actor.replay, Ring):
            return learner, {}
        index = ring.uniform(drawn.numbers, actor.replay, (number + 1) * length, 1)
        drawn_rows = examples(ring.transitions(actor.replay, index, 1, 1.0), rank)
        inputs = statistics.update(learner.inputs, drawn_rows.x)
        outputs = statistics.update(learner.outputs, drawn_rows.y)
        standard = standardized(inputs, outputs, drawn_rows)
        adam = optax.adam(learner.settings.learning_rate)

        def step(learning: Any, batch: Examples):
            params, opt_state = learning
            gradient = jax.value_and_grad(likelihood_loss, has_aux=True)
            (loss, error), grads = gradient(params, batch, model, learner.settings.bound_coef)
            updates, opt_state = adam.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), (loss, error)

        shape = config.num_updates, config.ensemble, config.batch_size
        batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), standard)
        learning, terms = jax.lax.scan(step, (learner.params, learner.opt_state), batches)
        learner = Learner(*learning, inputs, outputs, learner.settings)
        return learner, {"loss/model": terms[0].mean(), "model/error": terms[1].mean()}

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        learner, actor = state
        settings = jax.tree.map(jnp.float32, hparams)  # which may have changed: acting reads them
        restart, drawn = chance(key, hparams.env_params)
        learner, actor, metrics = rounds(
            functools.partial(live, restart=restart), learn,
            dataclasses.replace(learner, settings=settings), actor, drawn, clock,
            num_rounds=config.num_rounds, first=first,
        )  # fmt: skip
        return TrainState(learner, actor), metrics

    def act(key: Key, learner: Learner, carry: jax.Array, obs: jax.Array, greedy: bool):
        del greedy  # there is no other policy: what is random about it is the search
        action, carry = think(key, learner, carry, obs)
        return env_action(action), carry

    steps = num_envs * length * config.num_rounds
    return Agent(
        init, update, act, initial_carry, HParams(), env, config, steps,
        first * num_envs * length if learned else 0, cpu_batch=1,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    check_actions(env.name, env.action_space, "MPC")
    if config.elites > config.population:
        raise UsageError(f"elites={config.elites}: must be at most population={config.population}")
    if config.model == "learned":
        check_replay(config)
        if not isinstance(env.observation_space, Box):
            raise UsageError(
                f"env={env.name!r}: model='learned' needs observations in a Box, whose change can "
                f"be learnt, not {env.observation_space}"
            )
