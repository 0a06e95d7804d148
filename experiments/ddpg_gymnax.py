"""DDPG on gymnax: `python experiments/ddpg_gymnax.py --env MountainCarContinuous-v0 --seeds 16`.

Without `--env` it swings up Pendulum-v1. `--help` shows every flag.
"""

import sys

from purerl.agents import ddpg
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(ddpg, suite="gymnax", default_env="gymnax/Pendulum-v1"))
