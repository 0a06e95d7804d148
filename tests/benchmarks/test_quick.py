"""`--quick`: what is worse than allowed is caught and named, and noise is not."""

import importlib

import pytest

from benchmarks import quick, timing
from benchmarks.quick import KINDS, Row, judge, run
from benchmarks.records import RESULTS, here, keep, read
from benchmarks.records import processor as processor_here

COMMANDS = ("throughput", "compile", "memory", "scaling", "learning")


def measured(*values, kind="speed", gate=None):
    """What measures `values` in turn, one a call."""
    left = list(values)
    return lambda: Row(kind, [left.pop(0)], gate)


def commit(name, value, processor=None):
    about = {"processor": processor or processor_here(), "kind": "speed"}
    keep("quick", name, about | {"value": value, "repetitions": [value]})


def test_a_slow_result_is_caught_and_named(results, capsys):
    commit("speed made-up", 100.0)
    commit("speed other", 100.0)
    rows = {"speed made-up": measured(40.0, 41.0), "speed other": measured(99.0)}
    assert run("throughput", rows, keeping=False) == 1
    out, err = capsys.readouterr()
    told = err.splitlines()[-1]
    assert told.startswith("worse than allowed: speed made-up: 40 steps a calibration loop")
    assert "where 100 is committed" in told
    assert f"must be at least {100.0 / KINDS['speed'].allowance:.4g}" in told
    assert "| speed made-up | 40 |" in out
    assert "**failed**" in out.split("speed made-up")[1].split("\n")[0]
    assert "ok" in out.split("speed other")[1].split("\n")[0]


@pytest.mark.parametrize("kind", ["speed", "share", "compile", "memory"])
def test_the_limit_is_the_committed_value_and_the_allowance(kind):
    higher, allowance, elsewhere = KINDS[kind].higher, KINDS[kind].allowance, KINDS[kind].elsewhere
    assert 1.0 < allowance < elsewhere
    entry = {"value": 12.0}
    for same, factor in ((True, allowance), (False, elsewhere)):
        worst = 12.0 / factor if higher else 12.0 * factor
        worse, better = (0.999, 1.001) if higher else (1.001, 0.999)
        assert judge("row", Row(kind, [worse * worst]), entry, same).failed
        assert not judge("row", Row(kind, [better * worst]), entry, same).failed
    assert judge("row", Row(kind, [float("nan")]), entry, True).failed


def test_what_is_slow_once_is_measured_again(results, capsys):
    commit("speed made-up", 100.0)
    assert run("throughput", {"speed made-up": measured(40.0, 95.0)}, keeping=False) == 0
    assert "| speed made-up | 95 |" in capsys.readouterr().out


def test_a_repetition_that_was_disturbed_does_not_count():
    assert Row("speed", [100.0, 3.0, 101.0, 99.0, 500.0]).value == 100.0


def test_another_kind_of_machine_has_the_wider_allowance(results, capsys):
    commit("speed made-up", 100.0, processor="another")
    assert run("throughput", {"speed made-up": measured(50.0)}, keeping=False) == 0
    assert "another kind of machine" in capsys.readouterr().out
    assert run("throughput", {"speed made-up": measured(30.0, 30.0)}, keeping=False) == 1


def test_a_machine_without_a_run_of_its_own_takes_one_of_its_platform(results, monkeypatch):
    commit("speed made-up", 100.0)
    (results / here()).rename(results / "cpu-9999-cores")
    whose, entries, same = quick.baseline(here())
    assert (whose, list(entries), same) == ("cpu-9999-cores", ["speed made-up"], False)
    assert quick.baseline("nvidia-h200") == (None, {}, False)


def test_a_row_below_its_gate_fails_without_an_earlier_run(results, capsys):
    rows = {"return made-up": measured(399.0, 399.0, kind="score", gate=400)}
    assert run("learning", rows, keeping=False) == 1
    assert "return made-up: 399 return; must be at least 400" in capsys.readouterr().err
    assert run("learning", {"r": measured(400.0, kind="score", gate=400)}, keeping=False) == 0


def test_what_is_kept_is_compared_with(results, capsys):
    assert run("throughput", {"speed made-up": measured(100.0)}, keeping=False) == 0  # new
    assert run("throughput", {"speed made-up": measured(100.0)}, keeping=True) == 0
    (entries,) = read("quick").values()
    entry = entries["speed made-up"]
    assert {"versions", "commit", "processor", "repetitions", "date"} <= entry.keys()
    assert run("throughput", {"speed made-up": measured(50.0, 50.0)}, keeping=False) == 1


def rows_of(command, monkeypatch):
    """Names of the rows of a command's `--quick`."""
    module, seen = importlib.import_module(f"benchmarks.{command}"), []
    monkeypatch.setattr(module, "run", lambda _, rows, keeping: seen.extend(rows) or 0)
    assert module.main(["--quick"]) == 0
    return seen


def test_every_row_has_a_committed_value(monkeypatch):
    """Else it would never fail; learning has gates instead."""
    compared = [row for c in COMMANDS[:-1] for row in rows_of(c, monkeypatch)]
    assert compared
    assert read("quick")
    for committed in read("quick").values():
        assert sorted(committed) == sorted(compared)
        assert all(entry["value"] > 0 for entry in committed.values())
    assert rows_of("learning", monkeypatch)


def test_ci_runs_every_command_that_is_quick():
    script = (RESULTS.parents[1] / ".ci" / "bench").read_text()
    (listed,) = (line for line in script.splitlines() if line.startswith("for command in "))
    assert sorted(listed.split(";")[0].split()[3:]) == sorted(COMMANDS)


def test_calibrations_run_anew():
    call = timing.calibration(length=3)
    assert float(abs(call()).sum()) > 0.0
    assert timing.calibration_compile() > 0.0
    # Not answered from a cache: the second takes about as long as the first.
    first, second = timing.calibration_compile(), timing.calibration_compile()
    assert second > 0.1 * first
