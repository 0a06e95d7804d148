"""Two runs side by side: their last values, and how likely one is better."""

import re

import numpy as np
import pytest
import toys

import purerl
from purerl import UsageError
from purerl.analysis import probability_of_improvement
from purerl.compare import compare, main
from purerl.engine import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two of the toy with other seeds, and a sweep."""
    path, agent = tmp_path_factory.mktemp("runs"), toys.make()
    options = {"eval_every": 30, "eval_episodes": 3}
    first = train(agent, 60, seeds=[1, 2, 3], run_dir=path / "first", **options)
    second = train(agent, 60, seeds=[4, 5], run_dir=path / "second", **options)
    rates = toys.HParams(rate=[0.1, 0.2])
    train(agent, 60, hparams=rates, run_dir=path / "sweep", **options)
    other = toys.make(toys.Countdown(name="test/other"))
    train(other, 60, run_dir=path / "other", **options)
    return path, first, second


def test_runs_are_compared_by_their_last_values(runs, tmp_path, capsys):
    path, first, second = runs
    picture = tmp_path / "both.png"
    assert main([str(path / "first"), str(path / "second"), "--output", str(picture)]) == 0
    out = capsys.readouterr().out
    better = probability_of_improvement(second.returns, first.returns)
    row = next(line for line in out.splitlines() if re.search(r"\bsecond\b", line))
    assert f"{better.value:.2f}" in row
    assert f"{better.low:.2f} to {better.high:.2f}" in row
    assert " 60 " in row
    assert picture.read_bytes().startswith(b"\x89PNG")
    curves = compare([path / "first", path / "second"])
    np.testing.assert_allclose(curves["first"].values[-1], first.returns, rtol=1e-6)
    assert curves["second"].at.tolist() == [30, 60]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["first"], "must be two runs or more, each once"),
        (["first", "first"], "must be two runs or more, each once"),
        (["first", "nothing"], "is no run"),
        (["first", "sweep"], "sweeps rate; sweep.csv ranks its configurations"),
        (
            ["first", "other"],
            "is on another environment: env.kwargs.name='test/other' where",
        ),
        (["first", "second", "--metric", "eval/retrun"], "metric='eval/retrun': metrics.csv in"),
        (["first", "second", "--output", "x.gif"], "output='x.gif': must be a .png"),
    ],
)
def test_what_cannot_be_compared_is_one_line(words, said, runs, capsys):
    full = [
        str(runs[0] / word) if not i or word.isalpha() else word for i, word in enumerate(words)
    ]
    assert main(full) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err


def test_it_is_a_function_too(runs):
    with pytest.raises(UsageError):
        compare([runs[0] / "first"])
    assert purerl.read_metric(runs[0] / "first", "eval/return")[1].shape == (2, 3)
