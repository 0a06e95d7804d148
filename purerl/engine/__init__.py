"""The one training loop, and everything around an algorithm that is not the algorithm."""

from purerl.engine.population import Population, population
from purerl.engine.programs import Evaluation, RunState
from purerl.engine.result import Result
from purerl.engine.train import train

__all__ = ["Evaluation", "Population", "Result", "RunState", "population", "train"]
