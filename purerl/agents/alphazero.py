"""AlphaZero: a network learns from searches of the true model, which the network guides.

Silver et al. 2018, https://doi.org/10.1126/science.aar6404, with the search and the policy target
of Gumbel AlphaZero (Danihelka et al. 2022, https://openreview.net/forum?id=bERaNdoegnO) unless
`search="puct"`.

Departures: it learns from the games of this iteration, in the manner of PPO, without a replay;
games that the iteration cuts count what the network expects of them; games begin with random moves;
AdamW in place of momentum with an L2 penalty.
Axes: B boards, T moves, N rows of a minibatch, A actions.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.envs import Environment, Revealed, VectorState, games, reset_batch
from purerl.envs.matches import Match, SelfPlay
from purerl.errors import UsageError, cached, check_settings
from purerl.networks import Network, check_torso, policy_value
from purerl.ops import batching, returns
from purerl.ops.search import Plan, masked, outcome, plan
from purerl.rollout import unroll
from purerl.types import Agent, Clock, EnvParams, Key, Magnitude, Metrics, Share, TrainState, pytree


@dataclass(frozen=True)
class Config:
    """Static settings: shapes, loop lengths and structure. A new value recompiles."""

    num_envs: int = 128  # boards played on in parallel by one member
    unroll_length: int = 16  # moves on each board in one iteration
    opening: Annotated[int, 0] = 4  # games begin after 0 to this many random moves
    num_epochs: int = 2  # passes over the moves of an iteration
    num_minibatches: int = 4  # of each pass
    search: Literal["gumbel", "puct"] = "gumbel"  # how moves are found
    num_simulations: int = 16  # model steps for each move
    considered: int = 16  # gumbel: moves looked at, at most
    torso: Literal["mlp", "cnn", "resnet"] = "mlp"  # dense layers, or convolutions before them
    hidden_sizes: tuple[int, ...] = (128, 128)  # features of each dense layer
    schedule: Literal["constant", "linear"] = "linear"  # learning rate over the run


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    learning_rate: Magnitude = 2e-3  # Adam step size
    weight_decay: Magnitude = 1e-4  # of every parameter, decoupled
    value_coef: Magnitude = 1.0  # weight of the value loss
    value_lambda: Share = 1.0  # 1: the outcome is the target; below, searched values are mixed in
    max_grad_norm: Magnitude = 1.0  # gradients are scaled down to at most this global norm
    env_params: EnvParams = {}  # games have none


@pytree
class Learner:
    """Parameters and Adam's state."""

    params: Any
    opt_state: optax.OptState


class Batch(NamedTuple):
    """Rows [N, ...]: the board, what the search made of the policy, and how the game ended."""

    board: jax.Array
    weights: jax.Array
    outcome: jax.Array


def optimizer(config: Config, hparams: HParams, clock: Clock) -> optax.GradientTransformation:
    """Global-norm clipping, then AdamW; the schedule's horizon is the run, in iterations."""
    left = 1.0 - clock.step / clock.total if config.schedule == "linear" else 1.0
    adam = optax.adamw(hparams.learning_rate * left, weight_decay=hparams.weight_decay)
    return optax.chain(optax.clip_by_global_norm(hparams.max_grad_norm), adam)


def look_ahead(
    params: Any, key: Key, board: jax.Array, game: games.Game, network: Network, config: Config,
    explore: bool,
) -> Plan:  # fmt: skip
    """Search from N boards with the rules as the model; the key is consumed."""
    observe = jax.vmap(game.observe)

    def recurrent(params, key, action, board):
        del key
        board, won, over = jax.vmap(game.play)(board, action)
        logits, value = network.apply(params, observe(board))
        logits = masked(logits, jax.vmap(game.legal)(board))
        return outcome(won.astype(jnp.float32), jnp.where(over, 0.0, -1.0), logits, value), board

    logits, value = network.apply(params, observe(board))
    return plan(
        params, key, (logits, value, board), recurrent, legal=jax.vmap(game.legal)(board),
        search=config.search, num_simulations=config.num_simulations,
        considered=config.considered, max_depth=game.max_moves, explore=explore,
    )  # fmt: skip


def loss(params: Any, batch: Batch, game: games.Game, network: Network, hparams: HParams):
    """Cross-entropy to the search's policy and squared error of the outcome -> (scalar, metrics).

    Silver et al. 2018, eq. 1; the regulariser is the optimiser's.
    """
    logits, value = network.apply(params, jax.vmap(game.observe)(batch.board))
    legal = jax.vmap(game.legal)(batch.board)
    log_probs = jax.nn.log_softmax(masked(logits, legal))
    policy_loss = -jnp.where(legal, batch.weights * log_probs, 0.0).sum(-1).mean()
    value_loss = jnp.square(value - batch.outcome).mean()
    entropy = -jnp.where(legal, jnp.exp(log_probs) * log_probs, 0.0).sum(-1).mean()
    return policy_loss + hparams.value_coef * value_loss, {
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "policy/entropy": entropy,
    }


def make(env: Environment, config: Config = Config(), network: Network | None = None) -> Agent:
    """AlphaZero for a game; it plays itself, and is evaluated against the opponent of `env`.

    The agent's environment is `Revealed`: what it sees is the board, for the search to play on.

    Raises:
      UsageError: a setting that cannot be, before anything compiles.
    """
    return _make(env, config, network)


@cached
def _make(env: Environment, config: Config, network: Network | None) -> Agent:
    check(env, config)
    assert isinstance(env, Match)
    game, both, env = env.game, Revealed(SelfPlay(env.game, config.opening)), Revealed(env)
    board_of = both.layout.unpack
    own = network is not None
    network = network or policy_value(
        game.observation_space, game.num_actions, config.torso, config.hidden_sizes
    )
    num_envs, length = config.num_envs, config.unroll_length

    def init(key: Key, hparams: HParams) -> TrainState:
        params_key, env_key = jax.random.split(key)
        params = network.init(params_key)
        opt_state = optimizer(config, hparams, Clock(jnp.int32(0), jnp.int32(1))).init(params)
        return TrainState(Learner(params, opt_state), reset_batch(env_key, both, num_envs, {}))

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        play_key, shuffle_key = jax.random.split(key)
        learner, world = state
        assert isinstance(world, VectorState)

        def behave(key, carry, obs, start):
            del start
            board = board_of(obs)
            found = look_ahead(learner.params, key, board, game, network, config, explore=True)
            return carry, found.action, (found.weights, found.value)

        world, _, rollout, metrics = unroll(
            play_key, both, behave, world, (), length, params={}, reset_mode="pool"
        )
        weights, value = rollout.extras
        _, last = network.apply(learner.params, jax.vmap(game.observe)(world.env))
        outcome = returns.lambda_return(
            rollout.reward, jnp.concatenate([value[1:], last[None]]), rollout.terminated,
            rollout.done, discount=-1.0, trace=hparams.value_lambda,
        )  # fmt: skip
        rows = lambda x: x.reshape(length * num_envs, *x.shape[2:])
        packed, unpack = batching.pack(
            jax.tree.map(rows, Batch(board_of(rollout.obs), weights, outcome)),
        )
        adam = optimizer(config, hparams, clock)

        def minibatch(learner, index):
            batch = unpack(batching.take(packed, index))
            gradient = jax.grad(loss, has_aux=True)
            grads, terms = gradient(learner.params, batch, game, network, hparams)
            updates, opt_state = adam.update(grads, learner.opt_state, learner.params)
            return Learner(optax.apply_updates(learner.params, updates), opt_state), terms

        order = batching.shuffles(shuffle_key, config.num_epochs, length, num_envs)
        order = order.reshape(config.num_epochs * config.num_minibatches, -1)
        learner, terms = jax.lax.scan(minibatch, learner, order)
        metrics |= {name: x.mean() for name, x in terms.items()}
        return TrainState(learner, world), metrics

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        board = board_of(obs)
        found = look_ahead(learner.params, key, board, game, network, config, explore=not greedy)
        return found.action, carry

    steps = num_envs * length
    return Agent(
        init, update, act, lambda batch: (), HParams(), env, config, steps,
        own_network=own,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    if not isinstance(env, Match):
        raise UsageError(f"env={env.name!r}: AlphaZero needs the rules of a game, as game/hex has")
    check_torso(config.torso, env.game.observation_space)
    rows = config.num_envs * config.unroll_length
    if rows % config.num_minibatches:
        raise UsageError(
            f"num_minibatches={config.num_minibatches}: must divide "
            f"num_envs * unroll_length = {rows}"
        )
