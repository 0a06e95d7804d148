"""Recurrent cores: memory between a torso and its heads, as Linen's cells."""

from collections.abc import Callable

import flax.linen as nn

CORES: dict[str, Callable[..., nn.RNNCellBase]] = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
"""GRU (Cho et al. 2014) and LSTM (Hochreiter and Schmidhuber 1997), by name."""
