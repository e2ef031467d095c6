"""Whether a call is an ordinary one, or something records or transforms it and wants to see every operator."""

from __future__ import annotations

import torch

__all__ = ["is_watched"]


def is_watched() -> bool:
    """Whether a compiler, a transform or a mode looks on."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )
