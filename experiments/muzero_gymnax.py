"""MuZero on gymnax: `python experiments/muzero_gymnax.py --env Catch-bsuite --seeds 8`.

Without `--env` it balances CartPole-v1. `--help` shows every flag.
"""

import sys

from purerl.agents import muzero
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(muzero, suite="gymnax", default_env="gymnax/CartPole-v1"))
