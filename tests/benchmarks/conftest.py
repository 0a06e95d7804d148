"""Results in a directory of their own."""

import pytest

from benchmarks import pictures, records


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty benchmarks/results, which commands read and write."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(pictures, "RESULTS", tmp_path)
    return tmp_path
