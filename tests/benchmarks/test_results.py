"""Results and what is made of them: entries, tables, pictures."""

import json
import re

import numpy as np
import pytest

from benchmarks import pictures, records, svg, tables
from benchmarks.learning import STUDIES, TASKS, compact
from benchmarks.peers.tasks import PAIRS
from purerl.analysis import probability_of_improvement


def test_documents_agree_with_the_results():
    """Else: `python -m benchmarks tables`."""
    assert (records.ROOT / "BENCHMARKS.md").read_text() == tables.page()
    assert (records.ROOT / "README.md").read_text() == tables.readme()


def test_the_readme_shows_where_we_are_slower(results):
    behind = {"ratio": 0.5, "low": 0.4, "high": 0.6, "pairs": 5, "purerl_is": "slower"}
    ahead = behind | {"purerl_is": "faster"}
    for task, speed in (("new", behind), ("even", ahead)):
        told = {"steps_per_second": speed, "cold_seconds_to_score": ahead}
        records.keep("peers", task, {"task": task, "title": "Other", "repetitions": []} | told)
    text = "\n".join(tables.short())
    assert "| new | Other | 0.5 (0.4 to 0.6) | **slower** |" in text
    assert "| even |" not in text


def test_documents_follow_the_results(results):
    entry = {
        "command": "python experiments/ppo_gymnax.py --env CartPole-v1 --seeds 16",
        "gate": 495, "passed": False, "steps": 1000, "steps_per_second": 5, "compile_seconds": 1.0,
        "wall_seconds": 7.0, "train_seconds": 6.0, "peak_memory_mb": 9,
        "greedy": {"iqm": 123.4, "low": 100.0, "high": 150.0, "min": 1.0, "count": 16},
    }  # fmt: skip
    records.keep("learning", "ppo-cartpole", entry)
    assert "123.4 (100.0 to 150.0) | 495 **missed**" in tables.page()
    assert "| 1,000 | 16 | 123.4 (100.0 to 150.0) | 6 |" in "\n".join(tables.short())


def test_every_agent_that_is_measured_is_in_the_tables(results):
    about = records.provenance(agent="sac", env="gymnax/Pendulum-v1", members=4)
    records.keep("throughput", "sac-Pendulum-v1-4", about | {"purerl_steps_per_second": 5432})
    rows = [{"members": 4, "devices": 1, "steps_per_second": 9876, "peak_mb": 7}]
    records.keep("scaling", "members-sac-Pendulum-v1", about | {"rows": rows})
    records.keep("compile", "sac-Pendulum-v1", about | {"first_seconds": 4.0, "cached_seconds": 1})
    records.keep("memory", "sac-Pendulum-v1", about | {"peak_mb_by_total_steps": {"800": 1234}})
    text = tables.page()
    for told in (
        "sac, Pendulum-v1 | 4 | 5,432 |",
        "sac, Pendulum-v1 | 4 | 1 | 9,876 | 7 |",
        "sac | gymnax/Pendulum-v1 | 4.0 | 1.0 |",
        "sac | gymnax/Pendulum-v1 | 4 | 800 | 1,234 |",
    ):
        assert told in text


def test_pictures_of_the_documents_are_there():
    for name in ("README.md", "BENCHMARKS.md"):
        text = (records.ROOT / name).read_text()
        shown = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
        assert shown
        assert all((records.ROOT / path).exists() for path in shown), shown


def test_pictures_are_of_the_numbers_that_are_recorded():
    machines = [path.parent.name for path in records.RESULTS.glob("*/learning.json")]
    assert machines
    for machine in machines:
        drawn_from = (records.RESULTS / machine / pictures.SOURCES).read_text()
        assert drawn_from == pictures.sources(machine), "draw them again"


def test_other_numbers_are_another_picture(results):
    entry = {"curve": [[1, 2.0]], "train_seconds": 3.0, "steps": 1}
    records.keep("learning", "ppo-somewhere", entry)
    before = pictures.sources(records.here())
    records.keep("learning", "ppo-somewhere", entry | {"curve": [[1, 2.5]]})
    assert pictures.sources(records.here()) != before


@pytest.mark.parametrize(
    ("kind", "count", "name"),
    [
        ("cpu", 2, "cpu-2-cores"),
        ("NVIDIA H200", 1, "nvidia-h200"),
        ("NVIDIA H100 80GB HBM3", 8, "nvidia-h100-80gb-hbm3-x8"),
        ("TPU v5 lite", 4, "tpu-v5-lite-x4"),
    ],
)
def test_a_machine_has_a_name_for_a_folder(kind, count, name):
    assert records.slug(kind, count) == name


def test_entries_say_what_they_were_measured_with(results):
    records.keep("made-up", "one", records.provenance(members=3) | {"seconds": {"a": [1.0, 2.0]}})
    path = records.keep("made-up", "another", records.provenance())
    entries = json.loads(path.read_text())
    assert list(entries) == ["another", "one"]
    one = entries["one"]
    assert one["settings"] == {"members": 3}
    assert one["versions"].keys() == {*records.PACKAGES, "python", "backend"}
    assert one.keys() >= {"device", "cores", "processor", "commit", "date"}
    assert one["processor"]
    assert '"a": [1.0, 2.0]' in path.read_text()  # a list of numbers is a line
    assert records.read("made-up") == {records.here(): entries}


def test_every_pair_of_peers_is_recorded():
    """Or why it did not run: none is silently left out."""
    recorded = set().union(*records.read("peers").values())
    assert recorded == {f"{task}-{peer}" for peer, tasks in PAIRS.items() for task in tasks}


def test_recorded_entries_are_of_this_format():
    for path in records.RESULTS.glob("*/*.json"):
        for name, entry in json.loads(path.read_text()).items():
            assert {"versions", "device", "cores", "commit", "date"} <= entry.keys(), (path, name)


def test_recorded_learning_is_that_of_the_tasks():
    """Of their commands and gates as they are now."""
    for file, tasks in {"learning": TASKS, **STUDIES}.items():
        recorded = records.read(file).values()
        assert set().union(*recorded) == set(tasks)  # none is silently left out
        for entries in recorded:
            for name, entry in entries.items():
                task = tasks[name]
                assert entry["passed"] is not False, name
                assert entry["command"] == f"python {task.command}", name
                assert (entry["gate"], entry["passed"]) == (
                    task.gate, None if task.gate is None else entry["greedy"]["iqm"] >= task.gate
                ), name  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [{}, {"a": []}, {"a": [[1, 2], [None]], "b": {"c": {"d": "e"}}, "f": [{"g": 1.5}, {}]}],
)
def test_text_is_json(content):
    assert json.loads(records.text(content)) == content


def study(rng, tasks):
    """Entries of two algorithms with their seeds' returns."""
    draw = lambda: {"returns": [compact(x) for x in rng.normal(size=8)]}
    return {f"{agent}-{task}": draw() for task in tasks for agent in ("sac", "ddpg")}


def test_probability_of_improvement_is_computed_from_the_file(results):
    entries = study(np.random.default_rng(0), ["Pendulum-v1", "Reacher-misc"])
    entries["sac-hopper"] = {}  # of an older run: no returns
    for name, entry in entries.items():
        records.keep("sac-vs-ddpg", name, entry)
    rows = tables.improvement(records.read("sac-vs-ddpg"), "sac", "ddpg")[2:]
    assert [row.split(" | ")[1] for row in rows] == ["Pendulum-v1", "Reacher-misc", "all"]
    for task, row in zip(("Pendulum-v1", "Reacher-misc"), rows, strict=False):
        x, y = entries[f"sac-{task}"]["returns"], entries[f"ddpg-{task}"]["returns"]
        found = probability_of_improvement(x, y)
        assert row.endswith(f"| 8 | {found.value:.2f} ({found.low:.2f} to {found.high:.2f}) |")
    pictures.draw(records.here())
    drawn = {path.name for path in results.glob("*/*.png")}
    assert drawn == {"sac-vs-ddpg-profile.png", "sac-vs-ddpg-improvement.png"}


def test_recorded_studies_show_what_is_claimed_of_them():
    """SAC above DDPG on four tasks, intervals and all; Rainbow above DQN on three of four games."""
    for entries in records.read("sac-vs-ddpg").values():
        found = pictures.improvements(pictures.by_task(entries, "sac", "ddpg"))
        above = [task for task, x in found.items() if task != "all" and x.low > 0.5]
        assert len(above) >= 4, above
    for entries in records.read("rainbow-vs-dqn").values():
        score = lambda agent, game, entries=entries: entries[f"{agent}-{game}"]["greedy"]["iqm"]
        games = [name.removeprefix("dqn-") for name in entries if name.startswith("dqn-")]
        assert len(games) == 4
        assert sum(score("rainbow", game) > score("dqn", game) for game in games) >= 3


def test_profiles_are_of_scores_between_the_worst_and_the_best_run():
    scores = {"t": (np.array([1.0, 3.0]), np.array([2.0, 5.0])), "u": (np.ones(2), np.ones(2))}
    ours, theirs = pictures.scaled(scores)
    np.testing.assert_allclose(ours, [[0.0, 0.0], [0.5, 0.0]])
    np.testing.assert_allclose(theirs, [[0.25, 0.0], [1.0, 0.0]])


def curve_entry():
    return {
        "curve": [[100, 0.0], [200, 10.0]], "curve_by_seed": [[-5.0, 5.0], [None, 10.0]],
        "train_seconds": 4.0, "steps": 200,
    }  # fmt: skip


def test_curves_are_grouped_by_environment(results):
    for name in ("ppo-cartpole", "dqn-cartpole", "ppo-memory_chain-gru"):
        records.keep("learning", name, curve_entry())
    records.keep("learning", "dqn-acrobot", {})  # without a curve
    (entries,) = records.read("learning").values()
    found = pictures.by_environment(entries)
    assert {place: sorted(of) for place, of in found.items()} == {
        "cartpole": ["dqn", "ppo"],
        "memory_chain": ["ppo gru"],
    }
    pictures.draw(records.here())
    assert {path.stem for path in results.glob("*/*.png")} == {
        "learning-cartpole",
        "learning-cartpole-seconds",
        "learning-memory_chain",
        "learning-memory_chain-seconds",
    }


def test_seconds_of_a_curve_are_its_share_of_the_training():
    at, values = pictures.over_seconds(curve_entry())
    np.testing.assert_array_equal(at, [2.0, 4.0])
    np.testing.assert_array_equal(values, [[-5.0, 5.0], [np.nan, 10.0]])


def test_a_drawing_has_its_points_where_they_belong():
    lines = re.findall(r'polyline points="([^"]*)"', svg.curve("a <title>", curve_entry()))
    right, middle = svg.WIDTH - svg.RIGHT, svg.LEFT + (svg.WIDTH - svg.LEFT - svg.RIGHT) / 2
    bottom = svg.HEIGHT - svg.BOTTOM  # of the axes; values from -5 to 10
    third = bottom - (bottom - svg.TOP) / 3
    assert lines[0] == f"{middle:.1f},{bottom:.1f}"  # the failed seed ends
    assert lines[-1] == f"{middle:.1f},{third:.1f} {right:.1f},{svg.TOP:.1f}"  # the mean, on top
    assert "a &lt;title&gt;" in svg.curve("a <title>", curve_entry())


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-160.0, -120.0), (0.0, 499_712.0), (9, 9.1)]
)
def test_ticks_are_few_round_and_inside(low, high):
    found = svg.ticks(low, high)
    assert 3 <= len(found) <= 7
    assert low - 1e-9 <= found[0] < found[-1] <= high * (1 + 1e-9 * np.sign(high))
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0])
    assert f"{steps[0]:.0e}"[0] in "125"
