"""TD3 on gymnax: `python experiments/td3_gymnax.py --env MountainCarContinuous-v0 --seeds 16`.

Without `--env` it swings up Pendulum-v1. `--help` shows every flag.
"""

import sys

from purerl.agents import td3
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(td3, suite="gymnax", default_env="gymnax/Pendulum-v1"))
