"""PPO on brax: `python experiments/ppo_brax.py --seeds 64`, and `--help` for every flag.

Without `--env` it balances the inverted pendulum.
"""

import sys

from purerl.agents import ppo
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(ppo, suite="brax", default_env="brax/inverted_pendulum"))
