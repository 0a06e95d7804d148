"""The order of a sweep's configurations against brute force, and the table of them read back."""

import csv
import os

import numpy as np
import pytest

from purerl.analysis import Ranked, bootstrap_interval, rank, write_sweep
from purerl.analysis.sweeps import distinct, plain


def better(a, b):
    """Whether one (steps, finite scores) is strictly better than another, by the rule's words."""
    if bool(a[1]) != bool(b[1]):
        return bool(a[1])
    if a[0] != b[0]:
        return a[0] > b[0]
    return bool(a[1]) and bootstrap_interval(a[1]).value > bootstrap_interval(b[1]).value


@pytest.mark.parametrize("seed", range(8))
def test_order_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    count = 9
    scores = rng.integers(-2, 3, (count, 3)).astype(float)  # many are equal
    scores[rng.random((count, 3)) < 0.3] = np.nan
    scores[rng.integers(count)] = np.nan
    scores[rng.integers(count), 0] = np.inf
    steps = rng.choice([100, 200, 400], count).tolist()
    rows = [(n, [x for x in row if np.isfinite(x)]) for n, row in zip(steps, scores, strict=True)]

    # One is behind all that are better, and behind those before it that are not worse.
    behind = lambda a, b: better(rows[b], rows[a]) or (b < a and not better(rows[a], rows[b]))
    place = {c: sum(behind(c, other) for other in range(count)) for c in range(count)}
    ranked = rank({"x": list(range(count))}, scores, steps)
    assert [r.configuration for r in ranked] == sorted(range(count), key=place.__getitem__)
    assert [r.rank for r in ranked] == list(range(1, count + 1))
    for r in ranked:
        assert r.values == {"x": r.configuration}
        assert r.steps == steps[r.configuration]
        assert r.interval.count == len(rows[r.configuration][1])
        np.testing.assert_array_equal(r.interval, bootstrap_interval(scores[r.configuration]))


def test_order_by_hand():
    scores = [[9.0, 9.0], [1.0, 3.0], [np.nan, 5.0], [np.nan, np.nan], [2.0, 2.0]]
    ranked = rank({}, scores, [100, 400, 400, 800, 400])
    assert [r.configuration for r in ranked] == [2, 1, 4, 0, 3]
    assert [r.configuration for r in rank({}, scores)] == [0, 2, 1, 4, 3]
    assert {r.steps for r in rank({}, scores)} == {0}


def test_values_are_pythons_own():
    values = {
        "lr": np.array([1e-3, 2e-3]),
        "hidden": [[64, 64], (32,)],
        "kind": ["tanh", "relu"],
        "on": np.array([True, False]),
    }
    (first, second) = rank(values, [[1.0], [0.0]])
    assert first.values == {"lr": 1e-3, "hidden": (64, 64), "kind": "tanh", "on": True}
    assert [type(x) for x in second.values.values()] == [float, tuple, str, bool]


def test_distinct_is_sorted():
    assert distinct([3, 1.5, 3, -1]) == [-1, 1.5, 3]
    assert distinct(plain([[64, 64], (32,), [64, 64]])) == [(32,), (64, 64)]
    assert distinct(["b", 1, "a", 1]) == [1, "a", "b"]  # by their text


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"scores \(3,\): want \[C, S\]"):
        rank({}, np.zeros(3))
    with pytest.raises(ValueError, match=r"lr \[2\] and scores \(3, 4\)"):
        rank({"lr": [1, 2]}, np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"steps \[2\] and scores \(3, 4\)"):
        rank({}, np.zeros((3, 4)), [1, 2])


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_reads_back(tmp_path):
    values = {
        "learning_rate": np.array([3e-4, 1 / 3, 1e-12], np.float32),
        "hidden": [(64, 64), (32,), (128, 128, 128)],
        "kind": ["tanh", 'a "quoted", name', "relu\nswish"],
        "on": [True, False, True],
        "size": [8, 123456789, 2],
    }
    scores = np.array([[1.0, 2.0, np.nan], [-1e9, -3e9, -2e9], [np.nan] * 3])
    ranked = rank(values, scores, [10_485_760, 10_485_760, 5])
    write_sweep(tmp_path / "sweep.csv", ranked)
    rows = read(tmp_path / "sweep.csv")
    names = ["rank", "configuration", *values, "iqm", "low", "high", "seeds", "steps"]
    assert list(rows[0]) == names
    assert [int(row["rank"]) for row in rows] == [1, 2, 3]
    for row, r in zip(rows, ranked, strict=True):
        assert int(row["configuration"]) == r.configuration
        assert (row["hidden"], row["kind"]) == (str(r.values["hidden"]), r.values["kind"])
        assert (row["on"], row["size"]) == (str(r.values["on"]), str(r.values["size"]))
        assert float(row["learning_rate"]) == pytest.approx(r.values["learning_rate"], rel=1e-6)
        score = [float(row[name] or "nan") for name in ("iqm", "low", "high")]
        np.testing.assert_allclose(score, r.interval[:3], rtol=1e-6)
        assert (int(row["seeds"]), int(row["steps"])) == (r.interval.count, r.steps)
    assert rows[0]["learning_rate"] == "0.0003"
    assert (rows[2]["iqm"], rows[2]["low"], rows[2]["high"], rows[2]["seeds"]) == ("", "", "", "0")
    assert os.listdir(tmp_path) == ["sweep.csv"]


def test_table_of_nothing_is_a_header(tmp_path):
    write_sweep(tmp_path / "sweep.csv", [])
    text = (tmp_path / "sweep.csv").read_text()
    assert text == "rank,configuration,iqm,low,high,seeds,steps\n"


def test_a_failed_write_leaves_the_old_table_and_no_litter(tmp_path):
    path = tmp_path / "sweep.csv"
    ranked = rank({"lr": [1, 2]}, [[1.0], [2.0]])
    write_sweep(path, ranked)
    old = path.read_bytes()
    broken = ranked[1]._replace(values={})
    with pytest.raises(KeyError):
        write_sweep(path, [ranked[0], broken])
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["sweep.csv"]


def test_ranked_is_a_tuple_by_name():
    (only,) = rank({"lr": [0.5]}, [[2.0, 4.0]], [7])
    assert only == Ranked(0, {"lr": 0.5}, bootstrap_interval([2.0, 4.0]), 7, 1)
