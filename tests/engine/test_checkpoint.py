"""Checkpoints: exact, the newest complete one, and nothing half-written in the way."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from laws import changed

from purerl.engine import train
from purerl.engine.checkpoint import Checkpoints
from purerl.errors import UsageError


def state(step):
    key = jax.random.key(step)
    return {
        "float": jax.random.normal(key, (3, 2)).at[0, 0].set(jnp.nan),
        "half": jnp.full((3,), step, jnp.bfloat16),
        "int": jnp.arange(3, dtype=jnp.int32) + step,
        "bits": jnp.uint32([0, 2**32 - 1, step]),
        "bool": jnp.array([True, False, True]),
        "key": jax.random.split(key, 3),
        "tiny": jnp.float32([1e-45, -0.0, jnp.inf]),
        "empty": (),
    }


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "checkpoint", 2)
    yield opened
    opened.close()


def like(tree):
    return jax.tree.map(jnp.zeros_like, {k: v for k, v in tree.items() if k != "key"}) | {
        "key": jax.random.split(jax.random.key(0), 3)
    }


def test_every_bit_and_type_comes_back(checkpoints):
    assert checkpoints.latest() is None
    saved = state(5)
    checkpoints.save(5, saved)
    checkpoints.wait()
    restored = checkpoints.restore(5, like(saved))
    assert changed(saved, restored) == []
    dtypes = lambda tree: jax.tree.map(lambda x: x.dtype, tree)
    assert dtypes(saved) == dtypes(restored)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(restored))


def test_what_is_saved_is_a_copy(checkpoints):
    """The buffers may be donated as soon as save returns."""
    x = {"x": jnp.arange(100_000.0)}
    expected = np.array(x["x"])
    checkpoints.save(1, x)
    jax.jit(lambda t: jax.tree.map(lambda x: x * 0 - 1, t), donate_argnums=0)(x)
    assert x["x"].is_deleted()
    checkpoints.wait()
    restored = checkpoints.restore(1, {"x": jnp.zeros(100_000)})
    np.testing.assert_array_equal(restored["x"], expected)


def test_the_newest_is_chosen_and_few_are_kept(checkpoints, tmp_path):
    for step in (1, 2, 9, 10):  # 9 < 10 as numbers, not as words
        checkpoints.save(step, state(step))
    checkpoints.save(10, state(10))  # again: nothing happens
    checkpoints.close()
    reopened = Checkpoints(tmp_path / "checkpoint", 2)
    assert reopened.latest() == 10
    assert changed(reopened.restore(10, like(state(0))), state(10)) == []
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoint").iterdir())
    assert kept == [9, 10]
    assert len(kept) == 2
    reopened.close()


def test_a_half_written_one_is_ignored(checkpoints, tmp_path):
    """A directory as a killed process leaves it: the name of what was not finished.

    That a real one is also cleaned away is shown with real kills, in tests/test_experiment.py.
    """
    checkpoints.save(3, state(3))
    checkpoints.close()
    root = tmp_path / "checkpoint"
    torn = root / "4.orbax-checkpoint-tmp"
    torn.mkdir()
    (torn / "half").write_text("half")
    reopened = Checkpoints(root)
    assert reopened.latest() == 3
    assert changed(reopened.restore(3, like(state(0))), state(3)) == []
    reopened.save(4, state(4))
    reopened.close()
    last = Checkpoints(root)
    assert last.latest() == 4
    assert changed(last.restore(4, like(state(0))), state(4)) == []
    last.close()


FAILS = """
import sys
from pathlib import Path
import jax.numpy as jnp
from purerl.engine.checkpoint import Checkpoints
root = Path(sys.argv[1])
checkpoints = Checkpoints(root)
checkpoints.save(1, {"x": jnp.arange(4.0)})
checkpoints.wait()
root.rename(root.with_name("away"))
root.write_text("in the way")
try:
    checkpoints.save(2, {"x": jnp.arange(4.0)})
    checkpoints.wait()
except (OSError, ValueError):
    print("raised", flush=True)
"""


def test_a_failed_write_is_raised_and_the_last_one_intact(tmp_path):
    """In a process of its own, which must end at once and say nothing else."""
    command = [sys.executable, "-c", FAILS, str(tmp_path / "checkpoint")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("raised\n", "")
    reopened = Checkpoints(tmp_path / "away", 2)
    assert reopened.latest() == 1
    restored = reopened.restore(1, {"x": jnp.zeros(4)})
    assert restored["x"].tolist() == [0, 1, 2, 3]
    reopened.close()


def test_another_state_is_said_in_one_line(checkpoints):
    checkpoints.save(1, state(1))
    checkpoints.wait()
    other = like(state(1)) | {"more": jnp.zeros(3)}
    with pytest.raises(UsageError, match="iteration 1 holds another state") as caught:
        checkpoints.restore(1, other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keep", "kept"), [(2, ["3", "4"]), (1, ["4"]), (None, ["1", "2", "3", "4"])]
)
def test_as_many_checkpoints_stay_as_are_asked_for(keep, kept, tmp_path):
    agent = toys.make()
    unit, path = agent.steps_per_update, tmp_path / "run"
    train(agent, 4 * unit, checkpoint_every=unit, keep=keep, run_dir=path)
    assert sorted(p.name for p in (path / "checkpoint").iterdir()) == kept
    # Of a finished run fewer or more may be asked for: nothing else depends on it.
    train(agent, 4 * unit, checkpoint_every=unit, keep=3, run_dir=path, resume=True)


def test_what_is_kept_stays_kept_when_a_run_is_resumed_again(tmp_path):
    """The last word counts, for the command line too, which reads it from config.json."""
    agent, path = toys.make(), tmp_path / "run"
    unit = agent.steps_per_update
    train(agent, 2 * unit, run_dir=path)
    train(agent, 2 * unit, run_dir=path, resume=True, keep=None)
    assert json.loads((path / "config.json").read_text())["keep"] == "all"
