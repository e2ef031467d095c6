"""
The native kernels of tidegate. Internal: call them through tidegate.kernels.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy
from numpy.typing import NDArray
import torch


def isa() -> str:
    """The instruction set in use."""

def available_isas() -> list[str]:
    """The instruction sets that this machine runs, best first."""

def set_isa(name: str) -> None:
    """
    Choose the instruction set for the whole process; an empty name is the best.
    """

def let_threads_idle(may: bool) -> None:
    """
    Whether some threads may idle where fewer take a small layer's steps sooner; tests forbid it.
    """

def activate(name: str, source: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], target: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu')]) -> None:
    """Apply exp, sigmoid or tanh as the kernels compute it."""

def forward(layout: tuple, parameters: tuple, arrays: tuple) -> None:
    """
    A recurrence: addresses and sizes as the structs Layout, Parameters and Forward of kernels.h have them.
    """

def forward_plain(cell: str, type: str, batch_sizes: int, steps: int, values: int, directions: int, rows: int, units: int, threads: int, weight_hh: int, bias_ih: int, bias_hh: int, weight_hh_reverse: int, bias_ih_reverse: int, bias_hh_reverse: int, gates: int, h_0: int, c_0: int, output: int, h_n: int, c_n: int) -> None:
    """
    The same without options and without anything kept: fewer numbers, which take time to read.
    """

def backward(layout: tuple, parameters: tuple, arrays: tuple) -> None:
    """
    Its gradients: addresses and sizes as the structs Layout, Parameters and Backward of kernels.h have them.
    """

class Step:
    """
    One layer in one direction, a step at a time: weights packed once, no torch.
    """

    def __init__(self, cell: str, type: str, weight_ih: Annotated[NDArray, dict(shape=(None, None), order='C', device='cpu')], weight_hh: Annotated[NDArray, dict(shape=(None, None), order='C', device='cpu')], *, bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, bias_n: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, scale_ih: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, scale_hh: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, weight_hr: Annotated[NDArray, dict(shape=(None, None), order='C', device='cpu')] | None = None, scale_hr: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, peephole: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, norm_ih: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, norm_hh: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, norm_c: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, zoneout_h: float = 0.0, zoneout_c: float = 0.0, eps: float = 1e-05) -> None: ...

    def __call__(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], h: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], c: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')] | None = None) -> None:
        """
        x [B, I] and the states h [B, P], c [B, H], which become those of the next step, in place.
        """

def crf_forward(is_double: bool, emissions: int, transitions: int, start: int, end: int, batch_sizes: int, steps: int, values: int, rows: int, num_tags: int, threads: int, tags: int, value: int, saved: int) -> None:
    """Addresses and sizes as struct CrfForward of crf.h has them."""

def crf_backward(is_double: bool, emissions: int, transitions: int, start: int, end: int, batch_sizes: int, steps: int, values: int, rows: int, num_tags: int, threads: int, tags: int, grad_value: int, value: int, saved: int, grad_emissions: int, grad_transitions: int, grad_start: int, grad_end: int) -> None:
    """Addresses and sizes as struct CrfBackward of crf.h has them."""

def crf_viterbi(is_double: bool, emissions: int, transitions: int, start: int, end: int, batch_sizes: int, steps: int, values: int, rows: int, num_tags: int, threads: int, tags: int, scores: int) -> None:
    """Addresses and sizes as struct CrfViterbi of crf.h has them."""

def crf_k_best(is_double: bool, emissions: int, transitions: int, start: int, end: int, batch_sizes: int, steps: int, values: int, rows: int, num_tags: int, threads: int, k: int, tags: int, scores: int) -> None:
    """Addresses and sizes as struct CrfKBest of crf.h has them."""

def pooled(shape: Sequence[int], type: str) -> torch.Tensor:
    """
    An uninitialised tensor of torch, of float32, float64 or bfloat16, on memory that is kept for the next one.
    """

def pool_kept_bytes() -> int:
    """Bytes kept for the next tensors."""

def pool_release() -> None:
    """Give all kept memory back to the system."""

def pool_set_limit(bytes: int) -> None:
    """Keep no more than this; 0 keeps nothing."""

def scan_forward(is_double: bool, batch_sizes: int, steps: int, values: int, rows: int, units: int, is_complex: bool, is_fixed: bool, threads: int, a: int, b: int, h_0: int, h: int, h_n: int) -> None:
    """Addresses and sizes as struct ScanForward of scan.h has them."""

def scan_backward(is_double: bool, batch_sizes: int, steps: int, values: int, rows: int, units: int, is_complex: bool, is_fixed: bool, threads: int, grad_h: int, grad_h_n: int, a: int, h: int, h_0: int, grad_a: int, grad_b: int, grad_h_0: int) -> None:
    """Addresses and sizes as struct ScanBackward of scan.h has them."""

def minimal_forward(is_double: bool, batch_sizes: int, steps: int, values: int, rows: int, units: int, threads: int, is_lstm: bool, is_positive: bool, projected: int, h_0: int, h: int, h_n: int) -> None:
    """Addresses and sizes as struct MinimalForward of scan.h has them."""

def minimal_backward(is_double: bool, batch_sizes: int, steps: int, values: int, rows: int, units: int, threads: int, is_lstm: bool, is_positive: bool, grad_h: int, grad_h_n: int, projected: int, h: int, h_0: int, grad_projected: int, grad_h_0: int) -> None:
    """Addresses and sizes as struct MinimalBackward of scan.h has them."""
