"""purerl: reinforcement learning as one XLA program."""

import importlib.metadata
import sys

# Before anything that older versions cannot parse or import: one line, and no traceback.
if sys.version_info < (3, 12):  # noqa: UP036
    sys.exit("purerl needs Python >= 3.12; this is %d.%d" % sys.version_info[:2])  # noqa: UP031
_jax = importlib.metadata.version("jax")
if tuple(int(n) for n in _jax.split(".")[:2]) < (0, 11):
    sys.exit(f"purerl needs jax >= 0.11, < 0.12; installed is {_jax}")

from purerl.engine import Result, train  # noqa: E402
from purerl.engine.load import Loaded, load  # noqa: E402
from purerl.engine.record import read_metric  # noqa: E402
from purerl.envs import make, registered  # noqa: E402
from purerl.errors import RunError, UsageError  # noqa: E402
from purerl.sweeps import choice, grid, log_uniform, sample, uniform  # noqa: E402
from purerl.tuning import tuned  # noqa: E402
from purerl.version import VERSION as __version__  # noqa: E402

__all__ = [
    "Loaded",
    "Result",
    "RunError",
    "UsageError",
    "__version__",
    "choice",
    "grid",
    "load",
    "log_uniform",
    "make",
    "read_metric",
    "registered",
    "sample",
    "train",
    "tuned",
    "uniform",
]
