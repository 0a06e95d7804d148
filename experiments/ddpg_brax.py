"""DDPG on brax: `python experiments/ddpg_brax.py --env reacher --seeds 16`.

Without `--env` it balances inverted_pendulum. `--help` shows every flag.
"""

import sys

from purerl.agents import ddpg
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(ddpg, suite="brax", default_env="brax/inverted_pendulum"))
