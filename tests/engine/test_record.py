"""What a run leaves on disk: config.json and metrics.csv."""

import csv
import json

import numpy as np
import pytest
import toys

import purerl
from purerl import UsageError
from purerl.agents import ppo
from purerl.engine.population import population
from purerl.engine.record import (
    CONFIG,
    METRICS,
    MetricsFile,
    alone_on,
    describe,
    differences,
    hparams_of,
    read_config,
    read_metric,
    rebuild,
    write_json,
)


def strict(text):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def agent():
    env = purerl.make("gymnax/CartPole-v1")
    return ppo.make(env, ppo.Config(num_envs=4, unroll_length=8, hidden_sizes=(8, 4)))


def test_config_is_strict_json_and_comes_back(agent, tmp_path):
    hparams = ppo.HParams(learning_rate=[3e-4, 1e-3], env_params={"gravity": 9.8})
    settings = describe(agent, population(hparams, [3, 5]), total_steps=100)
    write_json(tmp_path / CONFIG, settings)
    assert strict((tmp_path / CONFIG).read_text()) == settings == read_config(tmp_path)
    assert settings["seeds"] == [3, 5, 3, 5]
    assert settings["hparams"]["learning_rate"] == [3e-4, 3e-4, 1e-3, 1e-3]
    assert settings["hparams"]["env_params"] == {"gravity": 9.8}
    assert settings["hparams"]["target_kl"] == "inf"
    assert settings["total_steps"] == 100
    assert settings["versions"].keys() == {"purerl", "jax", "jaxlib", "flax", "optax"}
    assert settings["versions"]["purerl"] == purerl.__version__
    assert rebuild(settings) is agent
    again = hparams_of(settings)
    assert again._replace(env_params={}, learning_rate=0.0) == ppo.HParams(learning_rate=0.0)
    assert list(again.learning_rate) == [3e-4, 3e-4, 1e-3, 1e-3]
    assert dict(again.env_params) == {"gravity": 9.8}
    assert not list(tmp_path.glob("*.part"))


def test_environment_arguments_come_back():
    env = purerl.make("gymnax/MemoryChain-bsuite", memory_length=7)
    agent = ppo.make(env, ppo.Config(num_envs=4, unroll_length=8))
    settings = json.loads(json.dumps(describe(agent, population(agent.hparams, 1))))
    assert settings["env"] == {"name": "gymnax/MemoryChain-bsuite", "kwargs": {"memory_length": 7}}
    assert rebuild(settings) is agent


def test_differences_name_the_field(agent):
    one = describe(agent, population(ppo.HParams(), 2), total_steps=100)
    assert differences(one, json.loads(json.dumps(one))) == []
    other = describe(agent, population(ppo.HParams(learning_rate=1e-3), 3), total_steps=200)
    found = differences(one, other)
    assert [text.split("=")[0] for text in found] == [
        "hparams.learning_rate",
        "seeds",
        "total_steps",
    ]
    assert found[0] == "hparams.learning_rate=0.001 where the run has 0.0003"
    assert found[2] == "total_steps=200 where the run has 100"
    config = ppo.make(agent.env, ppo.Config(num_envs=8, unroll_length=8, hidden_sizes=(8, 4)))
    assert differences(one, describe(config, population(ppo.HParams(), 2), total_steps=100)) == [
        "config.num_envs=8 where the run has 4"
    ]
    aged = one | {"versions": {"jax": "0.0.1"}}
    assert differences(aged, one) == []


WHOLE = {"agent": "ppo", "env": {"name": "probe/value"}, "config": {}, "hparams": {}, "seeds": [0]}
WRONG = {"seeds": 5}, {"seeds": ["a"]}, {"seeds": [-1]}, {"env": {"name": 5}}, {"keep": "many"}


@pytest.mark.parametrize(
    "content", [None, "", "{half", "[1]", "{}", *(json.dumps(WHOLE | wrong) for wrong in WRONG)]
)
def test_a_directory_that_is_no_run(tmp_path, content):
    if content is not None:
        (tmp_path / CONFIG).write_text(content)
    with pytest.raises(UsageError, match=r"is no run \(config.json") as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)
    assert alone_on(tmp_path) is None
    for sweep, name in ({}, None), ({"sweep": []}, "probe/value"), ({"sweep": ["a=1,2"]}, None):
        (tmp_path / CONFIG).write_text(json.dumps(WHOLE | sweep))
        assert alone_on(tmp_path) == name


MEMBERS = population(toys.HParams(rate=[0.5, 0.25], env_params={"bonus": 1.5}), [7, 9])


def metrics(step):
    return {
        "episode/return": np.array([step, 1 / 3, np.nan, 1e-9]),
        "loss/total": np.arange(4.0) - step,
    }


def test_metrics_are_tidy(tmp_path):
    file = MetricsFile(tmp_path, MEMBERS)
    file.start(0)
    for step in (10, 20):
        file.log(step, metrics(step))
    with (tmp_path / METRICS).open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert list(rows[0]) == [
        "step", "member", "seed", "rate", "bad", "env_params.bonus", "metric", "value",
    ]  # fmt: skip
    assert len(rows) == 2 * 4 * 2
    assert rows[2] == {
        "step": "10", "member": "2", "seed": "7", "rate": "0.25", "bad": "0",
        "env_params.bonus": "1.5", "metric": "episode/return", "value": "",
    }  # fmt: skip
    steps, values = read_metric(tmp_path, "episode/return")
    assert steps.tolist() == [10, 20]
    expected = np.stack([metrics(10)["episode/return"], metrics(20)["episode/return"]])
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert read_metric(str(tmp_path), "loss/total")[1].shape == (2, 4)
    with pytest.raises(UsageError) as caught:
        read_metric(tmp_path, "eval/return")
    assert str(caught.value) == (
        f"metric='eval/return': metrics.csv in {str(tmp_path)!r} has episode/return, loss/total"
    )
    with pytest.raises(UsageError, match=r"has no metrics.csv \(No such file or directory\)$"):
        read_metric(tmp_path / "none", "eval/return")


def test_a_line_that_is_being_written_is_not_read(tmp_path):
    """As of a run in progress: half a number is another one."""
    file = MetricsFile(tmp_path, MEMBERS)
    file.start(0)
    file.log(10, {"x/y": np.full(4, 125.0)})
    path = tmp_path / METRICS
    path.write_text(path.read_text()[:-3])  # the last is 1 now, of 125
    steps, values = read_metric(tmp_path, "x/y")
    assert steps.tolist() == [10]
    np.testing.assert_array_equal(values, [[125.0, 125.0, 125.0]])


def test_large_seeds_and_steps_keep_their_digits(tmp_path):
    file = MetricsFile(tmp_path, population(toys.HParams(), [2**32 - 1, 2**24 + 1]))
    file.start(0)
    file.log(12_345_678_901, {"x/y": np.array([1.0, 2.0])})
    rows = (tmp_path / METRICS).read_text().splitlines()[1:]
    assert rows[0].startswith("12345678901,0,4294967295,")
    assert rows[1].startswith("12345678901,1,16777217,")


@pytest.mark.parametrize("torn", ["", "40,0,7,0.5,0,1.5,episode/ret", "40,0", "4", "30,3,9,0.25,"])
def test_resuming_cuts_what_will_be_repeated(tmp_path, torn):
    """The file of a resumed run is that of one that was never stopped, byte for byte."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for directory in (whole, stopped):
        directory.mkdir()
        file = MetricsFile(directory, MEMBERS)
        file.start(0)
        for step in (10, 20, 30):
            file.log(step, metrics(step))
    with (stopped / METRICS).open("a") as opened:
        opened.write(torn)
    MetricsFile(whole, MEMBERS).log(40, metrics(40))
    file = MetricsFile(stopped, MEMBERS)
    file.start(20)
    assert {line.split(",")[0] for line in (stopped / METRICS).read_text().splitlines()} == {
        "step", "10", "20",
    }  # fmt: skip
    for step in (30, 40):
        file.log(step, metrics(step))
    assert (stopped / METRICS).read_bytes() == (whole / METRICS).read_bytes()


def test_starting_anew_leaves_nothing_behind(tmp_path):
    (tmp_path / METRICS).write_text("whatever\n1,2,3\n")
    MetricsFile(tmp_path, MEMBERS).start(0)
    assert len((tmp_path / METRICS).read_text().splitlines()) == 1


def test_a_removed_file_is_not_made_again(tmp_path):
    """Else a run whose directory was removed would go on in another one, unnoticed."""
    file = MetricsFile(tmp_path, MEMBERS)
    file.start(0)
    file.log(10, metrics(10))
    (tmp_path / METRICS).unlink()
    with pytest.raises(FileNotFoundError):
        file.log(20, metrics(20))
    assert not (tmp_path / METRICS).exists()
