"""Grids and samples: every combination once, the right distributions, and errors of one line."""

import itertools
import re

import numpy as np
import pytest
from scipy import stats

from purerl import UsageError, choice, grid, log_uniform, sample, uniform
from purerl.agents import ppo
from purerl.configurations import as_flags, expand
from purerl.sweeps import parse_axis

HPARAMS = ppo.HParams(env_params={"gravity": 9.8, "length": 0.5})


def test_a_grid_is_the_product():
    found = grid(ppo.HParams(), learning_rate=[1, 2, 3], discount=[0.9, 0.99])
    pairs = list(zip(found.learning_rate, found.discount, strict=True))
    assert pairs == list(itertools.product([1, 2, 3], [0.9, 0.99]))
    assert found.clip_eps == ppo.HParams().clip_eps


def test_a_grid_over_the_environment():
    found = grid(ppo.HParams(), env_params={"gravity": [1, 2]}, discount=[0.5, 0.6])
    assert found.env_params["gravity"].tolist() == [1, 1, 2, 2]
    assert found.discount.tolist() == [0.5, 0.6, 0.5, 0.6]


def test_samples_have_their_distributions():
    n = 4000
    found = sample(
        ppo.HParams(), n,
        learning_rate=log_uniform(1e-5, 1e-2), discount=uniform(0.5, 1.0),
        clip_eps=choice(0.1, 0.2), gae_lambda=[0.9, 0.95, 1.0],
    )  # fmt: skip
    test = lambda x, *of: stats.kstest(x, "uniform", of).pvalue
    assert test(np.log10(found.learning_rate), -5, 3) > 1e-3
    assert test(found.discount, 0.5, 0.5) > 1e-3
    values, counts = np.unique(found.clip_eps, return_counts=True)
    assert values.tolist() == [0.1, 0.2]
    assert stats.binomtest(int(counts[0]), n).pvalue > 1e-3
    assert set(found.gae_lambda) == {0.9, 0.95, 1.0}
    assert abs(np.corrcoef(np.log(found.learning_rate), found.discount)[0, 1]) < 0.06


def test_samples_repeat_and_do_not_depend_on_each_other():
    one = sample(ppo.HParams(), 5, learning_rate=log_uniform(1e-5, 1e-2))
    two = sample(ppo.HParams(), 5, discount=uniform(0, 1), learning_rate=log_uniform(1e-5, 1e-2))
    other = sample(ppo.HParams(), 5, seed=1, learning_rate=log_uniform(1e-5, 1e-2))
    assert one.learning_rate.tolist() == two.learning_rate.tolist()
    assert one.learning_rate.tolist() != other.learning_rate.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: grid(ppo.HParams(), learing_rate=[1]),
            "learing_rate: no such hyperparameter; did",
        ),
        (lambda: grid(ppo.HParams(), discount=[]), "discount=[]: an empty list"),
        (lambda: grid(ppo.HParams(), discount=uniform(0, 1)), "say how many with --sample"),
        (lambda: grid(ppo.HParams(), discount=["a"]), "discount=['a']: must be numbers"),
        (lambda: sample(ppo.HParams(), 0, discount=[1]), "sample=0: must be positive"),
        (lambda: uniform(1, 0), "uniform: from 1 to 0: must be two numbers, the lower first"),
        (lambda: log_uniform(0, 1), "log_uniform: from 0 to 1: both must be positive"),
        (lambda: log_uniform(1e-3, float("inf")), "must be two numbers"),
        (choice, "choice: an empty list"),
        (
            lambda: grid(ppo.HParams(), learning_rate=3e-4),
            "learning_rate=0.0003: must be a list of numbers",
        ),
        (lambda: sample(ppo.HParams(), 5, learning_rate=1e-3), "must be a list of numbers"),
        (lambda: grid(ppo.HParams(), discount=np.float64(0.5)), "must be a list of numbers"),
        (lambda: grid(ppo.HParams(), discount=np.array(0.5)), "must be a list of numbers"),
        (lambda: grid(ppo.HParams(), learning_rate="12"), "learning_rate='12': must be a list"),
        (lambda: grid(ppo.HParams(), discount=[[0.1, 0.2], [0.3, 0.4]]), "must be a list of"),
        (lambda: sample(ppo.HParams(), 5, clip_eps=choice([0.1, 0.2])), "clip_eps=([0.1, 0.2],):"),
        (lambda: grid(ppo.HParams(), env_params=[1, 2]), "env_params=[1, 2]: must be a dict"),
        (lambda: grid(ppo.HParams(), env_params={"gravity": 9.8}), "env_params.gravity=9.8: must"),
        (lambda: sample(ppo.HParams(), 64), "sample=64: needs a field to draw"),
        (lambda: sample(ppo.HParams(), 2.5, discount=[1]), "sample=2.5: must be a whole number"),
    ],
)
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        call()


def test_axes_as_written():
    assert parse_axis("learning-rate=1e-4,3e-4") == ("learning_rate", ["1e-4", "3e-4"])
    assert parse_axis("discount=log:1e-5:1e-2") == ("discount", log_uniform(1e-5, 1e-2))
    assert parse_axis("discount=uniform:0.9:1") == ("discount", uniform(0.9, 1))
    assert parse_axis("hidden_sizes=(64,64),32x32") == ("hidden_sizes", ["(64,64)", "32x32"])


@pytest.mark.parametrize("text", [
    "learning_rate", "=1", "a=", "a=1,,2", "a=log:1", "a=log:1:2:3", "a=log:x:1", "a=normal:0:1",
    "a=log:1:0.1", "a=log:0:1",
])  # fmt: skip
def test_what_is_no_axis(text):
    with pytest.raises(UsageError):
        parse_axis(text)


def test_config_fields_make_groups():
    groups = expand(
        ["num_envs=8,16", "learning_rate=1,2", "hidden_sizes=32x32,(64,64)"], None,
        ppo.Config(), HPARAMS,
    )  # fmt: skip
    assert [g.name for g in groups] == [
        f"num_envs={n},hidden_sizes={s}x{s}" for n in (8, 16) for s in (32, 64)
    ]
    assert [(g.config.num_envs, g.config.hidden_sizes) for g in groups] == [
        (n, (s, s)) for n in (8, 16) for s in (32, 64)
    ]
    assert all(g.hparams.learning_rate.tolist() == [1, 2] for g in groups)


def test_every_kind_of_field_is_read():
    texts = ["core=none,gru", "squash=true,false", "initial_log_std=-1,0.5", "gravity=1,2",
             "env_params.length=3"]  # fmt: skip
    groups = expand(texts, None, ppo.Config(), HPARAMS)
    assert {(g.config.core, g.config.squash, g.config.initial_log_std) for g in groups} == set(
        itertools.product(("none", "gru"), (True, False), (-1.0, 0.5))
    )
    assert groups[0].hparams.env_params["gravity"].tolist() == [1, 2]
    assert groups[0].hparams.env_params["length"].tolist() == [3, 3]


def test_without_a_sweep_there_is_one_group():
    assert expand([], None, ppo.Config(), HPARAMS) == [("", ppo.Config(), HPARAMS, {})]


def test_a_sample_of_config_fields():
    groups = expand(["num_envs=8,16", "discount=uniform:0:1"], 7, ppo.Config(), HPARAMS)
    assert sum(len(g.hparams.discount) for g in groups) == 7
    assert {g.config.num_envs for g in groups} == {8, 16}


@pytest.mark.parametrize(
    ("texts", "count", "message"),
    [
        (["learning_rat=1"], None, "learning_rat: no such field; did you mean learning_rate"),
        (["gravty=1"], None, "gravty: no such field; did you mean gravity"),
        (["discount=1", "discount=2"], None, "discount is given twice"),
        (["discount=1,x"], None, "discount='x': must be a number"),
        (["num_envs=1.5"], None, "num_envs='1.5': must be an integer"),
        (["num_envs=log:1:8"], 4, "num_envs is not a real number; list its values"),
        (["core=gru,rnn"], None, "core='rnn': must be one of none, gru, lstm"),
        (["squash=maybe"], None, "squash='maybe': must be one of true, false"),
        (["hidden_sizes=big"], None, "hidden_sizes='big': must be sizes, as 64x64"),
        (["discount=uniform:0:1"], None, "discount is drawn at random; say how many with --sample"),
        ([], 5, "sample=5: needs --sweep"),
    ],
)
def test_wrong_sweeps(texts, count, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        expand(texts, count, ppo.Config(), HPARAMS)


def test_settings_as_flags():
    settings = {"env": "Ant", "hidden_sizes": (64, 32), "squash": True, "clip_value": False,
                "learning_rate": 3e-4, "run_dir": None, "env_params.gravity": 9.8}  # fmt: skip
    assert " ".join(as_flags(settings)) == (
        "--env Ant --hidden-sizes 64 32 --squash --no-clip-value --learning-rate 0.0003"
        " --env-params.gravity 9.8"
    )
