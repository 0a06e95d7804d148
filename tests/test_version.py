"""The version: of a tag, and where there is none, not older than what was released."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.version import Version

from purerl.version import UNKNOWN, installed

ROOT = Path(__file__).parents[1]


def test_an_installed_package_has_its_version_and_any_other_has_none():
    assert installed("jax") == importlib.metadata.version("jax")
    assert installed("no-package-of-this-name") == UNKNOWN
    assert Version(UNKNOWN).local == "unknown"


def test_without_a_tag_the_version_is_that_of_the_next_release():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    fallback = Version(settings["tool"]["hatch"]["version"]["fallback-version"])
    headings = re.findall(r"^## (\d\S*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings
    assert fallback.is_devrelease
    assert fallback > max(map(Version, headings))
