"""The command line: what it lists, and that what is wrong is one line with the nearest name."""

import importlib

import pytest

from benchmarks import subjects
from benchmarks.__main__ import COMMANDS, main
from benchmarks.records import ROOT
from purerl.errors import UsageError
from purerl.presets import PRESETS


def test_every_command_is_a_module_and_listed(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert callable(importlib.import_module(f"benchmarks.{name}").main)
        assert f"\n  {name} " in listed


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["throughputt"], "throughput"),
        (["throughput", "--agent", "poo"], "ppo"),
        (["throughput", "--env", "CartPol-v1"], "gymnax/CartPole-v1"),
        (["throughput", "--quick", "--agent", "dqnn"], "dqn"),
        (["throughput", "--only", "group"], "groups"),
        (["compile", "--agent", "sca"], "sac"),
        (["memory", "--env", "brax/hoper"], "brax/hopper"),
        (["scaling", "--only", "member"], "members"),
        (["scaling", "--agent", "rainbo"], "rainbow"),
        (["learning", "ppo-cartpol"], "ppo-cartpole"),
        (["learning", "--agent", "muzeroo"], "muzero"),
        (["learning", "--env", "acrobott"], "acrobot"),
        (["learning", "--study", "sac-vs-dpg"], "sac-vs-ddpg"),
        (["off_policy", "--only", "replays"], "replay"),
        (["off_policy", "--rejax", "purerl"], "src/rejax/algos/__init__.py"),
        (["throughput", "--purejaxrl", "purerl"], "purejaxrl/ppo.py"),
        (["memory", "--quikc"], "--help"),
        (["learning", "--study", "sac-vs-ddpg", "--quick"], "has no --quick"),
        (["compile", "--repeats", "0"], "'0': must be a positive number"),
        (["planning", "--repeats", "-1"], "--repeats"),
        (["scaling", "--only", "members", "--agent", "dqn", "--env", "Pendulum-v1"],
         "env='gymnax/Pendulum-v1': DQN needs discrete actions"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_line_with_the_nearest(words, nearest, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert nearest in err


def test_tasks_are_chosen_by_agent_and_environment():
    from benchmarks.learning import TASKS, chosen

    assert chosen(TASKS, None, None) == list(TASKS)
    assert chosen(TASKS, "dqn", "cartpole") == ["dqn-cartpole"]
    assert "ppo-memory_chain-gru" in chosen(TASKS, "ppo", None)
    assert chosen(TASKS, None, "catch") == ["muzero-catch", "dqn-catch"]


@pytest.mark.parametrize("agent", sorted(PRESETS))
def test_every_algorithm_can_be_measured(agent):
    env = subjects.check(agent, None)
    made = subjects.make(agent, env)
    assert made.env.name == env
    script = subjects.experiment(agent, env).split()[0]
    assert (ROOT / script).exists()


def test_a_tuned_agent_has_the_settings_of_its_preset():
    made = subjects.make("c51", "gymnax/CartPole-v1")
    assert made.config.distribution == "categorical"
    made = subjects.make("ppo", "gymnax/Pendulum-v1")
    assert (made.hparams.discount, made.config.num_epochs) == (pytest.approx(0.95), 8)


def test_sac_and_its_limit_are_timed_in_turn_each_in_its_process():
    """The limit's update is the benchmark's own: no other test sees whether the engine takes it."""
    from benchmarks.off_policy import beside

    row = beside(None, 2, dict.fromkeys(("purerl-sac", "products-sac"), (1, 64)))
    assert row["steps"] == {"purerl": 64, "products": 64}
    assert [len(row["seconds"][side]) for side in ("purerl", "products")] == [2, 2]
    median = sum(row["seconds"]["purerl"]) / 2
    assert row["purerl_steps_per_second"] == pytest.approx(64 / median, rel=0.01)


def test_a_side_that_does_not_start_is_one_line(capfd):
    from benchmarks.off_policy import beside

    with pytest.raises(UsageError, match="rejax-sac: ended before it was timed"):
        beside(ROOT / "nothing", 1, {"rejax-sac": (1, 64)})
    assert "no src/rejax" in capfd.readouterr().err
