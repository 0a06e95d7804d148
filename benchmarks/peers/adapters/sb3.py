"""One run of Stable-Baselines3's PPO, as JSON on the last line: `python -P sb3.py TASK`."""

import json
import sys
import time

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from torch import nn


class Watch(BaseCallback):
    """Seconds of every part of a run, and the return after it, which is not timed.

    A rollout begins when learning from the one before has ended.
    """

    def __init__(self, task):
        super().__init__()
        self.task, self.part = task, task["steps"] // task["chunks"]
        self.seconds, self.returns, self.began = [], [], None

    def _on_rollout_start(self):
        if self.num_timesteps >= self.part * (len(self.seconds) + 1):
            self.mark()
        if self.began is None:
            self.began = time.perf_counter()

    def _on_step(self):
        return True

    def _on_training_end(self):
        if self.began is not None and len(self.seconds) < self.task["chunks"]:
            self.mark()

    def mark(self):
        self.seconds.append(time.perf_counter() - self.began)
        episodes, name = self.task["episodes"], self.task["env"].split("/")[1]
        worlds = make_vec_env(name, n_envs=episodes, seed=self.task["seed"] + 10_000)
        mean, _ = evaluate_policy(self.model, worlds, episodes, deterministic=self.task["greedy"])
        self.returns.append(float(mean))
        self.began = None


def main(task):
    # Networks so small are quicker on one thread, and many times so where cores are shared.
    torch.set_num_threads(1)
    settings = task["settings"]
    worlds = make_vec_env(task["env"].split("/")[1], n_envs=settings["num_envs"], seed=task["seed"])
    model = PPO(
        "MlpPolicy", worlds, n_steps=settings["unroll_length"], n_epochs=settings["num_epochs"],
        batch_size=settings["num_envs"] * settings["unroll_length"] // settings["num_minibatches"],
        learning_rate=settings["learning_rate"], gamma=settings["discount"],
        gae_lambda=settings["gae_lambda"], clip_range=settings["clip_eps"],
        ent_coef=settings["entropy_coef"], vf_coef=settings["value_coef"],
        max_grad_norm=settings["max_grad_norm"], seed=task["seed"], device="cpu",
        policy_kwargs={
            "net_arch": settings["hidden_sizes"],
            "activation_fn": {"tanh": nn.Tanh, "relu": nn.ReLU}[settings["activation"]],
        },
    )  # fmt: skip
    watch = Watch(task)
    model.learn(task["steps"], callback=watch)
    return {
        "compile_seconds": 0.0,
        "chunk_steps": watch.part,
        "chunk_seconds": watch.seconds,
        "returns": watch.returns,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
