"""Discrete SAC on gymnax: `python experiments/sac_discrete_gymnax.py --env Acrobot-v1 --seeds 16`.

Without `--env` it balances CartPole-v1. `--help` shows every flag.
"""

import sys

from purerl.agents import sac_discrete
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(sac_discrete, suite="gymnax", default_env="gymnax/CartPole-v1"))
