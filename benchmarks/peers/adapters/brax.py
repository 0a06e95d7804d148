"""One run of brax.training, as JSON on the last line: `python -P brax.py TASK`, with its python.

Its `train` compiles within the first part of a run, so that part's seconds include compiling.
"""

import functools
import json
import sys

from brax import envs
from brax.training.agents.ppo import networks as ppo_networks
from brax.training.agents.ppo import train as ppo
from brax.training.agents.sac import networks as sac_networks
from brax.training.agents.sac import train as sac
from flax import linen


def main(task):
    settings = task["settings"]
    env = envs.get_environment(task["env"].split("/")[1], backend="spring")
    sizes, activation = tuple(settings["hidden_sizes"]), getattr(linen, settings["activation"])
    walls, steps, returns = [], [], []

    def progress(step, metrics):
        if step:
            steps.append(step)
            walls.append(float(metrics["training/walltime"]))
            returns.append(float(metrics["eval/episode_reward"]))

    shared = {
        "num_timesteps": task["steps"], "episode_length": 1000, "num_envs": settings["num_envs"],
        "learning_rate": settings["learning_rate"], "discounting": settings["discount"],
        "normalize_observations": settings["normalize_obs"], "seed": task["seed"],
        "num_evals": task["chunks"] + 1, "num_eval_envs": task["episodes"],
        "deterministic_eval": task["greedy"], "progress_fn": progress,
    }  # fmt: skip
    if task["algorithm"] == "ppo":
        ppo.train(
            env, **shared, unroll_length=settings["unroll_length"],
            batch_size=settings["num_envs"] // settings["num_minibatches"],
            num_minibatches=settings["num_minibatches"],
            num_updates_per_batch=settings["num_epochs"], entropy_cost=settings["entropy_coef"],
            gae_lambda=settings["gae_lambda"], clipping_epsilon=settings["clip_eps"],
            vf_loss_coefficient=settings["value_coef"], max_grad_norm=settings["max_grad_norm"],
            network_factory=functools.partial(
                ppo_networks.make_ppo_networks, policy_hidden_layer_sizes=sizes,
                value_hidden_layer_sizes=sizes, activation=activation,
            ),
        )  # fmt: skip
    else:
        sac.train(
            env, **shared, batch_size=settings["batch_size"], tau=settings["target_rate"],
            min_replay_size=settings["learning_starts"], max_replay_size=settings["capacity"],
            grad_updates_per_step=settings["num_updates"],
            network_factory=functools.partial(
                sac_networks.make_sac_networks, hidden_layer_sizes=sizes, activation=activation
            ),
        )  # fmt: skip
    starts = [0.0, *walls[:-1]]
    return {
        "compile_seconds": None,
        "chunk_steps": steps[1] - steps[0],
        "chunk_seconds": [end - start for start, end in zip(starts, walls, strict=True)],
        "returns": returns,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
