"""The population: seeds times hyperparameters, flattened to one leading axis. Axes: M members."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from purerl.errors import UsageError, whole
from purerl.types import Key

PURPOSES = INIT, UPDATE, EVALUATE, RENDER, EVOLVE = 0, 1, 2, 3, 4
"""Of a member's randomness: independent streams."""


class Population(NamedTuple):
    """Who is trained.

    Attributes:
      seeds: uint32 [M].
      hparams: the algorithm's HParams with float32 leaves [M].
    """

    seeds: np.ndarray
    hparams: Any

    @property
    def size(self) -> int:
        """M."""
        return len(self.seeds)

    @property
    def configurations(self) -> int:
        """C; member i has configuration i // (M / C)."""
        return self.size // len(np.unique(self.seeds))

    def columns(self) -> dict[str, np.ndarray]:
        """Every hyperparameter of each member: name -> [M]; `env_params.gravity` and such."""
        flat, _ = jax.tree_util.tree_flatten_with_path(self.hparams)
        name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")
        return {name(path): leaf for path, leaf in flat}

    def swept(self) -> dict[str, np.ndarray]:
        """The hyperparameters that differ between configurations: name -> [C], in float32."""
        each = self.size // self.configurations
        return {name: x[::each] for name, x in self.columns().items() if (x != x[0]).any()}


def population(hparams: Any, seeds: int | Sequence[int]) -> Population:
    """Every configuration with every seed, configurations outermost.

    Args:
      hparams: leaves are numbers, or [C] arrays or lists of C configurations.
      seeds: how many (0, 1, ...), or which.

    Raises:
      UsageError: no seeds, a seed twice or outside uint32, or leaves of different lengths.
    """
    several = isinstance(seeds, Iterable)
    chosen = [int(s) for s in seeds] if several else list(range(whole("seeds", seeds)))
    if not chosen:
        raise UsageError(f"seeds={seeds}: must be positive")
    if len(set(chosen)) < len(chosen) or min(chosen) < 0 or max(chosen) >= 2**32:
        raise UsageError(f"seeds={chosen}: must be different numbers from 0 to 4294967295")
    leaves, structure = jax.tree.flatten(hparams, is_leaf=lambda x: isinstance(x, list))
    if any(np.ndim(leaf) > 1 for leaf in leaves):
        raise UsageError("hparams: must be numbers, or arrays [C] of C configurations")
    sizes = {np.shape(leaf)[0] for leaf in leaves if np.ndim(leaf)}
    if len(sizes) > 1:
        raise UsageError(
            f"hparams: arrays of different lengths {sorted(sizes)}; must be one length"
        )
    configurations = sizes.pop() if sizes else 1
    spread = [np.broadcast_to(np.asarray(x, np.float32), (configurations,)) for x in leaves]
    rows = [np.repeat(x, len(chosen)) for x in spread]
    return Population(
        np.tile(np.asarray(chosen, np.uint32), configurations),
        jax.tree.unflatten(structure, rows),
    )


def check_bounds(members: Population) -> None:
    """Raise UsageError for a hyperparameter outside the bounds that its type names."""
    hints = get_type_hints(type(members.hparams), include_extras=True)
    for name, values in members.columns().items():
        for low, high in getattr(hints.get(name), "__metadata__", ()):
            if (wrong := values[~((values >= low) & (values <= high))]).size:
                allowed = f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"
                raise UsageError(f"{name}={wrong[0]:g}: must be {allowed}")


def keys(seeds: np.ndarray) -> Key:
    """The members' keys [M]."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))


def stream(key: Key, purpose: int, step: jax.Array | int = 0) -> Key:
    """The key of one use: a function of (member, purpose, step), never of history.

    Distinct for steps from 0 to 2**32 / 5.
    """
    return jax.random.fold_in(key, step * len(PURPOSES) + purpose)
