"""The error of exp, sigmoid and tanh over all float32 numbers there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kernels.activation_errors import EXACT, ULP, largest_error_in_ulp, with_normal_results
from tidegate.native import extension

# Those of amx and avx512_bf16 are avx512's.
ISAS = [isa for isa in extension().available_isas() if isa not in ("amx", "avx512_bf16")]
CHUNK, CHUNKS = 2**22, 8


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_error_over_all_numbers(name: str) -> None:
    def known(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        patterns = np.arange(start, start + CHUNK, dtype=np.uint64).astype(np.uint32)
        return with_normal_results(name, patterns.view(np.float32))

    worst = dict.fromkeys(ISAS, 0.0)
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, 2**32, CHUNK * CHUNKS):
            chunks = list(pool.map(known, range(start, start + CHUNK * CHUNKS, CHUNK)))
            for isa in ISAS:
                extension().set_isa(isa)
                errors = pool.map(lambda chunk: largest_error_in_ulp(name, *chunk), chunks)
                worst[isa] = max(worst[isa], *errors)
    extension().set_isa("")
    for isa, error in worst.items():
        print(f"{name}, {isa}: largest error {error:.2f} ulp over all finite float32 numbers")
    assert max(worst.values()) <= ULP[name]
