"""Checkpoints of a whole run, written by Orbax beside the training. https://orbax.readthedocs.io"""

import contextlib
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl.errors import UsageError


class Checkpoints:
    """The checkpoints of one run directory, named by iteration.

    Orbax writes each in a directory of another name and renames it when it is complete, so a run
    killed at any moment leaves the previous one whole.

    Args:
      path: their directory.
      keep: how many, the newest; None keeps all.
    """

    def __init__(self, path: Path, keep: int | None = None):
        from orbax.checkpoint import v1 as ocp  # a second of importing, for runs that save only

        # What fails is raised here; Orbax would print every thread's view of it as well.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        policies = ocp.training.preservation_policies
        policy: Any = policies.PreserveAll() if keep is None else policies.LatestN(keep)
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
        """Copy the state, then write it in the background.

        The copy is what lets the next chunk take over the buffers at once: on the host, or, of
        arrays that are spread over processes, on the devices; then every process writes its part.
        """
        self.wait()
        if step != self.latest():
            rows = jax.tree.leaves(state)[0].shape[0]
            copy = jax.tree.map(_to_host, state)
            self._writing = self._checkpointer.save_async(
                step, copy, custom_metadata={"rows": rows}
            )

    def rows(self, step: int) -> int:
        """The length of the leading axis of what was saved at `step`."""
        return saved_rows(self._checkpointer, step)

    def restore(self, step: int, like: Any, shardings: Any = None) -> Any:
        """The state saved at `step`, with the types of `like`, where `shardings` say."""
        return load_state(self._checkpointer, step, like, shardings)

    def wait(self) -> None:
        """Until what is being written is complete; raises what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        self.wait()
        self._checkpointer.close()


def saved_rows(checkpointer: Any, step: int) -> int:
    """The length of the leading axis of what was saved at `step`.

    Raises:
      UsageError: it cannot be read.
    """
    try:
        return int(checkpointer.metadata(step).custom_metadata["rows"])
    except (LookupError, OSError, TypeError, ValueError) as error:
        raise _unread(checkpointer, step, error) from None


def load_state(checkpointer: Any, step: int, like: Any, shardings: Any = None) -> Any:
    """What was saved at `step`, with the types of `like`; by default all of it on one device.

    Raises:
      UsageError: what was saved is another state, such as that of another version of the agent, or
        cannot be read.
    """
    if shardings is None:
        alone = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda _: alone, like)
    spread = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    try:
        return checkpointer.load(step, jax.tree.map(spread, like, shardings))
    except (LookupError, ValueError):  # Orbax says the same of both, over many lines
        said = "holds another state than the agent has here (of another version?), or is damaged"
        without = _without(checkpointer, step)
        raise UsageError(f"the checkpoint of iteration {step} {said}{without}") from None
    except Exception as error:  # Orbax raises that itself, where an array cannot be read
        if isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            raise  # another process is gone
        raise _unread(checkpointer, step, error) from None


def _unread(checkpointer: Any, step: int, error: Exception) -> UsageError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    # A full memory, a disk that does not answer: the checkpoint may be good.
    elsewhere = isinstance(error, OSError | MemoryError | jax.errors.JaxRuntimeError)
    missing = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    without = _without(checkpointer, step) if missing or not elsewhere else ""
    return UsageError(f"the checkpoint of iteration {step} cannot be read ({reason}){without}")


def _without(checkpointer: Any, step: int) -> str:
    """How to go on from the one before it, if there is one."""
    before = [int(one.step) for one in checkpointer.checkpoints if one.step < step]
    where = Path(checkpointer.directory) / str(step)
    return f"; with {where} moved elsewhere, that of {max(before)} is the newest" if before else ""


def _to_host(x: jax.Array) -> Any:
    # A typed key has no NumPy form; a copy on the device serves as well.
    if jax.process_count() > 1 or jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.numpy.copy(x)
    return np.array(x)
