"""One run of Rejax, as JSON on the last line: `python -P rejax.py TASK`, with Rejax's python.

What is timed is `train_iteration` in one compiled loop, which is what its `train` runs between two
evaluations; these are its own too.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
from rejax import get_algo
from rejax.evaluate import evaluate

NAMES = {
    "num_envs": "num_envs", "learning_rate": "learning_rate", "discount": "gamma",
    "max_grad_norm": "max_grad_norm", "unroll_length": "num_steps", "num_epochs": "num_epochs",
    "num_minibatches": "num_minibatches", "gae_lambda": "gae_lambda", "clip_eps": "clip_eps",
    "value_coef": "vf_coef", "entropy_coef": "ent_coef", "num_updates": "num_epochs",
    "batch_size": "batch_size", "capacity": "buffer_size", "learning_starts": "fill_buffer",
    "double": "ddqn", "epsilon_end": "eps_end", "exploration_fraction": "exploration_fraction",
}  # fmt: skip


def main(task):
    settings = task["settings"]
    chosen = {NAMES[name]: value for name, value in settings.items() if name in NAMES}
    if "target_rate" in settings:
        chosen["polyak"] = 1 - settings["target_rate"]
        # Ours counts gradient steps, Rejax environment steps.
        chosen["target_update_freq"] = settings.get("target_period", 1) * settings["num_envs"]
    agent = {"activation": settings["activation"]}
    if task["algorithm"] == "sac":
        chosen["hidden_layer_sizes"] = tuple(settings["hidden_sizes"])
    elif task["algorithm"] == "ppo":
        agent["hidden_layer_sizes"] = tuple(settings["hidden_sizes"])
    elif settings["hidden_sizes"] != [64, 64]:
        raise ValueError("hidden_sizes: Rejax's DQN has 64-64")
    algorithm = get_algo(task["algorithm"]).create(
        env=task["env"].split("/")[1], total_timesteps=task["steps"], agent_kwargs=agent, **chosen
    )
    each = settings["num_envs"] * settings.get("unroll_length", 1)
    iterations = task["steps"] // task["chunks"] // each

    def chunk(state):
        return jax.lax.fori_loop(
            0, iterations, lambda _, state: algorithm.train_iteration(state), state
        )

    def score(state, key):
        params, most = algorithm.env_params, algorithm.env_params.max_steps_in_episode
        act = algorithm.make_act(state)
        return evaluate(act, key, algorithm.env, params, task["episodes"], most)[1].mean()

    key = jax.random.PRNGKey(task["seed"])
    began = time.perf_counter()
    init = jax.jit(algorithm.init_state).lower(key).compile()
    # Copied, as a buffer that stands twice in it cannot be donated: its target is its network.
    state = jax.tree.map(jnp.array, init(key))
    advance = jax.jit(chunk, donate_argnums=0).lower(state).compile()
    compile_seconds = time.perf_counter() - began
    evaluation = jax.jit(score)
    evaluation(state, key)
    seconds, returns = [], []
    for index in range(task["chunks"]):
        began = time.perf_counter()
        state = jax.block_until_ready(advance(state))
        seconds.append(time.perf_counter() - began)
        returns.append(float(evaluation(state, jax.random.fold_in(key, index))))
    return {
        "compile_seconds": compile_seconds,
        "chunk_steps": iterations * each,
        "chunk_seconds": seconds,
        "returns": returns,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
