"""SAC on gymnax: `python experiments/sac_gymnax.py --env Reacher-misc --seeds 16`.

Without `--env` it swings up Pendulum-v1. `--help` shows every flag.
"""

import sys

from purerl.agents import sac
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(sac, suite="gymnax", default_env="gymnax/Pendulum-v1"))
