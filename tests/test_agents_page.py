"""The worked example of docs/agents.md is short, and learns. tests/agents has it keep the laws."""

import re

import jax
import numpy as np
from reinforce_page import PAGE, reinforce, source

import purerl
from purerl.engine import train
from purerl.engine.record import read_config, read_metric, rebuild


def test_the_example_is_short():
    assert len(source().splitlines()) <= 60
    assert max(map(len, source().splitlines())) <= 100


def test_the_example_learns(tmp_path):
    """Random play keeps the pole up for 22 steps; 40 thousand steps make it several times that."""
    agent = reinforce().make(purerl.make("gymnax/CartPole-v1"), reinforce().Config())
    result = train(agent, 40_000, seeds=4, eval_every=0, run_dir=tmp_path / "run")
    _, returns = read_metric(tmp_path / "run", "episode/return")
    assert np.nanmean(returns[0]) < 35
    assert np.median(result.returns) > 80
    assert rebuild(read_config(tmp_path / "run")) is agent


def test_the_network_of_one_s_own_trains(tmp_path, monkeypatch, capsys):
    """As printed; Flax broadcasts its biases, which the tests forbid elsewhere."""
    monkeypatch.chdir(tmp_path)
    code, printed = re.findall(r"```python\n([^`]*?class Net.*?)```\n\n```text\n(.*?)```",
                               PAGE.read_text(), re.DOTALL)[0]  # fmt: skip
    with jax.numpy_rank_promotion("allow"):
        exec(code, {})
    assert capsys.readouterr().out == printed
