"""Rainbow on gymnax, DQN with all that is known to help it: `python experiments/rainbow_gymnax.py`.

Without `--env` it balances CartPole-v1. `--help` shows every flag.
"""

import sys

from purerl.agents import dqn
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(dqn, suite="gymnax", default_env="gymnax/CartPole-v1", variant="rainbow"))
