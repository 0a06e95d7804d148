"""The worked example of docs/agents.md, as a module."""

import functools
import re
import sys
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).parents[1] / "docs" / "agents.md"


def source() -> str:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (code,) = (code for code in found if code.startswith('"""REINFORCE'))
    return code


@functools.cache
def reinforce() -> ModuleType:
    """Executed under the name `reinforce`, by which a run's config.json finds it again."""
    module = ModuleType("reinforce")
    exec(compile(source(), str(PAGE), "exec"), module.__dict__)
    sys.modules["reinforce"] = module
    return module
