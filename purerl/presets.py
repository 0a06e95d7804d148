"""Tuned settings, one entry for each algorithm and environment. `--env` chooses; flags override.

An entry may hold total_steps, any field of the algorithm's Config or HParams, and for brax the
backend, episode_length and action_repeat. What is not here keeps the algorithm's default. Names may
end in `*`; of all that match, the most exact says most. What each entry reaches is in
`benchmarks/results/learning.json`; those that are not there are published settings of others.
"""

import fnmatch
from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "*": {"total_steps": 1_000_000},
        "gymnax/CartPole-v1": {
            "total_steps": 500_000, "num_envs": 16, "unroll_length": 128,
            "learning_rate": 1e-3, "schedule": "linear",
        },
        "gymnax/Acrobot-v1": {
            "total_steps": 500_000, "num_envs": 16, "unroll_length": 128,
            "learning_rate": 1e-3, "schedule": "linear",
        },
        "brax/*": {
            "total_steps": 5_000_000, "num_envs": 64, "normalize_obs": True, "entropy_coef": 0.0,
        },
        "brax/inverted_pendulum": {"total_steps": 300_000, "num_envs": 16},
    },
}  # fmt: skip


def preset(algorithm: str, env: str) -> dict[str, Any]:
    """The settings for one algorithm on one environment."""
    table = PRESETS.get(algorithm, {})
    matching = sorted((p for p in table if fnmatch.fnmatch(env, p)), key=len)
    return {field: value for pattern in matching for field, value in table[pattern].items()}
