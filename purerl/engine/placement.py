"""Where the members live: rows of a mesh of devices. Axes: M members, P rows of them, D shards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from purerl.errors import UsageError, positive, whole
from purerl.ops.batching import DATA_AXIS
from purerl.types import Agent

CPU_BATCH = 4  # members that one CPU device runs abreast, see docs/decisions/0003
POPULATION_AXIS = "population"


@dataclass(frozen=True)
class Placement:
    """M members on a mesh of devices, `("population", "data")`.

    The population axis is cut into shards of equal rows, each computed by itself: no collective
    crosses them. The data axis splits the environments of every member; XLA places its reductions.
    What does not fill the last rows is padding: a copy of the last member, never reported.

    Attributes:
      members: M.
      batch: rows that run abreast in a shard; its groups run in turn.
      mesh: the devices.
    """

    members: int
    batch: int
    mesh: Mesh

    @property
    def shards(self) -> int:
        """D, the size of the population axis."""
        return self.mesh.shape[POPULATION_AXIS]

    @property
    def data(self) -> int:
        """Devices that share one member's environments."""
        return self.mesh.shape[DATA_AXIS]

    @property
    def local(self) -> int:
        """Rows of one shard: whole groups."""
        return round_up(-(-self.members // self.shards), self.batch)

    @property
    def rows(self) -> int:
        """P, of all shards."""
        return self.shards * self.local

    @property
    def population(self) -> NamedSharding:
        """Of leaves [P, ...]."""
        return NamedSharding(self.mesh, Spec(POPULATION_AXIS))

    @property
    def replicated(self) -> NamedSharding:
        """Of what every device has whole."""
        return NamedSharding(self.mesh, Spec())

    def shardings(self, state: Any) -> Any:
        """Of the leaves of a RunState: environments are the second axis of the actor's."""
        actor = NamedSharding(self.mesh, Spec(POPULATION_AXIS, DATA_AXIS))
        everywhere = jax.tree.map(lambda _: self.population, state)
        split = jax.tree.map(lambda _: actor, state.train.actor)
        return everywhere._replace(train=everywhere.train._replace(actor=split))

    def order(self) -> np.ndarray:
        """int [P] the member of each row to begin with; -1 for padding."""
        rows = np.arange(self.shards * self.local)
        return np.where(rows < self.members, rows, -1)

    def groups(self, active: np.ndarray) -> np.ndarray:
        """int32 [D] how many groups each shard must run for these rows [P] of booleans."""
        by_shard = active.reshape(self.shards, self.local // self.batch, self.batch).any(-1)
        last = by_shard.shape[1] - np.argmax(by_shard[:, ::-1], 1)
        return np.where(by_shard.any(1), last, 0).astype(np.int32)

    def compact(self, active: np.ndarray) -> np.ndarray:
        """int [P]: old rows in an order in which every shard has its share of active ones first."""
        alive, rest = np.flatnonzero(active), np.flatnonzero(~active)
        per_shard = [alive[shard :: self.shards] for shard in range(self.shards)]
        out, used = [], 0
        for mine in per_shard:
            fill = self.local - len(mine)
            out += [*mine, *rest[used : used + fill]]
            used += fill
        return np.array(out, int)

    def each_shard(self, function: Callable[..., Any], specs: Sequence[bool]) -> Callable[..., Any]:
        """`function` of one shard's rows, over all rows; `specs` tells which arguments have rows.

        Manual over the population, so that a shard cannot depend on another; left to XLA over the
        data axis. `check_vma` would sum gradients over the population wherever parameters were
        created inside (tests/engine/test_devices.py, the trap).
        """
        if self.mesh.size == 1:
            return function
        rows, whole = Spec(POPULATION_AXIS), Spec()
        return jax.shard_map(
            _without_empty_constants(function),
            mesh=self.mesh,
            in_specs=tuple(rows if of_rows else whole for of_rows in specs),
            out_specs=rows,
            axis_names={POPULATION_AXIS},
            check_vma=False,
        )

    def put(self, tree: Any) -> Any:
        """Host arrays [P, ...], the same in every process, on the devices."""
        put = lambda x: jax.make_array_from_callback(x.shape, self.population, x.__getitem__)
        return jax.tree.map(lambda x: put(np.asarray(x)), tree)


def place(
    members: int,
    devices: int | None = None,
    data_parallel: int | Literal["all"] = 1,
    batch: int | None = None,
    groups: int = 1,
    cpu_batch: int = CPU_BATCH,
) -> Placement:
    """Choose the mesh and the groups for M members.

    Args:
      members: M.
      devices: how many of `jax.devices()`; by default all that find work.
      data_parallel: devices that share the environments of each member.
      batch: rows abreast in a shard, at most; by default all, or on a CPU `cpu_batch`.
      groups: that a shard is at least cut into, if its members allow.
      cpu_batch: see `batch`.

    Raises:
      UsageError: more devices than there are, or a number that does not divide them.
    """
    present = jax.devices()
    if devices is not None:
        devices = whole("devices", devices)
        positive("devices", devices)
        if devices > len(present):
            kind = present[0].platform
            raise UsageError(f"devices={devices}: there are {len(present)} ({kind})")
    wanted = devices or len(present)
    data = wanted if data_parallel == "all" else whole("data_parallel", data_parallel)
    positive("data_parallel", data)
    if wanted % data:
        raise UsageError(f"data_parallel={data}: must divide devices={wanted}")
    # Over several hosts every device must have a part; on one, those without work stay out.
    shards = wanted // data if jax.process_count() > 1 else min(wanted // data, members)
    idle = jax.process_count() - len({d.process_index for d in present[: shards * data]})
    if idle:
        raise UsageError(
            f"devices={devices}: leaves {idle} of {jax.process_count()} processes without any;"
            f" there are {len(present)}, in the order of processes"
        )
    mesh = jax.make_mesh(
        (shards, data),
        (POPULATION_AXIS, DATA_AXIS),
        axis_types=(AxisType.Auto,) * 2,
        devices=present[: shards * data],
    )
    if batch is None:
        batch = cpu_batch if present[0].platform == "cpu" else members
    share = -(-members // shards)
    groups = min(max(groups, -(-share // batch)), share)
    return Placement(members, -(-share // groups), mesh)


def check_sharing(where: Placement, agent: Agent) -> None:
    """Raise UsageError unless the devices of a member can share its environments equally."""
    num_envs = getattr(agent.config, "num_envs", where.data)
    if num_envs % where.data:
        raise UsageError(f"data_parallel={where.data}: must divide num_envs={num_envs}")


def _without_empty_constants(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with what it closes over made inside where that has no elements.

    `x.at[:].set(y)` closes over indices of shape [0]. `shard_map` makes operands of constants, and
    XLA, as jax 0.11 has it, crashes when it finds that such an operand is used no more, as in
    gymnax's SpaceInvaders on two devices.
    """

    def inner(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        made = lambda x: jnp.zeros(x.shape, x.dtype) if np.size(x) == 0 else x
        closed = ClosedJaxpr(closed.jaxpr, [made(x) for x in closed.consts])
        flat = jaxpr_as_fun(closed)(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), flat)

    return inner


def on_host(tree: Any) -> Any:
    """NumPy copies of arrays that may be spread over processes; all processes must ask."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def round_up(n: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `n`."""
    return -(-n // unit) * unit
