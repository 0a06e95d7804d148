"""Which purerl this is: its installation knows, from the git tag that it was made of."""

import importlib.metadata

UNKNOWN = "0+unknown"  # of a checkout on the path that was never installed


def installed(package: str) -> str:
    """The version of a package, or UNKNOWN."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


VERSION = installed("purerl")
