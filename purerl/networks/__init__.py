"""Networks: torsos, recurrent cores, heads, and the Policy protocol that agents see."""

from purerl.networks.cores import CORES
from purerl.networks.policy import ActorCritic, Policy, actor_critic, bind
from purerl.networks.q_function import QFunction, QNetwork, q_function
from purerl.networks.torsos import ACTIVATIONS, CNN, MLP, TORSOS, check_torso

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "CORES",
    "MLP",
    "TORSOS",
    "ActorCritic",
    "Policy",
    "QFunction",
    "QNetwork",
    "actor_critic",
    "bind",
    "check_torso",
    "q_function",
]
