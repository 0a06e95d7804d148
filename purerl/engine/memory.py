"""Whether a population fits, and which one would."""

import math
import os
from pathlib import Path

import jax

from purerl.engine.placement import Placement
from purerl.engine.population import Population
from purerl.engine.programs import shapes, tree_bytes
from purerl.errors import UsageError
from purerl.types import Agent

GROUP = Path("/sys/fs/cgroup")  # where a container's limits are


def check_memory(
    where: Placement, agent: Agent, members: Population, temporary: int = 0, copies: int = 1
) -> None:
    """Raise UsageError if a device cannot hold its share of the state and `temporary` bytes.

    `copies` is how often the state is there at once, at worst.
    """
    limit = memory_limit(where)
    if limit is None:
        return
    _, hparams, state = shapes(agent, where, jax.tree.structure(members.hparams))
    shared = tree_bytes((state.train.learner, hparams)) + tree_bytes(state.train.actor) / where.data
    needed = copies * shared / where.shards
    if needed + temporary <= limit:
        return
    gigabytes = lambda x: f"{x / 1e9:.3g} GB"
    # What is temporary grows with the rows abreast, what is kept with all of them.
    per_row, per_abreast = needed / where.local, temporary / where.batch
    if where.batch == where.local:
        fits = where.shards * int(limit // (per_row + per_abreast))
    else:
        fits = where.shards * int(max(limit - temporary, 0) // per_row)
    sliced = where.shards * int(max(limit - per_abreast, 0) // per_row)
    said = f"the largest population that fits is {fits}"
    if sliced > fits:
        abreast = max(1, int((limit - needed) // per_abreast))
        said += (
            f"; with --population-batch {abreast} this one does" if needed + per_abreast <= limit
            else f", or {sliced} with --population-batch 1"
        )  # fmt: skip
    raise UsageError(
        f"population={members.size}: needs {gigabytes(needed + temporary)} on each device, which"
        f" has {gigabytes(limit)}; {said}"
    )


def memory_limit(where: Placement) -> int | None:
    """Bytes that one device can give, as far as it tells; those of a CPU share the machine's."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)
    free = [_free_memory(), _free_in_group()]
    known = [x for x in free if x is not None]
    return min(known) // len(where.mesh.local_devices) if known else None


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pages = {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} & set(os.sysconf_names)
        return math.prod(os.sysconf(name) for name in pages) if len(pages) == 2 else None


def _free_in_group() -> int | None:
    """What a container's limit leaves, if it has one."""
    try:
        limit, used = (GROUP / "memory.max").read_text(), (GROUP / "memory.current").read_text()
        if limit.strip() == "max":
            return None
        # Files that were read or written count as used until something else wants their place.
        lines = (GROUP / "memory.stat").read_text().splitlines()
        cached = next(int(x.split()[1]) for x in lines if x.startswith("inactive_file "))
        return int(limit) - int(used) + cached
    except (OSError, StopIteration, ValueError):
        return None
