"""One run of Stoix's Anakin systems, as JSON on the last line: `python -P stoix.py TASK`.

TASK names the checkout (`git clone https://github.com/EdanToledo/Stoix`), which is imported from
where it lies: its own `pip install -e` would bring every environment there is, and the gymnax it
asks for needs a later JAX than it allows. Its configuration is Hydra's, with the overrides below.

What is timed is its `learn`, which is what `run_experiment` runs between two evaluations; these are
its own too. Compiling is its `learner_setup`, most of which that is, and `learn`. The setup also
fills the replay: those steps are beside the run's.
"""

import json
import os
import sys
import time

SYSTEMS = {
    "ppo": ("ff_ppo", "stoix.systems.ppo.anakin.ff_ppo"),
    "dqn": ("ff_ddqn", "stoix.systems.q_learning.ff_ddqn"),
    "sac": ("ff_sac", "stoix.systems.sac.ff_sac"),
}
ENVS = {"gymnax/CartPole-v1": "gymnax/cartpole", "gymnax/Pendulum-v1": "gymnax/pendulum"}
NETWORKS = {
    "ppo": ("actor_network", "critic_network"),
    "dqn": ("actor_network",),
    "sac": ("actor_network", "q_network"),
}
SHARED = {
    "num_envs": ("arch.total_num_envs",), "discount": ("system.gamma",),
    "max_grad_norm": ("system.max_grad_norm",),
}  # fmt: skip
OFF_POLICY = SHARED | {
    "num_updates": ("system.epochs",), "batch_size": ("system.total_batch_size",),
    "capacity": ("system.total_buffer_size",), "target_rate": ("system.tau",),
}  # fmt: skip
NAMES = {
    "ppo": SHARED | {
        "unroll_length": ("system.rollout_length",), "num_epochs": ("system.epochs",),
        "num_minibatches": ("system.num_minibatches",), "gae_lambda": ("system.gae_lambda",),
        "clip_eps": ("system.clip_eps",), "value_coef": ("system.vf_coef",),
        "entropy_coef": ("system.ent_coef",),
        "learning_rate": ("system.actor_lr", "system.critic_lr"),
    },
    "dqn": OFF_POLICY | {
        "learning_rate": ("system.q_lr",), "epsilon_end": ("system.training_epsilon",),
    },
    "sac": OFF_POLICY | {
        "learning_rate": ("system.actor_lr", "system.q_lr", "system.alpha_lr"),
    },
}  # fmt: skip
# What its systems do and cannot be told otherwise: the target moves at each gradient step, the
# next action of DQN is the network's choice, and epsilon is one number for the whole run.
ALWAYS = {"target_period": 1, "double": True, "exploration_fraction": 0.0}


def overrides(task):
    """A task's settings as Hydra's; one that Stoix has no place for is an error."""
    settings, kind = dict(task["settings"]), task["algorithm"]
    for name, value in ALWAYS.items():
        if settings.pop(name, value) != value:
            raise ValueError(f"{name}: Stoix has only {value}")
    chosen = {
        "env": ENVS[task["env"]], "arch.seed": task["seed"], "arch.total_timesteps": task["steps"],
        "arch.num_evaluation": task["chunks"], "arch.num_eval_episodes": task["episodes"],
        "arch.evaluation_greedy": task["greedy"], "system.decay_learning_rates": False,
    }  # fmt: skip
    sizes, activation = settings.pop("hidden_sizes"), settings.pop("activation")
    for network in NETWORKS[kind]:
        torso = f"network.{network}.pre_torso"
        chosen |= {f"{torso}.layer_sizes": sizes, f"{torso}.activation": activation}
    if kind == "sac":
        chosen["network.q_network.pre_torso.use_layer_norm"] = False
        settings.setdefault("max_grad_norm", 1e9)  # ours has no limit
    if kind != "ppo":
        chosen["system.rollout_length"] = 1
        chosen["system.warmup_steps"] = settings.pop("learning_starts") // settings["num_envs"]
    if unknown := settings.keys() - NAMES[kind].keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: Stoix has no such setting")
    for name, value in settings.items():
        chosen |= dict.fromkeys(NAMES[kind][name], value)
    return [f"{name}={value}" for name, value in chosen.items()]


def configure(task):
    """Stoix's configuration, counted through as `run_experiment` does first."""
    import jax
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf
    from stoix.utils.total_timestep_checker import check_total_timesteps

    folder = f"{task['checkout']}/stoix/configs/default/anakin"
    with initialize_config_dir(folder, version_base="1.2"):
        config = compose(f"default_{SYSTEMS[task['algorithm']][0]}", overrides(task))
    OmegaConf.set_struct(config, False)
    config.num_devices = len(jax.devices())
    return check_total_timesteps(config)


def main(task):
    sys.path.insert(0, task["checkout"])
    os.chdir(task["checkout"])  # its search path for configurations is relative
    import importlib

    import jax
    from stoix.evaluator import evaluator_setup, get_distribution_act_fn
    from stoix.utils.jax_utils import unreplicate_batch_dim
    from stoix.utils.make_env import make

    config = configure(task)
    system = importlib.import_module(SYSTEMS[task["algorithm"]][1])
    key = jax.random.PRNGKey(config.arch.seed)
    env, eval_env = make(config)
    keys = jax.random.split(key, 2 if task["algorithm"] == "dqn" else 3)
    began = time.perf_counter()
    learn, network, state = system.learner_setup(env, tuple(keys), config)
    learn = learn.lower(state).compile()
    compile_seconds = time.perf_counter() - began

    def acting(state):
        params = state.params
        return params.online if task["algorithm"] == "dqn" else params.actor_params

    act = get_distribution_act_fn(config, network.apply)
    evaluate, _, (params, eval_keys) = evaluator_setup(
        eval_env, jax.random.fold_in(key, 0), act, acting(state), config
    )
    jax.block_until_ready(evaluate(params, eval_keys))  # compiled before the clock starts
    seconds, returns = [], []
    for index in range(task["chunks"]):
        began = time.perf_counter()
        state = jax.block_until_ready(learn(state)).learner_state
        seconds.append(time.perf_counter() - began)
        eval_keys = jax.random.split(jax.random.fold_in(key, index + 1), config.num_devices)
        found = evaluate(unreplicate_batch_dim(acting(state)), eval_keys)
        returns.append(float(found.episode_metrics["episode_return"].mean()))
    updates = config.arch.num_updates_per_eval
    return {
        "compile_seconds": compile_seconds,
        "chunk_steps": updates * config.system.rollout_length * config.arch.total_num_envs,
        "chunk_seconds": seconds,
        "returns": returns,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
