"""Small made-up MNIST files, in the place of those gymnax downloads."""

import gzip
import struct
import sys

import gymnax  # noqa: F401  (its loader must be there to be redirected)
import numpy as np
import pytest


@pytest.fixture(scope="session")
def mnist_files(tmp_path_factory):
    """A directory of the four files: image i is filled with 28 i, and shows the digit i."""
    directory = tmp_path_factory.mktemp("mnist")
    labels = np.arange(10, dtype=np.uint8)
    images = np.broadcast_to(28 * labels[:, None, None], (10, 28, 28)).astype(np.uint8)
    for part in ("train", "t10k"):
        with gzip.open(directory / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">IIII", 2051, *images.shape) + images.tobytes())
        with gzip.open(directory / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">II", 2049, 10) + labels.tobytes())
    return directory


@pytest.fixture
def mnist(mnist_files, monkeypatch):
    """gymnax finds the made-up files."""
    loader = sys.modules["gymnax.utils.load_mnist"].load_mnist
    monkeypatch.setattr(loader, "__defaults__", (str(mnist_files),))
