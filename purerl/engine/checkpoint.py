"""Checkpoints of a whole run, written by Orbax beside the training. https://orbax.readthedocs.io"""

import contextlib
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

KEPT = 2  # the newest, and one before it


class Checkpoints:
    """The checkpoints of one run directory, named by iteration.

    Orbax writes each in a directory of another name and renames it when it is complete, so a run
    killed at any moment leaves the previous one whole.
    """

    def __init__(self, path: Path):
        from orbax.checkpoint import v1 as ocp  # a second of importing, for runs that save only

        # What fails is raised here; Orbax would print every thread's view of it as well.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        policy: Any = ocp.training.preservation_policies.LatestN(KEPT)
        # In the background, a directory that cannot be made would be waited for, for minutes.
        options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        self._checkpointer = ocp.training.Checkpointer(
            str(path.absolute()),
            preservation_policy=policy,
            cleanup_tmp_directories=True,
            context=ocp.Context(async_options=options),
        )
        self._writing: Any = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after an error, let what is being written end, and keep to that error."""
        with contextlib.suppress(*(() if kind is None else (Exception,))):
            self.close()

    def latest(self) -> int | None:
        """The iteration of the newest complete checkpoint."""
        newest = self._checkpointer.latest
        return None if newest is None else int(newest.step)

    def save(self, step: int, state: Any) -> None:
        """Copy the state to the host, then write it in the background.

        The copy is what lets the next chunk take over the buffers at once.
        """
        self.wait()
        if step != self.latest():
            host = jax.tree.map(_to_host, state)
            self._writing = self._checkpointer.save_async(step, host)

    def restore(self, step: int, like: Any) -> Any:
        """The state saved at `step`, on the device, with the types of `like`."""
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like
        )
        return self._checkpointer.load(step, abstract)

    def wait(self) -> None:
        """Until what is being written is complete; raises what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        self.wait()
        self._checkpointer.close()


def _to_host(x: jax.Array) -> Any:
    # A typed key has no NumPy form; a copy on the device serves as well.
    if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.numpy.copy(x)
    return np.array(x)
