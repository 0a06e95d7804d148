"""How the tests are shared out among processes."""

import pytest


def test_tests_of_a_group_run_in_one_process(request):
    """Without groups every test passes still, but each process compiles what the other has."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("one process runs all")
    assert request.node.nodeid.endswith("@test_processes")
