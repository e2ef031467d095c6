"""Linear recurrences as ops of torch, with rules for fake tensors and vmap, joined to autograd.

The ops ``tidegate::scan_forward`` and ``scan_backward`` compute natively or, with ``native=False``, in parallel over
time by :mod:`tidegate.kernels.scan_parallel`; either is one op, since sizes that depend on the data go through ops only
where ``torch.compile(fullgraph=True)`` traces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tidegate.kernels import scan_parallel, scan_reference
from tidegate.kernels.fakes import fake_rule
from tidegate.native import extension

__all__ = ["check_arrays", "native_steps", "parallel_steps", "run_native"]


def native_steps(a: Tensor, b: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool) -> tuple[Tensor, Tensor]:
    """:func:`tidegate.kernels.scan_reference.steps` by the native kernel."""
    return _scan(a, b, h_0, batch_sizes, is_complex, True)


def parallel_steps(a: Tensor, b: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool) -> tuple[Tensor, Tensor]:
    """:func:`tidegate.kernels.scan_reference.steps` in parallel over time, on any device."""
    return _scan(a, b, h_0, batch_sizes, is_complex, False)


def _scan(
    a: Tensor, b: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool, native: bool
) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad or h_0.requires_grad):
        return _Scan.apply(a, b, h_0, batch_sizes, is_complex, native)  # pyright: ignore[reportReturnType]
    return torch.ops.tidegate.scan_forward(a, b, h_0, batch_sizes, is_complex, native)


class _Scan(torch.autograd.Function):
    """``a, b, h_0 -> h, h_n``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        a: Tensor, b: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool, native: bool
    ) -> tuple[Tensor, Tensor]:
        return torch.ops.tidegate.scan_forward(a, b, h_0, batch_sizes, is_complex, native)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        a, b, h_0, batch_sizes, ctx.is_complex, ctx.native = inputs
        # b is for a second differentiation alone, which computes the states again.
        ctx.save_for_backward(a, b, output[0], h_0, batch_sizes)

    @staticmethod
    def backward(ctx: Any, grad_h: Tensor, grad_h_n: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Only a backward pass that is differentiated again needs the second Function. Dynamo binds a Function inside a
        # backward wrongly, and nobody differentiates a compiled backward again.
        again = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        gradients: Any = _ScanBackward.apply if again else _ScanBackward.forward
        grads = gradients(grad_h, grad_h_n, *ctx.saved_tensors, ctx.is_complex, ctx.native)
        return *grads, None, None, None


class _ScanBackward(torch.autograd.Function):
    """All gradients of :class:`_Scan`; its own backward differentiates the reference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad_h: Tensor,
        grad_h_n: Tensor,
        a: Tensor,
        b: Tensor,
        h: Tensor,
        h_0: Tensor,
        batch_sizes: Tensor,
        is_complex: bool,
        native: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.tidegate.scan_backward(grad_h, grad_h_n, a, h, h_0, batch_sizes, is_complex, native)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        grad_h, grad_h_n, a, b, _, h_0, batch_sizes, ctx.is_complex, _ = inputs
        ctx.save_for_backward(grad_h, grad_h_n, a, b, h_0, batch_sizes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        batch_sizes = ctx.saved_tensors[5]
        with torch.enable_grad():
            grad_h, grad_h_n, a, b, h_0 = (t.detach().requires_grad_() for t in ctx.saved_tensors[:5])
            results = scan_reference.steps(a, b, h_0, batch_sizes, ctx.is_complex)
            first = torch.autograd.grad(
                results, (a, b, h_0), (grad_h, grad_h_n), create_graph=True, allow_unused=True, materialize_grads=True
            )
            # Without a value nothing depends on a and b.
            used = [(one, grad) for one, grad in zip(first, grads, strict=True) if one.requires_grad]
            outputs, wanted = zip(*used, strict=True)
            of_h, of_h_n, of_a, of_b, of_h_0 = torch.autograd.grad(
                outputs, (grad_h, grad_h_n, a, b, h_0), wanted, allow_unused=True, materialize_grads=True
            )
        return of_h, of_h_n, of_a, of_b, None, of_h_0, None, None, None


def _contiguous_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _forward_made(b: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    return _contiguous_like(b), _contiguous_like(h_0)


def _backward_made(a: Tensor, h: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _contiguous_like(a), _contiguous_like(h), _contiguous_like(h_0)


def _forward(
    a: Tensor, b: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool, native: bool
) -> tuple[Tensor, Tensor]:
    if not native:
        return scan_parallel.forward(a, b, h_0, batch_sizes, is_complex)
    layout = _layout(a, b, h_0, batch_sizes, is_complex)
    h, h_n = _forward_made(b, h_0)
    run_native(extension().scan_forward, layout, a, b, h_0, h, h_n)
    return h, h_n


def _backward(
    grad_h: Tensor,
    grad_h_n: Tensor,
    a: Tensor,
    h: Tensor,
    h_0: Tensor,
    batch_sizes: Tensor,
    is_complex: bool,
    native: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if not native:
        return scan_parallel.backward(grad_h, grad_h_n, a, h, h_0, batch_sizes, is_complex)
    layout = _layout(a, h, h_0, batch_sizes, is_complex)
    check_arrays({"grad_h": (grad_h, h.shape), "grad_h_n": (grad_h_n, h_0.shape)}, h.dtype, batch_sizes)
    grad_a, grad_b, grad_h_0 = _backward_made(a, h, h_0)
    if a.dim() == 2:
        run_native(extension().scan_backward, layout, grad_h, grad_h_n, a, h, h_0, grad_a, grad_b, grad_h_0)
        return grad_a, grad_b, grad_h_0
    # What is the same at every step has a gradient of each row, so that threads have no sum in common.
    of_rows = _contiguous_like(h_0)
    run_native(extension().scan_backward, layout, grad_h, grad_h_n, a, h, h_0, of_rows, grad_b, grad_h_0)
    return of_rows.sum(0), grad_b, grad_h_0


def _layout(a: Tensor, b: Tensor, h_0: Tensor, batch_sizes: Tensor, is_complex: bool) -> tuple[Any, ...]:
    """What the kernels take before the arrays."""
    values, width = b.shape
    rows = h_0.shape[0]
    shapes = {"a": (a, (width,) if a.dim() == 1 else b.shape), "h_0": (h_0, (rows, width))}
    check_arrays(shapes, b.dtype, batch_sizes)
    sizes = (batch_sizes.data_ptr(), batch_sizes.shape[0], values, rows, width // 2 if is_complex else width)
    return b.dtype == torch.float64, *sizes, is_complex, a.dim() == 1, torch.get_num_threads()


def check_arrays(tensors: dict[str, tuple[Tensor, Sequence[int]]], dtype: torch.dtype, batch_sizes: Tensor) -> None:
    """The kernels read addresses: a tensor of another type or shape would have them read what is not there.

    Raises:
        TypeError: There is one.
    """
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected tensors of float32 or float64; found {dtype}")
    if batch_sizes.dtype != torch.int64 or batch_sizes.dim() != 1 or not batch_sizes.is_contiguous():
        raise TypeError(f"expected batch_sizes as a vector of int64; found {batch_sizes.dtype}")
    for name, (tensor, shape) in tensors.items():
        if tensor.dtype != dtype or tensor.shape != tuple(shape):
            raise TypeError(
                f"expected {name} of {dtype} and shape {tuple(shape)}; found {tensor.dtype} and {tuple(tensor.shape)}"
            )


def run_native(kernel: Callable[..., None], layout: tuple[Any, ...], *tensors: Tensor) -> None:
    """Call a kernel with the fields of its layout and the addresses of its arrays."""
    # Copies that contiguous() makes live until the call is over.
    arrays = [tensor.contiguous() for tensor in tensors]
    kernel(*layout, *(array.data_ptr() for array in arrays))


def _vmap_rule(name: str, num_tensors: int) -> Any:
    """Features do not see each other, so the mapped dimension is folded into them, within each plane."""

    def rule(info: Any, in_dims: tuple, *args: Any) -> tuple[Any, Any]:
        batch_sizes, is_complex, native = args[num_tensors:]
        if in_dims[num_tensors] is not None:
            raise ValueError("vmap over lengths is not supported; map over coefficients, inputs and states")
        size, planes = info.batch_size, 2 if is_complex else 1

        def fold(tensor: Tensor, dim: int | None) -> Tensor:
            mapped = tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            return mapped.unflatten(-1, (planes, -1)).movedim(0, -2).flatten(-3)

        folded = [fold(tensor, dim) for tensor, dim in zip(args[:num_tensors], in_dims, strict=False)]
        made = getattr(torch.ops.tidegate, name)(*folded, batch_sizes, is_complex, native)
        unfolded = tuple(t.unflatten(-1, (planes, size, -1)).movedim(-2, 0).flatten(-2) for t in made)
        return unfolded, (0,) * len(unfolded)

    return rule


_library = torch.library.Library("tidegate", "FRAGMENT")
_library.define(
    "scan_forward(Tensor a, Tensor b, Tensor h_0, Tensor batch_sizes, bool is_complex, bool native) -> (Tensor, Tensor)"
)
_library.define(
    "scan_backward(Tensor grad_h, Tensor grad_h_n, Tensor a, Tensor h, Tensor h_0, Tensor batch_sizes,"
    " bool is_complex, bool native) -> (Tensor, Tensor, Tensor)"
)
for _name, _impl, _made, _rule in (
    ("scan_forward", _forward, _forward_made, _vmap_rule("scan_forward", 3)),
    ("scan_backward", _backward, _backward_made, _vmap_rule("scan_backward", 5)),
):
    for _device in ("CPU", "CUDA"):
        _library.impl(_name, _impl, _device)
    torch.library.register_fake(f"tidegate::{_name}", fake_rule(_impl, _made), lib=_library)
    torch.library.register_vmap(f"tidegate::{_name}", _rule, lib=_library)
