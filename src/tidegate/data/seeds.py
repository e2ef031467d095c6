"""One seed for every random draw, from the run's random state and the place of the draw."""

from __future__ import annotations

import hashlib


def derive_seed(random_state: int, stream: str, epoch: int = 0, step: int = 0) -> int:
    """The seed of one random draw, equal on every machine and in every process.

    A resumed run computes the seeds of the steps ahead from these four values and so needs no generator state.

    Args:
        random_state: The seed of the whole run.
        stream: What is drawn, e.g. ``"sampler"`` or ``"dropout"``; different streams are independent.
        epoch: The epoch, counted from 0.
        step: The step in the epoch, counted from 0.

    Returns:
        A seed from 0 to 2**63 - 1.
    """
    place = f"{int(random_state)}\x1f{stream}\x1f{int(epoch)}\x1f{int(step)}"
    return int.from_bytes(hashlib.blake2b(place.encode(), digest_size=8).digest(), "little") >> 1
