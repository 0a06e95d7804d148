"""What agents share that learn from steps of the past."""

import jax
import numpy as np
import pytest
import scipy.stats

from purerl.experience import action_noise

KEY = jax.random.key(0)


def test_noise_is_normal_and_uniform():
    normal, uniform = map(np.asarray, action_noise(KEY, (50_000, 2)))
    np.testing.assert_array_equal(normal, jax.random.normal(KEY, (50_000, 2)))
    assert scipy.stats.kstest(normal.ravel(), "norm").pvalue > 1e-3
    assert scipy.stats.kstest(uniform.ravel(), "uniform", (-1, 2)).pvalue > 1e-3
    assert -1.0 < uniform.min() < uniform.max() < 1.0
    assert abs(np.corrcoef(uniform.T)[0, 1]) < 0.02


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_noise_has_the_shape_asked_for(shape):
    normal, uniform = action_noise(KEY, shape)
    assert normal.shape == uniform.shape == shape
