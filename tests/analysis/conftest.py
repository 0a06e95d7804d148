"""What the tests of pictures share."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def axes(monkeypatch):
    """The axes of the last figure that was saved."""
    seen, save = [], Figure.savefig

    def spy(figure, *args, **kwargs):
        seen.append(figure.axes[0])
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return lambda: seen[-1]
