"""One run of PureJaxRL's PPO, as JSON on the last line: `python -P purejaxrl.py TASK`.

TASK names the checkout, whose `purejaxrl/ppo.py` runs with its own wrappers. It trains in one
program that ends with every step's record, so its parts have even shares of the time, and their
returns are those of the episodes that ended in them.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp


def main(task):
    sys.path.insert(0, f"{task['checkout']}/purejaxrl")
    from ppo import make_train

    settings, chunks = task["settings"], task["chunks"]
    if settings["hidden_sizes"] != [64, 64]:
        raise ValueError("hidden_sizes: PureJaxRL's are 64-64")
    each = settings["num_envs"] * settings["unroll_length"]
    iterations = task["steps"] // chunks // each
    train = make_train(
        {
            "LR": settings["learning_rate"], "NUM_ENVS": settings["num_envs"],
            "NUM_STEPS": settings["unroll_length"], "UPDATE_EPOCHS": settings["num_epochs"],
            "TOTAL_TIMESTEPS": iterations * chunks * each, "GAMMA": settings["discount"],
            "NUM_MINIBATCHES": settings["num_minibatches"], "GAE_LAMBDA": settings["gae_lambda"],
            "CLIP_EPS": settings["clip_eps"], "ENT_COEF": settings["entropy_coef"],
            "VF_COEF": settings["value_coef"], "MAX_GRAD_NORM": settings["max_grad_norm"],
            "ACTIVATION": settings["activation"], "ENV_NAME": task["env"].split("/")[1],
            "ANNEAL_LR": False, "DEBUG": False,
        }
    )  # fmt: skip

    def run(key):
        info = train(key)["metrics"]
        parts = lambda x: x.reshape(chunks, -1)
        ended = parts(info["returned_episode"])
        total = jnp.where(ended, parts(info["returned_episode_returns"]), 0.0).sum(-1)
        return total / jnp.maximum(ended.sum(-1), 1)

    key = jax.random.PRNGKey(task["seed"])
    began = time.perf_counter()
    compiled = jax.jit(run).lower(key).compile()
    compile_seconds = time.perf_counter() - began
    began = time.perf_counter()
    returns = jax.block_until_ready(compiled(key))
    seconds = time.perf_counter() - began
    return {
        "compile_seconds": compile_seconds,
        "chunk_steps": iterations * each,
        "chunk_seconds": [seconds / chunks] * chunks,
        "returns": [float(x) for x in returns],
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
