from __future__ import annotations

import numpy as np
import pytest

from kernels.activation_errors import EXACT, ULP, apply, largest_error_in_ulp, with_normal_results
from tidegate.native import extension


@pytest.fixture(autouse=True, params=extension().available_isas())
def _each_isa(request):
    extension().set_isa(request.param)
    yield
    extension().set_isa("")


@pytest.mark.parametrize("name", EXACT)
def test_error_in_ulp(name):
    """Every 4099th of all float32 numbers, and a dense sweep where the functions live."""
    patterns = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    sweep = np.linspace(-20, 20, 400_001, dtype=np.float32)
    for x in (patterns, sweep):
        assert largest_error_in_ulp(name, *with_normal_results(name, x)) <= ULP[name]


def test_special_values():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 200.0, -200.0], dtype=np.float32)
    with np.errstate(over="ignore"):
        exp, sigmoid, tanh = (apply(name, x) for name in ("exp", "sigmoid", "tanh"))
    np.testing.assert_array_equal(exp, np.array([np.nan, np.inf, 0, 1, 1, 1, 1, np.inf, 0], dtype=np.float32))
    np.testing.assert_array_equal(sigmoid, np.array([np.nan, 1, 0, 0.5, 0.5, 0.5, 0.5, 1, 0], dtype=np.float32))
    np.testing.assert_array_equal(tanh[[1, 2, 3, 4, 7, 8]], np.array([1, -1, 0, 0, 1, -1], dtype=np.float32))
    assert np.isnan(tanh[0])
    assert np.signbit(tanh[4])
    np.testing.assert_allclose(tanh[5:7], x[5:7])


def test_every_length_of_the_tail():
    for count in range(1, 40):
        x = np.linspace(-3, 3, count, dtype=np.float32)
        np.testing.assert_allclose(apply("tanh", x), np.tanh(x), rtol=1e-6)


def test_an_unknown_activation_or_two_sizes():
    x = np.zeros(3, dtype=np.float32)
    with pytest.raises(ValueError, match="expected exp, sigmoid or tanh; found relu"):
        extension().activate("relu", x, x.copy())
    with pytest.raises(ValueError, match="two arrays of one size"):
        extension().activate("exp", x, np.zeros(4, dtype=np.float32))
