"""Planning by tree search, with mctx, as one call for all agents that plan.

Axes: N roots searched at once, A actions. A recurrent function is mctx's: (params, key, action [N],
embedding) -> (mctx.RecurrentFnOutput, embedding), with the discount -1 (times gamma) where the
other player moves next.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import mctx

from purerl.types import Key

type Search = Literal["gumbel", "puct"]

NOISE, DIRICHLET_ALPHA = 0.25, 0.3
"""Share of noise in the prior at the root with puct, and how even it is."""


# chex makes these dataclasses, which type checkers do not see.
_ROOT: Any = mctx.RootFnOutput
_OUTCOME: Any = mctx.RecurrentFnOutput


class Plan(NamedTuple):
    """What a search found.

    Attributes:
      action: int32 [N], to be taken.
      weights: float32 [N, A], a better policy than the prior; 0 where a move may not be made.
      value: float32 [N], of the root: what the actions tried are worth, under the weights. Not
        mctx's mean over visits: sequential halving visits poor actions as often as good ones.
    """

    action: jax.Array
    weights: jax.Array
    value: jax.Array


def plan(
    params: Any,
    key: Key,
    root: tuple[jax.Array, jax.Array, Any],
    recurrent: Callable[..., Any],
    *,
    legal: jax.Array | None = None,
    search: Search = "gumbel",
    num_simulations: int,
    considered: int = 16,
    max_depth: int | None = None,
    value_scale: float | None = None,
    explore: bool = True,
) -> Plan:
    """Search from N roots; the key is consumed.

    gumbel: actions by Gumbel top-k and sequential halving; the weights are the completed-Q
    improvement of the prior, which is one in expectation with any number of simulations (Danihelka
    et al. 2022, https://openreview.net/forum?id=bERaNdoegnO, eq. 11). puct: visit counts, with
    `noisy` at the root (Schrittwieser et al. 2020, https://arxiv.org/abs/1911.08265, appendix B;
    but values are stretched to [0, 1] among a node and its children, not over the whole tree).

    Args:
      params: passed to `recurrent`.
      key: consumed.
      root: (prior logits [N, A], value [N], embedding with leaves [N, ...]).
      recurrent: the model.
      legal: bool [N, A], moves that may be made; by default all.
      search: which of the two.
      num_simulations: model steps from each root.
      considered: gumbel: actions that are looked at from a root, at most.
      max_depth: of the tree; a game has no more moves than cells, and below an end a search would
        go on to no use.
      value_scale: gumbel: c_scale of eq. 8, for values as they are. None stretches those of every
        node to [0, 1], however close they are, with 0.1: where a model errs by more than they
        differ, that makes noise of a good prior.
      explore: False takes the best found, without noise.
    """
    logits, value, embedding = root
    start = _ROOT(prior_logits=logits, value=value, embedding=embedding)
    # Bits, not a typed key: mctx's loop over simulations, once batched, selects between keys, which
    # a check for keys used twice takes for a second use.
    bits = jax.random.key_data(key)
    shared: dict[str, Any] = {
        "params": params, "rng_key": bits, "root": start, "recurrent_fn": recurrent,
        "num_simulations": num_simulations, "max_depth": max_depth,
        "invalid_actions": None if legal is None else ~legal,
    }  # fmt: skip
    if search == "gumbel":
        weigh = mctx.qtransform_completed_by_mix_value
        if value_scale is not None:
            weigh = functools.partial(weigh, value_scale=value_scale, rescale_values=False)
        found: Any = mctx.gumbel_muzero_policy(
            **shared, max_num_considered_actions=considered, gumbel_scale=float(explore),
            qtransform=weigh,
        )  # fmt: skip
    else:
        fraction = NOISE if explore else 0.0
        if explore and legal is not None:
            bits, noise_bits = jax.random.key_data(jax.random.split(key))
            prior = noisy(jax.random.wrap_key_data(noise_bits), logits, legal)
            start = _ROOT(prior_logits=prior, value=value, embedding=embedding)
            shared |= {"rng_key": bits, "root": start}
            fraction = 0.0
        found = mctx.muzero_policy(
            **shared, dirichlet_fraction=fraction, dirichlet_alpha=DIRICHLET_ALPHA,
            temperature=1.0 if explore else 0.0,
        )  # fmt: skip
    tree = found.search_tree.summary()
    tried = jnp.where(tree.visit_counts > 0, found.action_weights, 0.0) + 1e-30 * tree.visit_counts
    value = (tried * tree.qvalues).sum(-1) / tried.sum(-1)
    return Plan(found.action.astype(jnp.int32), found.action_weights, value)


def noisy(key: Key, logits: jax.Array, legal: jax.Array) -> jax.Array:
    """Logits [N, A] of 3/4 of the policy and 1/4 of Dirichlet noise, over the moves of `legal`.

    Silver et al. 2017, https://doi.org/10.1038/nature24270, section "self-play". mctx's own noise
    is of all moves, and what falls on those that may not be made is lost. The key is consumed.
    """
    gamma = jax.random.gamma(key, DIRICHLET_ALPHA, logits.shape)
    logits, gamma = masked(logits, legal), jnp.where(legal, gamma, 0.0)
    noise = gamma / jnp.maximum(gamma.sum(-1, keepdims=True), 1e-30)
    mixed = (1.0 - NOISE) * jax.nn.softmax(logits) + NOISE * noise
    return jnp.log(jnp.maximum(mixed, 1e-30))


def outcome(reward: jax.Array, discount: jax.Array, logits: jax.Array, value: jax.Array) -> Any:
    """What a recurrent function returns of one step of the model, beside the embedding.

    Args:
      reward: [N] of the step.
      discount: [N] of what follows: 0 after an end, negative where the other player moves next.
      logits: [N, A] of the policy after it.
      value: [N] of the state after it.
    """
    return _OUTCOME(reward=reward, discount=discount, prior_logits=logits, value=value)


def masked(logits: jax.Array, legal: jax.Array) -> jax.Array:
    """Logits [..., A] with those of moves that may not be made as low as can be."""
    return jnp.where(legal, logits, jnp.finfo(logits.dtype).min)
