"""Networks: torsos, recurrent cores, heads, and the Policy protocol that agents see."""

from purerl.networks.continuous import (
    Network,
    check_actions,
    critics,
    deterministic_actor,
    tanh_normal_actor,
)
from purerl.networks.cores import CORES
from purerl.networks.dynamics import Ensemble, Gaussian, gaussian_ensemble
from purerl.networks.planning import Model, muzero_model, policy_value
from purerl.networks.policy import (
    ActorCritic,
    Policy,
    actor_critic,
    bind,
    check_policy,
    to_env,
)
from purerl.networks.q_function import QFunction, QNetwork, check_q_function, q_function
from purerl.networks.torsos import ACTIVATIONS, CNN, MLP, TORSOS, check_torso

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "CORES",
    "MLP",
    "TORSOS",
    "ActorCritic",
    "Ensemble",
    "Gaussian",
    "Model",
    "Network",
    "Policy",
    "QFunction",
    "QNetwork",
    "actor_critic",
    "bind",
    "check_actions",
    "check_policy",
    "check_q_function",
    "check_torso",
    "critics",
    "deterministic_actor",
    "gaussian_ensemble",
    "muzero_model",
    "policy_value",
    "q_function",
    "tanh_normal_actor",
    "to_env",
]
