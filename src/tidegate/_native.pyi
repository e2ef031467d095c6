"""
The native kernels of tidegate. Internal: call them through tidegate.kernels.
"""

from typing import Annotated

import numpy
from numpy.typing import NDArray


def isa() -> str:
    """The instruction set in use."""

def available_isas() -> list[str]:
    """The instruction sets that this machine runs, best first."""

def set_isa(name: str) -> None:
    """
    Choose the instruction set for the whole process; an empty name is the best.
    """

def activate(name: str, source: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], target: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu')]) -> None:
    """Apply exp, sigmoid or tanh as the kernels compute it."""

def gru_forward(is_double: bool, gates: int, weight_hh: int, bias_n: int, h_0: int, output: int, h_n: int, saved: int, batch_sizes: int, steps: int, values: int, directions: int, rows: int, units: int, reset_after: bool, threads: int) -> None:
    """Addresses and sizes as struct GruForward of kernels.h has them."""

def gru_backward(is_double: bool, grad_output: int, grad_h_n: int, saved: int, output: int, weight_hh: int, h_0: int, grad_gates: int, grad_h_0: int, batch_sizes: int, steps: int, values: int, directions: int, rows: int, units: int, reset_after: bool, threads: int) -> None:
    """Addresses and sizes as struct GruBackward of kernels.h has them."""

def crf_forward(is_double: bool, emissions: int, transitions: int, start: int, end: int, batch_sizes: int, steps: int, values: int, rows: int, num_tags: int, threads: int, tags: int, value: int, saved: int) -> None:
    """Addresses and sizes as struct CrfForward of crf.h has them."""

def crf_backward(is_double: bool, emissions: int, transitions: int, start: int, end: int, batch_sizes: int, steps: int, values: int, rows: int, num_tags: int, threads: int, tags: int, grad_value: int, value: int, saved: int, grad_emissions: int, grad_transitions: int, grad_start: int, grad_end: int) -> None:
    """Addresses and sizes as struct CrfBackward of crf.h has them."""

def crf_viterbi(is_double: bool, emissions: int, transitions: int, start: int, end: int, batch_sizes: int, steps: int, values: int, rows: int, num_tags: int, threads: int, tags: int, scores: int) -> None:
    """Addresses and sizes as struct CrfViterbi of crf.h has them."""

def crf_k_best(is_double: bool, emissions: int, transitions: int, start: int, end: int, batch_sizes: int, steps: int, values: int, rows: int, num_tags: int, threads: int, k: int, tags: int, scores: int) -> None:
    """Addresses and sizes as struct CrfKBest of crf.h has them."""
