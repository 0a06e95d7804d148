"""What a population of seeds has shown: aggregate scores, their uncertainty, learning curves."""

from purerl.analysis.comparisons import Curve, plot_comparison
from purerl.analysis.configurations import plot_configurations
from purerl.analysis.curves import plot_curve
from purerl.analysis.heatmaps import plot_heatmap
from purerl.analysis.improvements import plot_improvements, probability_of_improvement
from purerl.analysis.intervals import Interval, bootstrap_interval, iqm
from purerl.analysis.profiles import Profile, performance_profile, plot_profiles
from purerl.analysis.sensitivity import plot_sensitivity
from purerl.analysis.sweeps import Ranked, rank, write_sweep
from purerl.analysis.tables import summary

__all__ = [
    "Curve",
    "Interval",
    "Profile",
    "Ranked",
    "bootstrap_interval",
    "iqm",
    "performance_profile",
    "plot_comparison",
    "plot_configurations",
    "plot_curve",
    "plot_heatmap",
    "plot_improvements",
    "plot_profiles",
    "plot_sensitivity",
    "probability_of_improvement",
    "rank",
    "summary",
    "write_sweep",
]
