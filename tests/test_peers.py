"""Peers beside us: the harness with peers of a few lines, and its arithmetic against closed forms.

No test installs a peer or imports one.
"""

import ast
import itertools
import json
import math
import runpy
import sys

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import records, tables
from benchmarks.peers import compare, ours, runs, tasks, venvs

# A peer that answers what its task asks for, twice as slow as its seed is old.
GOOD = """
import json, sys
task = json.loads(sys.argv[1])
parts = task["chunks"]
print("something else first")
print(json.dumps({
    "compile_seconds": 1.0, "chunk_steps": task["steps"] // parts,
    "chunk_seconds": [SPEED * (1 + task["seed"])] * parts, "returns": list(range(parts)),
}))
"""
JAX_SAYS = "import sys; print('ValueError: no such thing\\n----\\nFor simplicity', file=sys.stderr)"
BAD = {
    f"{JAX_SAYS}; sys.exit(1)": "ValueError: no such thing",
    "print('no JSON')": "printed no result",
    "print('[]')": "printed no result",
    "pass": "printed no result",
    GOOD.replace("SPEED", "1.0").replace("* parts,", "* 2,"): "of 4 parts",
    GOOD.replace("SPEED", "1.0").replace("list(range(parts))", "[float('nan')] * parts"): "finite",
}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """(peer, code) -> None: lets that code be the peer, or us; results go to tmp_path."""
    codes = {"purerl": GOOD.replace("SPEED", "0.5")}

    def command(name):
        path = tmp_path / f"{name}.py"
        path.write_text(codes[name])
        return [sys.executable, str(path)]

    def build(name, where):
        if name not in codes:
            raise venvs.PeerError("ERROR: No matching distribution")
        return where

    monkeypatch.setattr(runs, "ours", lambda: command("purerl"))
    monkeypatch.setattr(runs, "theirs", lambda name, python: command(name))
    monkeypatch.setattr(venvs, "build", build)
    monkeypatch.setattr(venvs, "versions", lambda *_: {"fake": "1.0"})
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "commit", lambda: "abc")
    small = tasks.Task("ppo", "gymnax/CartPole-v1", 80, 40, 4, 2, 2.0, {"num_envs": 2})
    monkeypatch.setattr(tasks, "TASKS", dict.fromkeys(tasks.TASKS, small))
    return codes.__setitem__


def kept():
    (entries,) = records.read("peers").values()
    return entries


def test_a_pair_goes_from_the_command_line_to_the_table(fake, capsys):
    fake("rejax", GOOD.replace("SPEED", "2.0"))
    command = ["peers", "--peer", "rejax", "--task", "ppo-cartpole", "--repeats", "3"]
    assert benchmarks.main(command) == 0
    (entry,) = kept().values()
    assert [pair["peer"]["chunk_seconds"][0] for pair in entry["repetitions"]] == [2.0, 4.0, 6.0]
    assert [pair["purerl"]["chunk_seconds"][0] for pair in entry["repetitions"]] == [0.5, 1.0, 1.5]
    speed = entry["steps_per_second"]
    assert (speed["purerl"], speed["peer"]) == (20, 5)  # 20 steps in 1 and in 4 s
    assert (speed["ratio"], speed["low"], speed["high"]) == (4.0, 4.0, 4.0)
    assert speed["purerl_is"] == "faster"
    warm, cold = entry["warm_seconds_to_score"], entry["cold_seconds_to_score"]
    assert (warm["purerl"], warm["peer"]) == (3.0, 12.0)  # a return of 2 after the third part
    assert (cold["purerl"], cold["peer"]) == (4.0, 13.0)
    assert entry["peer_versions"] == {"fake": "1.0"}
    assert {"settings", "versions", "device", "commit", "date"} <= entry.keys()
    assert next(records.RESULTS.glob("*/peers.png")).stat().st_size > 1000
    text = "\n".join(tables.peers(records.read("peers")))
    assert "| ppo-cartpole | Rejax | 20 | 5 | 4 (4 to 4) | faster |" in text
    assert "faster" in capsys.readouterr().out


def test_what_we_lose_is_in_words(fake):
    fake("rejax", GOOD.replace("SPEED", "0.1"))
    assert benchmarks.main(["peers", "--peer", "rejax", "--task", "ppo-cartpole"]) == 0
    text = "\n".join(tables.peers(records.read("peers")))
    assert text.count("**slower**") == 3  # steps/s, warm and cold


@pytest.mark.parametrize("code", BAD, ids=range(len(BAD)))
def test_a_peer_that_does_not_run_is_one_line_and_the_others_go_on(fake, capsys, code):
    fake("rejax", code)
    fake("sb3", GOOD.replace("SPEED", "2.0"))
    command = ["peers", "--task", "ppo-cartpole", "--repeats", "1", "--peer", "rejax", "sbx", "sb3"]
    assert benchmarks.main(command) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if "did not run" in line]
    assert len(said) == 2
    assert said[0].startswith("rejax on ppo-cartpole: did not run: ")
    assert BAD[code] in said[0]
    assert "sbx on ppo-cartpole: did not run: did not install: ERROR: No matching" in said[1]
    assert kept().keys() == {"ppo-cartpole-rejax", "ppo-cartpole-sbx", "ppo-cartpole-sb3"}
    text = "\n".join(tables.peers(records.read("peers")))
    assert BAD[code] in text
    assert "| ppo-cartpole | Stable-Baselines3 (PyTorch) | 40 | 10 |" in text


def test_a_failure_does_not_overwrite_what_was_measured(fake):
    command = ["peers", "--peer", "rejax", "--task", "ppo-cartpole", "--repeats", "1"]
    fake("rejax", GOOD.replace("SPEED", "2.0"))
    assert benchmarks.main(command) == 0
    before = kept()
    fake("rejax", "pass")
    assert benchmarks.main(command) == 1
    assert kept() == before


def test_a_quick_run_keeps_nothing(fake):
    fake("rejax", GOOD.replace("SPEED", "2.0"))
    assert benchmarks.main(["peers", "--quick", "--peer", "rejax", "--task", "ppo-cartpole"]) == 0
    assert records.read("peers") == {}


@pytest.mark.parametrize("peer", ["purejaxrl", "stoix"])
def test_a_peer_without_its_checkout_says_so(capsys, peer):
    command = ["peers", "--quick", "--task", "ppo-cartpole", "--peer", peer]
    assert benchmarks.main(command) == 1
    said = capsys.readouterr().out
    assert f"is not on PyPI; give --checkout {peer}=DIR" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--peer", "rejx"], "peer='rejx': is not known; did you mean rejax"),
        (["--task", "ppo-cartpol"], "did you mean ppo-cartpole"),
        (["--repeats", "0"], "repeats=0: must be positive"),
        (["--repeats", "few"], "invalid int value"),
        (["--checkout", "purejaxrl"], "checkout='purejaxrl': must be PEER=DIR"),
        (["--checkout", "purejaxl=."], "did you mean purejaxrl"),
        (["--checkout", "rejax=."], "did you mean"),  # it is on PyPI
        (["--checkout", "purejaxrl=."], "has no purejaxrl/ppo.py"),
        (["--checkout", "stoix=."], "has no stoix/systems/ppo/anakin/ff_ppo.py"),
        (["--peer", "sbx", "--task", "sac-reacher"], "no such pair; sbx: ppo-cartpole"),
    ],
)
def test_what_is_wrong_is_one_line(argv, says, capsys):
    assert benchmarks.main(["peers", *argv]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


# ---- arithmetic


def test_a_ratio_of_two_pairs_by_hand():
    # Resamples: both pairs, in either order, or one of them twice; 1/4 each end.
    found = compare.ratio([2.0, 8.0], [1.0, 1.0])
    assert found.value == pytest.approx(4.0)
    assert (found.low, found.high) == (pytest.approx(2.0), pytest.approx(8.0))


@pytest.mark.parametrize("n", [1, 3, 4])
def test_its_interval_equals_all_resamples(n):
    rng = np.random.default_rng(n)
    above, below = rng.uniform(1, 5, (2, n))
    means = sorted(
        math.exp(sum(math.log(above[i] / below[i]) for i in rows) / n)
        for rows in itertools.product(range(n), repeat=n)
    )
    found = compare.ratio(above, below)
    # The least of them that a 40th of all do not exceed, and likewise from 39 of 40.
    assert found.low == pytest.approx(means[math.ceil(len(means) / 40) - 1])
    assert found.high == pytest.approx(means[math.ceil(len(means) * 39 / 40) - 1])
    assert found.count == n


def test_of_many_pairs_it_is_near_the_normal_interval():
    # The mean of n logarithms has a deviation of s / sqrt(n): 1.96 of them either way.
    logs = np.random.default_rng(0).normal(0.5, 0.3, 400)
    found = compare.ratio(np.exp(logs), np.ones(400))
    half = 1.96 * logs.std() / 20
    assert math.log(found.low) == pytest.approx(logs.mean() - half, abs=0.1 * half)
    assert math.log(found.high) == pytest.approx(logs.mean() + half, abs=0.1 * half)


def test_a_ratio_of_swapped_sides_is_its_inverse():
    above, below = [3.0, 5.0, 4.0], [1.0, 2.0, 3.0]
    found, other = compare.ratio(above, below), compare.ratio(below, above)
    assert other[:3] == pytest.approx((1 / found.value, 1 / found.high, 1 / found.low))


@pytest.mark.parametrize(
    ("ends", "count", "word"),
    [
        ((1.1, 1.2), 3, "faster"),
        ((0.8, 0.9), 3, "slower"),
        ((0.9, 1.1), 3, "no clear difference"),
        ((1.1, 1.2), 1, "one repetition"),
    ],
)
def test_the_word_for_it(ends, count, word):
    assert compare.verdict(compare.Ratio(1.0, *ends, count)) == word


def test_compiling_is_taken_apart():
    run = {"compile_seconds": 5.0, "chunk_steps": 10, "chunk_seconds": [1.0, 1.0],
           "returns": [0, 1]}  # fmt: skip
    found = compare.timeline(run)
    assert found[:3] == (5.0, [1.0, 2.0], [6.0, 7.0])
    assert found.steps_per_second == 10.0
    # In the second part, as learning starts late; the first is quick, and stays so.
    run |= {"compile_seconds": None, "chunk_seconds": [0.5, 7.0, 2.0, 2.0], "returns": [0] * 4}
    found = compare.timeline(run)
    assert found.compile_seconds == 5.0
    assert found.warm == [0.5, 2.5, 4.5, 6.5]
    assert found.cold == [0.5, 7.5, 9.5, 11.5]
    assert found.steps_per_second == 5.0, "of the parts after the first two"


def test_seconds_to_a_score():
    assert compare.seconds_to(3.0, [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == 2.0
    assert compare.seconds_to(4.0, [1.0, 2.0], [1.0, 3.0]) is None


def test_runs_that_miss_the_score_cost_what_they_took():
    """By a simulation: runs are repeated until one reaches it, and their seconds added up."""
    run = lambda *returns: {"compile_seconds": 1.0, "chunk_steps": 1, "chunk_seconds": [1.0] * 4,
                            "returns": list(returns)}  # fmt: skip
    reached, missed = run(0, 9, 9, 9), run(0, 0, 0, 0)
    pairs = [{"purerl": reached, "peer": missed}] * 2 + [{"purerl": reached, "peer": reached}]
    found = compare.summary(pairs, 5.0)["warm_seconds_to_score"]
    assert (found["purerl"], found["purerl_reached"]) == (2.0, 3)
    rng, costs = np.random.default_rng(0), []
    for _ in range(20_000):
        misses = rng.geometric(1 / 3) - 1
        costs.append(4.0 * misses + 2.0)
    assert found["peer"] == pytest.approx(np.mean(costs), rel=0.02)
    assert (found["peer"], found["peer_reached"], found["pairs"]) == (10.0, 1, 3)
    # Of 27 resamples 8 have no run of theirs that reached it, and one none that did not.
    assert (found["ratio"], found["low"], found["high"]) == (5.0, 1.0, None)
    assert found["purerl_is"] == "no clear difference"


def test_the_ratio_of_expected_seconds_of_swapped_sides_is_its_inverse():
    ours, theirs = [(2.0, True), (4.0, False), (3.0, True)], [(5.0, True), (9.0, True), (9.0, True)]
    found = compare.ratio_of_expected(ours, theirs)
    assert found.value == pytest.approx((23 / 3) / (9 / 2))
    other = compare.ratio_of_expected(theirs, ours)
    with np.errstate(divide="ignore"):
        value, low, high = np.divide(1.0, found[:3])
    assert other[:3] == pytest.approx((value, high, low))


def test_a_score_that_one_side_misses_has_no_ratio():
    run = lambda *returns: {"compile_seconds": 1.0, "chunk_steps": 1, "chunk_seconds": [1.0, 1.0],
                            "returns": list(returns)}  # fmt: skip
    pairs = [{"purerl": run(0, 9), "peer": run(0, 0)}] * 2
    found = compare.summary(pairs, 5.0)["warm_seconds_to_score"]
    assert found == {
        "purerl": 2.0, "purerl_reached": 2, "peer": None, "peer_reached": 0,
        "purerl_is": "alone there",
    }  # fmt: skip
    swapped = [{"purerl": pair["peer"], "peer": pair["purerl"]} for pair in pairs]
    found = compare.summary(swapped, 5.0)["cold_seconds_to_score"]
    assert found["purerl_is"] == "not there"
    assert "ratio" not in compare.summary(pairs, 50.0)["cold_seconds_to_score"]


# ---- what is compared


def test_every_setting_is_one_of_ours():
    for peer, pairs in tasks.PAIRS.items():
        for name, pair in pairs.items():
            task = tasks.TASKS[name]
            about = {"algorithm": task.algorithm, "env": task.env}
            settings = task.settings | pair.ours
            agent, hparams = ours.make(about | {"settings": settings})
            fields = vars(agent.config) | hparams._asdict() | {"total_steps": 0}
            extra = {"learning_rate"} if task.algorithm == "sac" else set()
            assert settings.keys() - extra <= fields.keys(), (peer, name)
            for steps, chunks in ((task.steps, task.chunks), (task.quick, min(task.chunks, 5))):
                assert steps // chunks >= agent.steps_per_update, name
            assert task.steps % (task.chunks * agent.steps_per_update) == 0, name


def test_one_learning_rate_is_that_of_every_network():
    about = {"algorithm": "sac", "env": "gymnax/Pendulum-v1", "settings": {"learning_rate": 0.5}}
    _, hparams = ours.make(about)
    assert (hparams.critic_learning_rate, hparams.actor_learning_rate) == (0.5, 0.5)
    assert hparams.temperature_learning_rate == 0.5


def test_every_peer_has_an_adapter_that_imports_nothing_of_ours():
    assert tasks.PAIRS.keys() == venvs.PEERS.keys()
    for name in venvs.PEERS:
        tree = ast.parse((runs.ADAPTERS / f"{name}.py").read_text())
        nodes = list(ast.walk(tree))
        found = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
        found += [n.module for n in nodes if isinstance(n, ast.ImportFrom)]
        assert not {name.split(".")[0] for name in found} & {"purerl", "benchmarks"}, name


def test_an_environment_is_built_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(venvs, "_call", lambda words: calls.append(words) or "")
    monkeypatch.setattr(venvs, "accelerator", lambda: "[cuda13]")
    (tmp_path / "rejax").mkdir()
    venvs.build("rejax", tmp_path)
    assert calls[-1][-3:] == ["rejax", "gymnax<1", "jax[cuda13]>=0.11,<0.12"]
    before = len(calls)
    venvs.build("rejax", tmp_path)
    assert len(calls) == before
    monkeypatch.setattr(venvs, "accelerator", lambda: "")
    venvs.build("rejax", tmp_path)
    assert calls[-1][-1] == "jax>=0.11,<0.12"


def test_where_they_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PURERL_PEERS", str(tmp_path / "named"))
    assert venvs.folder(None) == tmp_path / "named"
    assert venvs.folder(tmp_path) == tmp_path
    monkeypatch.delenv("PURERL_PEERS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert venvs.folder(None) == tmp_path / "purerl" / "peers"


# ---- Stoix, whose configuration is written in Hydra's words


def stoix_overrides(about):
    """What the adapter asks of it, by name; it is read without Stoix."""
    lines = runpy.run_path(str(runs.ADAPTERS / "stoix.py"))["overrides"](about)
    return dict(line.split("=", 1) for line in lines)


def stoix_task(name, **changed):
    pair, task = tasks.PAIRS["stoix"][name], tasks.TASKS[name]
    about = {
        "algorithm": task.algorithm, "env": task.env, "steps": task.steps, "chunks": task.chunks,
        "episodes": task.episodes, "greedy": pair.greedy, "seed": 3,
    }  # fmt: skip
    return about | {"settings": task.settings | pair.theirs | changed}


def test_the_settings_of_ppo_in_the_words_of_stoix():
    torso = {"layer_sizes": "[64, 64]", "activation": "tanh"}
    assert stoix_overrides(stoix_task("ppo-cartpole")) == {
        "env": "gymnax/cartpole", "arch.seed": "3", "arch.total_timesteps": "122880",
        "arch.num_evaluation": "20", "arch.num_eval_episodes": "16",
        "arch.evaluation_greedy": "True", "arch.total_num_envs": "16",
        "system.rollout_length": "128", "system.epochs": "8", "system.num_minibatches": "4",
        "system.actor_lr": "0.001", "system.critic_lr": "0.001",
        "system.decay_learning_rates": "False", "system.gamma": "0.98",
        "system.gae_lambda": "0.9", "system.clip_eps": "0.2", "system.vf_coef": "0.5",
        "system.ent_coef": "0.01", "system.max_grad_norm": "0.5",
        **{f"network.actor_network.pre_torso.{name}": value for name, value in torso.items()},
        **{f"network.critic_network.pre_torso.{name}": value for name, value in torso.items()},
    }  # fmt: skip


def test_it_learns_from_as_many_steps_as_ours_before_it_begins():
    found = stoix_overrides(stoix_task("dqn-cartpole"))  # 1,000 steps of 10 environments
    assert (found["system.warmup_steps"], found["system.rollout_length"]) == ("100", "1")
    assert (found["system.epochs"], found["system.training_epsilon"]) == ("1", "0.05")
    assert stoix_overrides(stoix_task("sac-pendulum"))["system.warmup_steps"] == "512"


def test_no_setting_is_lost_on_the_way_to_stoix():
    for name in tasks.PAIRS["stoix"]:
        usual = stoix_overrides(stoix_task(name))
        for field, value in stoix_task(name)["settings"].items():
            other = not value if isinstance(value, bool) else value * 2 if value else 0.5
            changed = stoix_task(name, **{field: other})
            if field in {"double", "target_period", "exploration_fraction"}:
                with pytest.raises(ValueError, match=f"{field}: Stoix has only {value}"):
                    stoix_overrides(changed)
            else:
                assert stoix_overrides(changed) != usual, (name, field)
        with pytest.raises(ValueError, match="n_step: Stoix has no such setting"):
            stoix_overrides(stoix_task(name, n_step=3))


def test_our_side_speaks_the_same_language():
    settings = {"num_envs": 2, "unroll_length": 8, "num_minibatches": 1, "num_epochs": 1}
    about = {
        "algorithm": "ppo", "env": "gymnax/CartPole-v1", "steps": 64, "chunks": 2, "episodes": 2,
        "greedy": True, "seed": 0, "settings": settings,
    }  # fmt: skip
    found = json.loads(json.dumps(ours.main(about)))
    assert found["chunk_steps"] == 32
    assert len(found["chunk_seconds"]) == len(found["returns"]) == 2
    assert found["compile_seconds"] > 0
