"""What is compared: tasks, the settings both sides share, and what could not be made equal."""

import math
from dataclasses import dataclass, field
from typing import Any

from purerl.presets import preset


@dataclass(frozen=True)
class Task:
    """One algorithm on one environment.

    Attributes:
      algorithm: ppo, dqn or sac.
      env: as purerl names it.
      steps: environment steps of a run.
      quick: of a run that only shows that it works.
      chunks: parts of a run, each followed by an evaluation.
      episodes: of an evaluation.
      score: mean return that is to be reached.
      settings: by our names of the fields, for both sides.
    """

    algorithm: str
    env: str
    steps: int
    quick: int
    chunks: int
    episodes: int
    score: float
    settings: dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A peer on a task, beside us.

    Attributes:
      greedy: how both are evaluated: the likeliest action, or a drawn one.
      unequal: what could not be made equal, in words for the table's reader.
      ours: settings of ours beside or instead of the task's, to do as the peer does.
      theirs: likewise of the peer; by our names.
    """

    greedy: bool
    unequal: tuple[str, ...]
    ours: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)


PPO = {
    "num_envs": 16, "unroll_length": 128, "num_epochs": 4, "num_minibatches": 4,
    "hidden_sizes": [64, 64], "activation": "tanh", "learning_rate": 1e-3, "discount": 0.99,
    "gae_lambda": 0.95, "clip_eps": 0.2, "value_coef": 0.5, "entropy_coef": 0.01,
    "max_grad_norm": 0.5,
}  # fmt: skip
BRAX_PPO = PPO | {
    "learning_rate": 1e-3, "discount": 0.995, "entropy_coef": 1e-3, "normalize_obs": True,
}  # fmt: skip
DQN = {
    "num_envs": 10, "num_updates": 1, "batch_size": 128, "capacity": 10_000,
    "learning_starts": 1_000, "target_period": 1, "target_rate": 0.01, "double": True,
    "hidden_sizes": [64, 64], "activation": "swish", "learning_rate": 5e-4, "discount": 0.99,
    "epsilon_end": 0.05, "exploration_fraction": 0.2, "max_grad_norm": 10.0,
}  # fmt: skip
SAC = {
    "num_envs": 1, "num_updates": 1, "batch_size": 256, "capacity": 10_240, "learning_starts": 512,
    "hidden_sizes": [64, 64], "activation": "relu", "learning_rate": 1e-3, "discount": 0.99,
    "target_rate": 0.005,
}  # fmt: skip

TASKS = {
    "ppo-cartpole": Task(
        "ppo", "gymnax/CartPole-v1", 122_880, 20_480, 20, 16, 475.0,
        PPO | {"num_epochs": 8, "discount": 0.98, "gae_lambda": 0.9},
    ),
    "ppo-breakout": Task(
        "ppo", "gymnax/Breakout-MinAtar", 1_638_400, 65_536, 20, 64, 10.0,
        PPO | {"num_envs": 64, "num_minibatches": 8, "activation": "relu"},
    ),
    "ppo-inverted-pendulum": Task(
        "ppo", "brax/inverted_pendulum", 204_800, 20_480, 10, 16, 300.0, BRAX_PPO
    ),
    "ppo-hopper": Task(
        "ppo", "brax/hopper", 1_638_400, 32_768, 10, 16, 1_000.0,
        BRAX_PPO | {"num_envs": 64, "unroll_length": 64, "num_minibatches": 16, "num_epochs": 8},
    ),
    "dqn-cartpole": Task("dqn", "gymnax/CartPole-v1", 102_400, 25_600, 20, 16, 250.0, DQN),
    "dqn-breakout": Task(
        "dqn", "gymnax/Breakout-MinAtar", 204_800, 12_800, 20, 64, 5.0,
        DQN | {"learning_rate": 3e-4, "learning_starts": 5_120},
    ),
    "sac-pendulum": Task("sac", "gymnax/Pendulum-v1", 10_240, 2_560, 20, 16, -200.0, SAC),
    # Each side as its own users are told to run it: RL Zoo's settings, and our preset.
    "sac-pendulum-own": Task("sac", "gymnax/Pendulum-v1", 10_240, 2_560, 20, 16, -200.0, {}),
    "sac-reacher": Task(
        "sac", "brax/reacher", 122_880, 24_576, 10, 16, -105.0,
        SAC | {
            "num_envs": 64, "num_updates": 8, "capacity": 122_880, "learning_starts": 8_192,
            "hidden_sizes": [128, 128], "discount": 0.95, "normalize_obs": True,
            "learning_rate": 3e-4,
        },
    ),
}  # fmt: skip

OLD_GYMNAX = "gymnax before 1.0, which counts time limits as terminations"
REJAX_PPO = Pair(
    False,
    (
        OLD_GYMNAX,
        "clips each element of a gradient, not its norm",
        "evaluated with drawn actions, as it has no others",
    ),
    ours={"clip_value": True},
)
REJAX_DQN = Pair(True, (OLD_GYMNAX, "clips each element of a gradient", "evaluated at eps 0.005"))
REJAX_SAC = Pair(
    False,
    (
        OLD_GYMNAX,
        "acts by its policy before learning starts, not at random",
        "evaluated with drawn actions, as it has no others",
    ),
)
BRAX_ON = Pair(
    True,
    (
        "jax before 0.10, which it needs",
        "shuffles whole unrolls, not steps",
        "its deviation depends on the observation and begins at 0.69, not 1",
        "every episode restarts from one cached state",
    ),
    ours={"squash": True},
)
BRAX_OFF = Pair(
    True,
    (
        "jax before 0.10, which it needs",
        "acts by its policy before learning starts, not at random",
        "its steps before learning starts are beside the run's, and count as compiling",
        "its deviation is a softplus of the network's output",
        "every episode restarts from one cached state",
    ),
    ours={"target_entropy": -0.5},  # of a dimension, which in Brax is not a setting
)
HOST = "gymnasium's environment on the host"
SBX_PPO = Pair(True, (HOST,))
SB3_PPO = Pair(True, (HOST, "torch on one thread, which is quicker for it here"))
SBX_SAC = Pair(True, (HOST,))
SBX_OWN = Pair(
    True,
    (HOST, "settings: its RL Zoo entry (learning rate 1e-3, 256-256), and our preset"),
    ours=preset("sac", "gymnax/Pendulum-v1"),
    theirs={"learning_rate": 1e-3},
)
PUREJAXRL_PPO = Pair(
    False,
    (
        OLD_GYMNAX,
        "its curve is of training episodes, as it has no evaluation, over evenly divided time",
    ),
    ours={"clip_value": True},
)
STOIX = (OLD_GYMNAX, "our jax, as it is slower with one before 0.6, which it asks for")
STOIX_PPO = Pair(
    True,
    (
        *STOIX,
        "standardises advantages over a batch, not a minibatch",
        "clips the gradients of actor and critic apart",
    ),
    ours={"clip_value": True},
)
STOIX_DQN = Pair(
    True,
    (
        *STOIX,
        "explores with one epsilon all along, as ours does here",
        "its steps before learning starts are beside the run's, and not timed",
        "Adam's epsilon is 1e-5",
    ),
    ours={"exploration_fraction": 0.0},
    theirs={"exploration_fraction": 0.0},
)
STOIX_SAC = Pair(
    True,
    (
        *STOIX,
        "acts by its policy before learning starts, not at random",
        "its steps before learning starts are beside the run's, and not timed",
        "its deviation is a softplus of the network's output",
        "Adam's epsilon is 1e-5",
    ),
    # Its entropy is of the environment's actions, which are twice as wide as ours in [-1, 1].
    ours={"target_entropy": -1.0 - math.log(2.0)},
)

PAIRS: dict[str, dict[str, Pair]] = {
    "rejax": {
        "ppo-cartpole": REJAX_PPO,
        "ppo-breakout": REJAX_PPO,
        "dqn-cartpole": REJAX_DQN,
        "dqn-breakout": REJAX_DQN,
        "sac-pendulum": REJAX_SAC,
    },
    "brax": {
        "ppo-inverted-pendulum": BRAX_ON,
        "ppo-hopper": BRAX_ON,
        "sac-reacher": BRAX_OFF,
    },
    "sbx": {
        "ppo-cartpole": SBX_PPO,
        "sac-pendulum": SBX_SAC,
        "sac-pendulum-own": SBX_OWN,
    },
    "sb3": {"ppo-cartpole": SB3_PPO},
    "purejaxrl": {"ppo-cartpole": PUREJAXRL_PPO},
    "stoix": {
        "ppo-cartpole": STOIX_PPO,
        "dqn-cartpole": STOIX_DQN,
        "sac-pendulum": STOIX_SAC,
    },
}
