"""MuZero: search in a model of rewards, values and policies that is learnt for the search alone.

Schrittwieser et al. 2020, https://arxiv.org/abs/1911.08265, with the search and the policy target
of Gumbel MuZero (Danihelka et al. 2022, https://openreview.net/forum?id=bERaNdoegnO) unless
`search="puct"`, and Reanalyse (Schrittwieser et al. 2021, https://arxiv.org/abs/2104.06294) as an
option. A game is played against itself, values of the other side counting negatively.

Departures: sequences are drawn evenly unless `prioritized`; time limits bootstrap from the true
final observation, and what would follow one is not learnt from, where a termination is followed by
zeros; values are weighed on the fixed scale of their range, not of each node; the value of a root
is that of the actions tried under the improved policy; games too bootstrap after n steps; AdamW.
Axes: B environments, K unrolled steps, n steps of a return, L = K + n + 1 steps of a sequence,
N sequences, A actions, Z atoms.
"""

import functools
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from purerl.envs import Environment, Restart
from purerl.envs.games import Stones
from purerl.envs.matches import Match, SelfPlay
from purerl.errors import UsageError, cached, check_settings
from purerl.experience import Experience, begin, collect, first_round, rounds
from purerl.networks import Model, check_torso, muzero_model
from purerl.ops import batching, two_hot
from purerl.ops.q_learning import cross_entropy
from purerl.ops.search import Plan, outcome, plan
from purerl.ops.unrolled import Targets, targets
from purerl.replay import Steps, check_replay, draws, priorities, ring
from purerl.replay.draws import Tree
from purerl.rollout import chances
from purerl.spaces import Discrete
from purerl.types import Agent, Clock, EnvParams, Key, Magnitude, Metrics, Share, TrainState, pytree


@dataclass(frozen=True)
class Config:
    """Static settings: shapes, loop lengths and structure. A new value recompiles."""

    num_envs: int = 32  # environments stepped in parallel by one member
    unroll_length: int = 1  # steps of every environment in one round
    num_updates: int = 1  # gradient steps of one round
    num_rounds: int = 16  # rounds in one iteration
    batch_size: int = 128  # sequences of one gradient step
    capacity: int = 25_600  # steps that are kept, of all environments
    learning_starts: int = 2_048  # environment steps before the first round that learns
    search: Literal["gumbel", "puct"] = "gumbel"  # how actions are found
    num_simulations: int = 16  # model steps for each action
    considered: int = 16  # gumbel: actions looked at, at most
    value_scale: float = 1.0  # gumbel: weight of values, as shares of the range, beside the prior
    model_steps: int = 5  # the model is unrolled for learning, K
    n_step: int = 10  # rewards summed before a searched value
    prioritized: bool = False  # draw sequences whose value was wrong more often
    reanalyse: bool = False  # search again when learning, for fresh targets
    opening: Annotated[int, 0] = 4  # games: they begin after 0 to this many random moves
    atoms: int = 51  # of the distributions of values and rewards
    v_min: float = -1.0  # lowest value that they tell apart
    v_max: float = 1.0  # highest one
    latent_size: int = 64  # features of a latent state
    torso: Literal["mlp", "cnn", "resnet"] = "mlp"  # of the representation
    hidden_sizes: tuple[int, ...] = (64, 64)  # features of each dense layer
    schedule: Literal["constant", "linear"] = "linear"  # learning rate over the run
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    learning_rate: Magnitude = 2e-3  # Adam step size
    weight_decay: Magnitude = 1e-4  # of every parameter, decoupled
    discount: Share = 0.99  # weight of the next step's value, gamma
    value_coef: Magnitude = 0.25  # weight of the value loss
    max_grad_norm: Magnitude = 5.0  # gradients are scaled down to at most this global norm
    reward_scale: float = 1.0  # multiplies rewards before learning
    priority_exponent: Magnitude = 1.0  # 0 draws evenly
    importance_exponent: Share = 1.0  # correction of what is drawn too often
    env_params: EnvParams = {}  # overrides of the environment's float parameters


@pytree
class Learner:
    """Parameters, Adam's state, and the discount of a step in a search: negative in a game."""

    params: Any
    opt_state: optax.OptState
    discount: jax.Array


@pytree
class Actor:
    """What was lived, and how often each step of it is to be drawn."""

    experience: Experience
    priorities: Tree


def optimizer(config: Config, hparams: HParams, clock: Clock) -> optax.GradientTransformation:
    """Global-norm clipping, then AdamW; the schedule's horizon is the run, in iterations."""
    left = 1.0 - clock.step / clock.total if config.schedule == "linear" else 1.0
    adam = optax.adamw(hparams.learning_rate * left, weight_decay=hparams.weight_decay)
    return optax.chain(optax.clip_by_global_norm(hparams.max_grad_norm), adam)


def look_ahead(
    params: Any, key: Key, obs: jax.Array, legal: jax.Array | None, model: Model, config: Config,
    discount: jax.Array | float, explore: bool,
) -> Plan:  # fmt: skip
    """Search in the model from N observations; the key is consumed."""
    atoms = two_hot.support(config.v_min, config.v_max, config.atoms)

    def recurrent(params, key, action, latent):
        del key
        latent, reward = model.dynamics(params, latent, action)
        logits, value = model.predict(params, latent)
        reward = two_hot.decode(reward, atoms)
        follows = jnp.full_like(reward, discount)
        return outcome(reward, follows, logits, two_hot.decode(value, atoms)), latent

    latent = model.represent(params, obs)
    logits, value = model.predict(params, latent)
    root = logits, two_hot.decode(value, atoms), latent
    return plan(
        params, key, root, recurrent, legal=legal, search=config.search,
        num_simulations=config.num_simulations, considered=config.considered,
        value_scale=config.value_scale / (config.v_max - config.v_min), explore=explore,
    )  # fmt: skip


def loss(
    params: Any, obs: jax.Array, action: jax.Array, goal: Targets, model: Model, config: Config,
    hparams: HParams, weight: jax.Array | float = 1.0,
):  # fmt: skip
    """Cross-entropies of reward, value and policy over K unrolled steps.

    Schrittwieser et al. 2020, eq. 1; the steps after the first weigh 1 / K, and gradients are
    halved at the entrance of the dynamics (appendix G).

    Args:
      params: of the model.
      obs: [N, ...].
      action: int32 [K, N].
      goal: Targets.
      model: the network.
      config: static settings.
      hparams: real ones.
      weight: [N] of each sequence.

    Returns:
      (loss, (how far each value was from its target [N], the terms of the loss)).
    """
    atoms = two_hot.support(config.v_min, config.v_max, config.atoms)
    code = lambda x: two_hot.encode(x, atoms)
    of = lambda mask, losses: (weight * mask * losses).mean()
    latent, terms, errors = model.represent(params, obs), jnp.zeros(3), jnp.zeros(len(obs))
    for k in range(config.model_steps + 1):
        now = jax.tree.map(lambda x, k=k: x[k], goal)
        reward_loss = jnp.float32(0.0)
        if k:
            latent = 0.5 * latent + jax.lax.stop_gradient(0.5 * latent)
            latent, reward = model.dynamics(params, latent, action[k - 1])
            reward_loss = of(now.reward_mask, cross_entropy(reward, code(now.reward)))
        logits, value = model.predict(params, latent)
        wanted = jnp.clip(now.value, config.v_min, config.v_max)  # as is learnt
        errors = errors if k else jnp.abs(two_hot.decode(value, atoms) - wanted)
        value_loss = of(now.value_mask, cross_entropy(value, code(now.value)))
        policy_loss = of(now.policy_mask, cross_entropy(logits, now.weights))
        losses = jnp.stack([reward_loss, value_loss, policy_loss])
        terms += losses / config.model_steps if k else losses
    reward_loss, value_loss, policy_loss = terms
    total = reward_loss + hparams.value_coef * value_loss + policy_loss
    return total, (errors, {
        "loss/reward": reward_loss, "loss/value": value_loss, "loss/policy": policy_loss,
        "value/mean": goal.value[0].mean(),
        "value/outside": ((goal.value < config.v_min) | (goal.value > config.v_max)).mean(),
    })  # fmt: skip


def goals(
    lived: Steps, found: Plan, after: jax.Array | None, config: Config, hparams: HParams,
    discount: jax.Array | float,
) -> Targets:  # fmt: skip
    """What the model should have said along sequences of K + n + 1 lived steps.

    Args:
      lived: leaves [K + n + 1, N, ...].
      found: weights and values [K + n + 1, N, ...] of searches at these steps.
      after: [N] the value of what followed the first truncation of each sequence, if there are any.
      config: static settings.
      hparams: real ones.
      discount: gamma, or -gamma where the other player moves next.
    """
    next_value = found.value[1:]
    if after is not None:
        next_value = jnp.where(lived.truncated[:-1], after[None], next_value)
    return targets(
        lived.reward[:-1] * hparams.reward_scale, lived.terminated[:-1], lived.truncated[:-1],
        found.weights[: config.model_steps + 1], next_value, config.n_step, discount,
    )  # fmt: skip


def make(env: Environment, config: Config = Config(), model: Model | None = None) -> Agent:
    """MuZero for one environment; a model of your own replaces the built-in one.

    Raises:
      UsageError: a setting that cannot be, before anything compiles.
    """
    return _make(env, config, model)


@cached
def _make(env: Environment, config: Config, model: Model | None) -> Agent:
    check(env, config)
    assert isinstance(env.action_space, Discrete)
    num_actions = env.action_space.n
    own = model is not None
    model = model or muzero_model(
        env.observation_space, num_actions, atoms=config.atoms, latent_size=config.latent_size,
        torso=config.torso, hidden_sizes=config.hidden_sizes,
    )  # fmt: skip
    # A game is lived from both sides, in turn: what follows is the other's.
    match = env if isinstance(env, Match) else None
    world, sign = (SelfPlay(match.game, config.opening), -1.0) if match else (env, 1.0)
    allowed = jax.vmap(match.legal) if match else lambda obs: None
    num_envs, length = config.num_envs, config.unroll_length
    rows, span = config.num_updates * config.batch_size, config.model_steps + config.n_step
    capacity = config.capacity // num_envs
    first = first_round(config)  # that learns

    def init(key: Key, hparams: HParams) -> TrainState:
        params_key, env_key = jax.random.split(key)
        params = model.init(params_key)
        opt_state = optimizer(config, hparams, Clock(jnp.int32(0), jnp.int32(1))).init(params)
        number = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
        kept = Plan._make([jax.ShapeDtypeStruct((), jnp.int32), number(num_actions), number()])
        experience = begin(env_key, world, num_envs, config.capacity, kept, hparams.env_params)
        discount = jnp.float32(sign * hparams.discount)
        priority = priorities.init(num_envs, capacity) if config.prioritized else ()
        return TrainState(Learner(params, opt_state, discount), Actor(experience, priority))

    def see(learner: Learner, key: Key, obs: jax.Array, explore: bool = True) -> Plan:
        params, discount = learner.params, learner.discount
        return look_ahead(params, key, obs, allowed(obs), model, config, discount, explore)

    def expect(params: Any, obs: jax.Array) -> jax.Array:
        """float32 [N]: the value of observations, without a search."""
        _, value = model.predict(params, model.represent(params, obs))
        return two_hot.decode(value, two_hot.support(config.v_min, config.v_max, config.atoms))

    def search_again(learner: Learner, key: Key, obs: jax.Array, plans: Plan) -> Plan:
        """Fresh plans for observations [K + n + 1, N, ...], at those that a target reads."""
        weighed = range(config.model_steps + 1)
        used = np.array(sorted({*weighed, *(config.n_step + k for k in weighed)}))
        seen = obs[used]
        found = see(learner, key, seen.reshape(-1, *seen.shape[2:]))
        put = lambda old, new: old.at[used].set(new.reshape(seen.shape[0], -1, *old.shape[2:]))
        return jax.tree.map(put, plans, found)

    def live(drawn, number, learner: Learner, actor: Actor, restart: Restart, hparams):
        """K steps of every environment, each after a search, into the ring."""

        def behave(key, obs):
            found = see(learner, key, obs)
            return found.action, found

        experience, _, metrics = collect(
            drawn[0], world, behave, actor.experience, number * length, hparams.env_params, restart
        )
        tree = draws.insert(actor.priorities, capacity, number * length, length, span)
        return learner, Actor(experience, tree), metrics

    def learn(drawn, number, learner: Learner, actor: Actor, hparams, clock: Clock):
        """U gradient steps on sequences drawn at once; found: of `draws.judged`."""
        replay, (_, numbers, keys) = actor.experience.replay, drawn
        time = (number + 1) * length  # steps of each environment that are in the ring
        index, weight = draws.draw(
            numbers, replay, actor.priorities, time, span, hparams.importance_exponent
        )
        steps = ring.sequences(replay, index, span + 1)
        final = ring.final_observations(replay, index, steps.truncated)
        adam = optimizer(config, hparams, clock)

        def step(learner: Learner, now):
            (steps, final, weight), key = now
            by_time = lambda x: jnp.swapaxes(x, 0, 1)
            lived = jax.tree.map(by_time, steps)  # [K + n + 1, N, ...]
            plans = lived.action
            if config.reanalyse:
                plans = search_again(learner, key, lived.obs, plans)
            after = None if final is None else expect(learner.params, final)
            goal = goals(lived, plans, after, config, hparams, learner.discount)
            action = lived.action.action[: config.model_steps]
            gradient = jax.grad(loss, has_aux=True)
            grads, found = gradient(
                learner.params, lived.obs[0], action, goal, model, config, hparams, weight
            )
            updates, opt_state = adam.update(grads, learner.opt_state, learner.params)
            params = optax.apply_updates(learner.params, updates)
            return replace(learner, params=params, opt_state=opt_state), found

        now = batching.strided((steps, final, weight), config.num_updates), keys
        learner, (errors, terms) = jax.lax.scan(step, learner, now)
        found = draws.judged(actor.priorities, index, errors, hparams.priority_exponent)
        return learner, found, {name: x.mean() for name, x in terms.items()}

    def remember(actor: Actor, found, learned: jax.Array):
        tree = draws.remember(actor.priorities, capacity, found, learned)
        return replace(actor, priorities=tree)

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        steps_key, rows_key, search_key = jax.random.split(key, 3)
        learner, actor = state
        # Acting sees the learner only, and the hyperparameters may have changed (PBT).
        learner = replace(learner, discount=jnp.float32(sign * hparams.discount))
        shape = config.num_rounds, length
        restart, steps = chances(
            steps_key, world, num_envs, shape, hparams.env_params, config.reset_mode
        )
        numbers = draws.numbers(rows_key, actor.priorities, (config.num_rounds, rows))
        search_keys = jax.random.split(search_key, (config.num_rounds, config.num_updates))
        drawn = steps, numbers, search_keys
        learner, actor, metrics = rounds(
            functools.partial(live, restart=restart, hparams=hparams),
            functools.partial(learn, hparams=hparams, clock=clock),
            learner, actor, drawn, clock,
            num_rounds=config.num_rounds, first=first, remember=remember,
        )  # fmt: skip
        return TrainState(learner, actor), metrics

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        return see(learner, key, obs, explore=not greedy).action, carry

    steps = num_envs * length * config.num_rounds
    return Agent(
        init, update, act, lambda batch: (), HParams(), env, config, steps,
        first * num_envs * length, own_network=own,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    if not isinstance(env.action_space, Discrete):
        raise UsageError(f"env={env.name!r}: MuZero needs discrete actions, not {env.action_space}")
    if isinstance(env, SelfPlay):
        raise UsageError(f"env={env.name!r}: MuZero takes the match, and plays itself in it")
    if isinstance(env, Match) and not isinstance(env.game, Stones):
        raise UsageError(
            f"env={env.name!r}: its observations do not tell MuZero which moves may be made; "
            "AlphaZero plays it"
        )
    check_torso(config.torso, env.observation_space)
    check_replay(config, config.model_steps + config.n_step)
    if config.v_min >= config.v_max:
        raise UsageError(f"v_min={config.v_min}: must be below v_max={config.v_max}")
    if config.value_scale <= 0.0:
        raise UsageError(f"value_scale={config.value_scale}: must be positive")
    if config.atoms < 2:
        raise UsageError(f"atoms={config.atoms}: must be at least 2")
