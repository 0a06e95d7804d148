"""Networks: torsos, recurrent cores, heads, and the Policy protocol that agents see."""

from purerl.networks.cores import CORES
from purerl.networks.policy import ActorCritic, Policy, actor_critic, bind
from purerl.networks.torsos import ACTIVATIONS, CNN, MLP, TORSOS

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "CORES",
    "MLP",
    "TORSOS",
    "ActorCritic",
    "Policy",
    "actor_critic",
    "bind",
]
