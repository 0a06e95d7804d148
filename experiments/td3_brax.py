"""TD3 on brax: `python experiments/td3_brax.py --env reacher --seeds 16`.

Without `--env` it balances inverted_pendulum. `--help` shows every flag.
"""

import sys

from purerl.agents import td3
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(td3, suite="brax", default_env="brax/inverted_pendulum"))
