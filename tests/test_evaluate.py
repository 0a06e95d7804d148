"""Reloading a run and evaluating it: the numbers of training again, and errors of one line."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from laws import changed

import purerl
from purerl import UsageError
from purerl.agents import ppo
from purerl.distributions import Categorical
from purerl.engine import train
from purerl.engine.load import load
from purerl.evaluate import _report, evaluate, main
from purerl.networks import bind

EPISODES = 4
UNIT = 4 * 16  # environment steps of an iteration
CONFIG = ppo.Config(num_envs=4, unroll_length=16, hidden_sizes=(8,))
RATES = [1e-3, 3e-3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 2 learning rates and 2 seeds on CartPole."""
    agent = ppo.make(purerl.make("gymnax/CartPole-v1"), CONFIG)
    return train(
        agent,
        6 * UNIT,
        seeds=(7, 3),
        hparams=agent.hparams._replace(learning_rate=np.array(RATES)),
        eval_every=2 * UNIT,
        eval_episodes=EPISODES,
        run_dir=tmp_path_factory.mktemp("runs") / "run",
    )


def test_a_run_is_loaded_as_it_was_left(trained):
    loaded = load(trained.run_dir)
    assert loaded.step == 6
    assert loaded.env_steps == trained.steps
    assert loaded.agent is trained.agent
    np.testing.assert_array_equal(loaded.population.seeds, [7, 3, 7, 3])
    jax.tree.map(np.testing.assert_array_equal, loaded.population, trained.population)
    numbers = lambda x: (
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    )
    same = lambda a, b: np.testing.assert_array_equal(numbers(a), numbers(b))
    jax.tree.map(same, loaded.state, trained.state)


def test_evaluation_is_that_of_training_bit_for_bit(trained):
    found = evaluate(trained.run_dir, episodes=EPISODES)
    assert found.greedy.shape == (4, EPISODES)
    jax.tree.map(np.testing.assert_array_equal, found, trained.evaluation)


def test_an_earlier_checkpoint_gives_what_training_logged_there(trained):
    found = evaluate(trained.run_dir, episodes=EPISODES, step=4 * UNIT)
    rows = (trained.run_dir / "metrics.csv").read_text().splitlines()
    rows = [r.split(",") for r in rows if r.startswith(f"{4 * UNIT},") and ",eval/return," in r]
    np.testing.assert_allclose(found.greedy.mean(1), [float(r[-1]) for r in rows], rtol=1e-6)


def test_some_members_are_evaluated_as_among_all(trained):
    """Close, not equal bit for bit: another number of members is another program."""
    found = evaluate(trained.run_dir, episodes=EPISODES, members=[2, 0])
    every = trained.evaluation
    np.testing.assert_allclose(found.greedy, np.asarray(every.greedy)[[2, 0]])


def test_loading_leaves_alone_what_a_run_in_progress_is_writing(trained, tmp_path):
    run = shutil.copytree(trained.run_dir, tmp_path / "run")
    unfinished = run / "checkpoint" / "9.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert load(run).step == 6
    assert unfinished.is_dir()


def test_the_command_prints_a_table_and_the_best_member(trained, capsys):
    assert main([str(trained.run_dir), "--episodes", str(EPISODES), "--members", "1", "3"]) == 0
    printed = capsys.readouterr().out
    scores = trained.evaluation.greedy.mean(1)
    best = 1 if scores[1] >= scores[3] else 3
    assert f"evaluation after {6 * UNIT} steps" in printed
    assert "sampled" in printed
    assert f"best member {best} (seed 3): {scores[best]:.1f} greedy" in printed


def test_a_sweep_is_told_by_configuration(trained, capsys):
    assert main([str(trained.run_dir), "--episodes", str(EPISODES)]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if any(f" {rate:g} " in line for rate in RATES)]
    assert "by configuration, greedy" in printed
    assert len(rows) == 2
    best = trained.configurations[0]
    assert f"{best.values['learning_rate']:g}" in rows[0]
    assert f"{best.interval.value:.1f}" in rows[0]
    backwards = ["--members", "3", "2", "1", "0"]
    assert main([str(trained.run_dir), "--episodes", str(EPISODES), *backwards]) == 0
    assert "by configuration" not in capsys.readouterr().out
    assert main([str(trained.run_dir), "--episodes", "2", "--members", "0", "1"]) == 0
    assert "by configuration" not in capsys.readouterr().out


def test_frozen_members_do_not_count(trained, capsys):
    loaded = load(trained.run_dir)
    frozen = loaded.state._replace(frozen=jnp.array([-1, 2, -1, -1]))
    _report(dataclasses.replace(loaded, state=frozen), np.arange(4), trained.evaluation)
    printed = capsys.readouterr().out
    assert "frozen, and not counted above: member 1\n" in printed
    assert " 3 │" in printed  # the column of seeds


def test_there_is_no_best_of_members_without_a_return(trained, capsys):
    loaded, nothing = load(trained.run_dir), np.full_like(trained.evaluation.greedy, np.nan)
    _report(loaded, np.arange(4), trained.evaluation._replace(greedy=nothing))
    assert "best member" not in capsys.readouterr().out


def test_members_that_halving_dropped_are_evaluated_as_they_were_then(tmp_path, capsys):
    agent = ppo.make(purerl.make("gymnax/CartPole-v1"), CONFIG)
    hparams = agent.hparams._replace(learning_rate=np.array([1e-4, 1e-3, 3e-3, 1e-2]))
    trained = train(
        agent, 8 * UNIT, hparams=hparams, halving=True, eval_episodes=EPISODES, run_dir=tmp_path
    )
    assert len(trained.dropped) == 3
    found = evaluate(tmp_path, episodes=EPISODES)
    jax.tree.map(np.testing.assert_array_equal, found, trained.evaluation)
    assert main([str(tmp_path), "--episodes", str(EPISODES)]) == 0
    printed = capsys.readouterr().out
    numbers = ", ".join(map(str, sorted(trained.dropped)))
    assert f"dropped by halving, and not counted above: member {numbers}\n" in printed
    assert "frozen" not in printed


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--episodes", "0"], "episodes=0: must be positive"),
        (["--members", "4"], "member=4: must be from 0 to 3"),
        (["--members", "1", "1"], "members=[1, 1]: must be different"),
        (["--members", "x"], "--members"),
        (["--step", "100"], f"step=100: no checkpoint; there are those at {4 * UNIT}, {6 * UNIT}"),
        (["--epsodes", "3"], "did you mean --episodes?"),
    ],
)
def test_a_wrong_flag_is_one_line(trained, capsys, flags, words):
    assert main([str(trained.run_dir), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error


def test_no_directory_is_one_line(capsys):
    assert main([]) == 2
    assert "RUN_DIR" in capsys.readouterr().err


@pytest.mark.parametrize("kept", ["nothing", "{}", "[]", "config"])
def test_a_directory_that_is_no_run_is_one_line(trained, tmp_path, capsys, kept):
    config = (trained.run_dir / "config.json").read_text()
    if kept != "nothing":
        (tmp_path / "config.json").write_text(config if kept == "config" else kept)
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: run_dir='{tmp_path}': ")
    assert error.count("\n") == 1
    assert ("no complete checkpoint yet" in error) == (kept == "config")
    assert not (tmp_path / "checkpoint").exists()


def test_a_run_of_another_iteration_length_is_one_line(trained, tmp_path, capsys):
    config = json.loads((trained.run_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"steps_per_update": 8}))
    assert main([str(tmp_path)]) == 2
    assert f"have 8 steps, here they have {UNIT}" in capsys.readouterr().err


class Own:
    """Which no name describes."""

    @staticmethod
    def agent(scale=1.0):
        env = toys.Countdown(name="test/own")
        apply = lambda params, obs: (Categorical(scale * (obs @ params)), obs[..., 0])
        policy = bind(lambda key: jax.random.normal(key, (1, 3)), apply, env.action_space)
        config = ppo.Config(num_envs=2, unroll_length=4, num_minibatches=1, num_epochs=1)
        return ppo.make(env, config, policy)


def test_what_config_json_cannot_describe_is_given(tmp_path, capsys):
    """A run with an environment and a network of one's own is loaded with the agent."""
    agent, path = Own.agent(), tmp_path / "run"
    result = purerl.train(agent, 64, seeds=2, run_dir=path, eval_episodes=3)
    with pytest.raises(UsageError) as caught:
        purerl.load(path)
    assert str(caught.value) == (
        f"run_dir={str(path)!r}: has a network of its own; load(run_dir, agent=...) takes it"
    )
    assert main([str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    loaded = purerl.load(path, agent=agent)
    assert changed(loaded.state, result.state) == []
    found = evaluate(path, episodes=3, agent=agent)
    assert changed(found, result.evaluation) == []
    with pytest.raises(UsageError, match=r"^agent: has the built-in network; the run has one of"):
        purerl.load(path, agent=ppo.make(agent.env, agent.config))
    other = ppo.make(agent.env, dataclasses.replace(agent.config, num_envs=4))
    with pytest.raises(UsageError, match=r"^agent: config.num_envs=4 where the run has 2$"):
        purerl.load(path, agent=other)


def test_an_algorithm_of_a_notebook_is_loaded_with_its_agent(tmp_path):
    """Its module is __main__, which in another process is another."""
    agent, path = toys.make(), tmp_path / "run"
    purerl.train(agent, 60, run_dir=path)
    config = path / "config.json"
    whole = json.loads(config.read_text())
    config.write_text(json.dumps(whole | {"hparams": whole["hparams"] | {"rate": "fast"}}))
    with pytest.raises(UsageError, match=r"its config.json cannot tell .*\(ValueError: could not"):
        purerl.load(path)
    config.write_text(json.dumps(whole))
    config.write_text(config.read_text().replace('"agent": "toys"', '"agent": "nowhere"'))
    with pytest.raises(
        UsageError,
        match=r"its config.json cannot tell how to make its agent \(ModuleNotFoundError.*agent=",
    ):
        purerl.load(path)
    assert purerl.load(path, agent=agent).env_steps == 60
