"""What a population of seeds has shown: aggregate scores, their uncertainty, learning curves."""

from purerl.analysis.configurations import plot_configurations
from purerl.analysis.curves import plot_curve
from purerl.analysis.heatmaps import plot_heatmap
from purerl.analysis.intervals import Interval, bootstrap_interval, iqm
from purerl.analysis.sensitivity import plot_sensitivity
from purerl.analysis.sweeps import Ranked, rank, write_sweep
from purerl.analysis.tables import summary

__all__ = [
    "Interval",
    "Ranked",
    "bootstrap_interval",
    "iqm",
    "plot_configurations",
    "plot_curve",
    "plot_heatmap",
    "plot_sensitivity",
    "rank",
    "summary",
    "write_sweep",
]
