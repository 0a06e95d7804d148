"""A person plays against a run in the terminal."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import purerl
from purerl import play
from purerl.agents import alphazero, ppo
from purerl.engine import train
from purerl.engine.load import load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "game"
    config = alphazero.Config(num_envs=8, unroll_length=4, num_minibatches=2, num_simulations=4,
                              hidden_sizes=(8,))  # fmt: skip
    agent = alphazero.make(purerl.make("game/tic_tac_toe"), config)
    train(agent, 64, seeds=2, run_dir=path, eval_episodes=2, devices=1)
    return path


def game_of(run, words, first="you"):
    """(result, what was said) of a game in which these lines are typed."""
    lines, said = iter(words), []

    def ask(prompt):
        assert prompt == "your move: "
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    return play.play(load(run), 1, first, ask, said.append), said


def test_a_game_is_played_to_its_end(run):
    cells = [f"{c}{r}" for r in (1, 2, 3) for c in "abc"]
    result, said = game_of(run, ["a1", *cells, *cells])  # what is taken too, and all that is free
    assert result in (-1, 0, 1)
    assert said[-1] == {-1: "the agent wins", 0: "a draw", 1: "you win"}[result]
    assert said[1].splitlines()[:2] == ["  a b c", "1 . . ."]
    assert any("must be one of" in line for line in said)
    assert sum("the agent plays" in line for line in said) >= 2


def test_the_agent_may_begin_and_a_game_may_be_given_up(run):
    result, said = game_of(run, ["z9", "q"], first="agent")
    assert result == -1
    assert said[1].startswith("the agent plays ")
    assert "O" in said[2]
    assert said[3].startswith("'z9': must be one of ")
    assert said[-1] == "given up"


def test_a_policy_with_memory_remembers_the_game(run):
    """As where it is evaluated: what it carries goes from move to move."""
    loaded, carried = load(run), []

    def act(key, learner, carry, obs, greedy):
        jax.debug.callback(lambda x: carried.append(float(x)), carry[0])
        action, _ = loaded.agent.act(key, learner, (), obs, greedy)
        return action, carry + 1.0

    agent = dataclasses.replace(loaded.agent, act=act, initial_carry=jnp.zeros)
    lines = iter([f"{c}{r}" for r in (1, 2, 3) for c in "abc"] * 3)
    play.play(
        dataclasses.replace(loaded, agent=agent), 0, "agent", lambda _: next(lines), lambda _: None
    )
    jax.effects_barrier()
    assert carried == list(range(len(carried)))
    assert len(carried) >= 3


def test_wrong_input_is_answered_in_one_line(run, tmp_path, capsys):
    agent = ppo.make(purerl.make("probe/policy"), ppo.Config(num_envs=4, unroll_length=8))
    train(agent, 64, run_dir=tmp_path / "other", eval_episodes=2, devices=1)
    assert play.main([str(tmp_path / "other")]) == 2
    assert "only games can be played" in capsys.readouterr().err
    assert play.main([str(tmp_path / "nothing")]) == 2
    assert play.main([str(run), "--member", "5"]) == 2
    assert "member=5: must be best, or from 0 to 1" in capsys.readouterr().err
