"""purerl: reinforcement learning as one XLA program."""

from purerl.envs import make, registered
from purerl.errors import UsageError

__all__ = ["UsageError", "make", "registered"]
__version__ = "0.1.0"
