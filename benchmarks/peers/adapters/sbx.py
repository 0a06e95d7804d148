"""One run of SBX, as JSON on the last line: `python -P sbx.py TASK`, with SBX's python.

It compiles when it first needs to, so the first part's seconds include compiling. A setting that is
not given is SBX's own.
"""

import json
import sys
import time

import sbx
from flax import linen
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

NAMES = {
    "unroll_length": "n_steps", "num_epochs": "n_epochs", "learning_rate": "learning_rate",
    "discount": "gamma", "gae_lambda": "gae_lambda", "clip_eps": "clip_range",
    "entropy_coef": "ent_coef", "value_coef": "vf_coef", "max_grad_norm": "max_grad_norm",
    "num_updates": "gradient_steps", "batch_size": "batch_size", "capacity": "buffer_size",
    "learning_starts": "learning_starts", "target_rate": "tau",
}  # fmt: skip


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
    settings = task["settings"]
    worlds = make_vec_env(
        task["env"].split("/")[1], n_envs=settings.get("num_envs", 1), seed=task["seed"]
    )
    chosen = {NAMES[name]: value for name, value in settings.items() if name in NAMES}
    if "num_minibatches" in settings:
        rows = settings["num_envs"] * settings["unroll_length"]
        chosen["batch_size"] = rows // settings["num_minibatches"]
    policy = {}
    if "hidden_sizes" in settings:
        policy["net_arch"] = settings["hidden_sizes"]
    if "activation" in settings:
        policy["activation_fn"] = getattr(linen, settings["activation"])
    model = {"ppo": sbx.PPO, "sac": sbx.SAC}[task["algorithm"]](
        "MlpPolicy", worlds, seed=task["seed"], policy_kwargs=policy, **chosen
    )
    watch = Watch(task)
    model.learn(task["steps"], callback=watch)
    return {
        "compile_seconds": None,
        "chunk_steps": watch.part,
        "chunk_seconds": watch.seconds,
        "returns": watch.returns,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
