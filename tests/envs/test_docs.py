"""The example of docs/environments.md runs, and its `check` has something to say."""

import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from purerl.envs import check

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"


def test_the_example_runs(capsys):
    code, more = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    exec(more, names)
    assert capsys.readouterr().out == printed
    walk = names["Walk"]

    class Wide(walk):
        def reset(self, key, params={}):
            return (jnp.float32(0), jnp.int32(0)), jnp.zeros(2)

    with pytest.raises(AssertionError, match="types: reset: obs"):
        check(Wide())
