"""The precisions of training, checked against the hardware that is there."""

from __future__ import annotations

import torch

from tidegate.errors import nearest
from tidegate.kernels import native_info

__all__ = ["PRECISIONS", "describe_precision"]

# Name -> what Lightning calls it. Weights and their updates stay float32; products are in the type named.
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def describe_precision(precision: str, device: str) -> str:
    """One sentence on how a precision is computed on a device.

    Args:
        precision: A key of :data:`PRECISIONS`.
        device: ``"cpu"`` or ``"cuda"``, with an index or without.

    Raises:
        ValueError: There is no such precision, or the device cannot compute in it; the message says what to take.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)}; found {precision!r}."
            f"{nearest(str(precision), PRECISIONS)}"
        )
    kind = torch.device(device).type
    if precision == "float32":
        return "float32 throughout"
    if precision == "float16":
        if kind != "cuda":
            raise ValueError(
                "precision='float16' needs a GPU, whose products it speeds up; found the device "
                f"{device!r}. Use precision='bfloat16' or 'float32'"
            )
        return "float16 products with a loss scale, float32 weights"
    if kind == "cuda":
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ValueError(
                f"precision='bfloat16' is not supported by this GPU ({torch.cuda.get_device_name(device)}); "
                "use precision='float16' or 'float32'"
            )
        return "bfloat16 products, float32 weights"
    isa = str(native_info()["isa"])
    if isa in ("amx", "avx512_bf16"):
        return f"bfloat16 products by the CPU's {isa} instructions, float32 weights"
    return f"bfloat16 products in float32 instructions ({isa}): smaller, but not faster; float32 weights"
