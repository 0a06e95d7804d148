"""Several processes as one run, by JAX's own distributed runtime. One process a host, or a device.

https://docs.jax.dev/en/latest/multi_process.html
"""

import contextlib
import ctypes
import json
import os
import re
import signal
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from purerl.errors import UsageError

START_SECONDS = 300  # that a process waits for the others to start
HEARTBEAT_SECONDS = 30  # without a sign of life, after which a process counts as gone
GONE = "distributed: another process is gone; start all of them again, with --resume"


def initialize(
    wanted: bool, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Join the other processes, if wanted or if the cluster started several. Before any use of JAX.

    Args:
      wanted: whether to join in any case.
      coordinator: address of process 0 as host:port; None asks the cluster (SLURM, Open MPI,
        Kubernetes, Cloud TPU, as `jax.distributed.initialize` finds them).
      num_processes: of all hosts; None asks the cluster.
      process_id: of this one, 0 to num_processes - 1; None asks the cluster.

    Raises:
      UsageError: no cluster and no address, or the others did not come.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    if not wanted and any(value is not None for value in given.values()):
        name = next(name for name, value in given.items() if value is not None)
        raise UsageError(f"{name}={given[name]!r}: needs --distributed")
    if not (wanted or in_cluster()) or jax.distributed.is_initialized():
        return
    missing = [name for name, value in given.items() if value is None]
    if missing and not in_cluster():
        raise UsageError(
            f"{missing[0]}=None: --distributed needs --coordinator HOST:PORT, --num-processes and"
            " --process-id, or SLURM, Open MPI, Kubernetes or Cloud TPU to tell them"
        )
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise UsageError(f"coordinator={coordinator!r}: must be HOST:PORT")
    if process_id is not None and not 0 <= process_id < (num_processes or process_id + 1):
        raise UsageError(f"process_id={process_id}: must be below num_processes={num_processes}")
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"distributed: the processes did not come together ({reason})") from None
    if _alone_on_host() and "JAX_LOCAL_DEVICE_IDS" not in os.environ:
        # JAX takes a process of SLURM or Open MPI for one of many on its host, with one device.
        for kind in ("cuda", "rocm"):
            own = os.environ.get(f"JAX_{kind.upper()}_VISIBLE_DEVICES", "all")
            jax.config.update(f"jax_{kind}_visible_devices", own)
    _explain_abort()


def _alone_on_host() -> bool:
    """Whether SLURM or Open MPI has started one process on each host."""
    mpi = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE")
    tasks = mpi or os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    return re.fullmatch(r"1(\(x\d+\))?", tasks) is not None


def _explain_abort() -> None:
    """Say in one line what it means when JAX's runtime aborts the process.

    It does as soon as it loses process 0, with a C++ stack trace, and cannot be told otherwise.
    Python's own handlers run too late for this signal; a C one runs in the thread that aborts.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_aborted)
    _explain_abort.handler = handler  # it must live as long as the process
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


def _aborted(_: int) -> None:
    os.write(2, f"error: {GONE}\n".encode())
    os._exit(1)


def use_cores(alone_on: str | None = None) -> None:
    """Give a CPU one device for each core, unless told how many; before any use of JAX.

    Two members, each on a core of its own, take less time than both on two cores together, since
    the products of a small network do not fill two. A member that trains alone has one device, and
    XLA one thread fewer than there are cores, as the one that calls it works too (decision 13).

    Args:
      alone_on: the environment's name, where one member trains and nothing beside it.
    """
    flag = "xla_force_host_platform_device_count"
    if "JAX_NUM_CPU_DEVICES" in os.environ or flag in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    # MinAtar is the exception: there PPO gains from every thread (decision 13).
    alone = alone_on is not None and "MinAtar" not in alone_on
    with contextlib.suppress(RuntimeError):  # JAX is in use already, and keeps what it has
        jax.config.update("jax_num_cpu_devices", 1 if alone else cores)
        if alone and not {"NPROC", "PJRT_NPROC"} & os.environ.keys():  # XLA reads both
            os.environ["PJRT_NPROC"] = str(max(1, cores - 1))


def in_cluster() -> bool:
    """Whether a launcher has started this process as one of several."""
    sizes = (os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    several = any(size.isdigit() and int(size) > 1 for size in sizes)
    pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    job = {"JOB_COMPLETION_INDEX", "KUBERNETES_SERVICE_HOST"} <= os.environ.keys()
    return several or pod or job


def first() -> bool:
    """Whether this process is the one that prints and writes tables."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether this process is one of several, without making JAX look for its devices."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process; all must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def gather(text: str) -> list[str]:
    """What each process says; all must speak."""
    if jax.process_count() == 1:
        return [text]
    raw = np.frombuffer(text.encode(), np.uint8)
    lengths = np.ravel(multihost_utils.process_allgather(np.array(len(raw))))
    padded = np.zeros(int(lengths.max()) or 1, np.uint8)
    padded[: len(raw)] = raw
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    return [bytes(row[:n]).decode() for row, n in zip(rows, lengths, strict=True)]


def by_first(action: Callable[[], Any]) -> None:
    """Do something in the first process only, and raise everywhere what was wrong with it."""
    error: UsageError | None = None
    if first():
        try:
            action()
        except UsageError as caught:
            error = caught
    said = gather("" if error is None else str(error))[0]
    if said:
        raise error or UsageError(said)


def agree(settings: dict[str, Any], differences: Callable[..., list[str]]) -> None:
    """Raise UsageError where the processes were started with different settings."""
    everywhere = [json.loads(text) for text in gather(json.dumps(settings))]
    for process, other in enumerate(everywhere):
        if wrong := differences(everywhere[0], other):
            said = "; ".join(w.replace("the run has", "process 0 has") for w in wrong)
            raise UsageError(f"distributed: process {process} has {said}")
