"""What a population of seeds has shown: aggregate scores, their uncertainty, learning curves."""

from purerl.analysis.curves import plot_curve
from purerl.analysis.intervals import Interval, bootstrap_interval, iqm
from purerl.analysis.tables import summary

__all__ = ["Interval", "bootstrap_interval", "iqm", "plot_curve", "summary"]
