"""What a recurrent layer is constructed with, checked: sizes, switches, probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.errors import nearest
from tidegate.layers.merging import MERGES

__all__ = [
    "check_dropout",
    "check_merge",
    "check_probability",
    "check_sizes",
    "check_switches",
    "refuse_projection",
    "zoneout_rates",
]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_sizes(input_size: int, hidden_size: int | Sequence[int], num_layers: int, proj_size: int) -> tuple[int, ...]:
    """The units of each layer, from one number for all or a list of them.

    Raises:
        TypeError: A size is not an integer.
        ValueError: A size is not positive, the projection is not smaller than the units (zero is for none), or
            `num_layers` is another number than that of the listed sizes.
    """
    listed = isinstance(hidden_size, list | tuple)
    sizes: tuple[Any, ...] = tuple(hidden_size) if listed else (hidden_size,)
    numbers = [("input_size", input_size), *(("hidden_size", size) for size in sizes)]
    for name, size in [*numbers, ("num_layers", num_layers), ("proj_size", proj_size)]:
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0 and name != "proj_size":
            raise ValueError(f"{name} must be greater than zero; found {size}")
    if not sizes:
        raise ValueError("hidden_size has no layer; expected a number, or a list with the units of each layer")
    if proj_size < 0:
        raise ValueError(f"proj_size should be a positive integer or zero to disable projections; found {proj_size}")
    if proj_size >= min(sizes):
        raise ValueError(f"proj_size has to be smaller than hidden_size; found {proj_size} and {min(sizes)}")
    if not listed:
        return sizes * num_layers
    if num_layers not in (1, len(sizes)):
        raise ValueError(
            f"hidden_size lists {len(sizes)} layers and num_layers is {num_layers}; expected the list alone"
        )
    return sizes


def check_merge(merge: str, bidirectional: bool) -> None:
    """Raise unless `merge` is one of the ways, and there are two directions to merge."""
    if merge not in MERGES:
        raise ValueError(f"merge must be one of {', '.join(MERGES)}; found {merge!r}.{nearest(str(merge), MERGES)}")
    if merge != "concat" and not bidirectional:
        raise ValueError(f"merge={merge!r} is for two directions; expected bidirectional=True with it")


def check_dropout(dropout: float) -> None:
    """Raise unless `dropout` is a probability; one is allowed, as torch.nn does."""
    if not _is_number(dropout) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1], representing the probability of an element being zeroed; "
            f"found {dropout!r}"
        )


def check_switches(**switches: bool) -> None:
    """Raise where a switch is not a bool."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")


def check_probability(name: str, value: float) -> None:
    """Raise unless `value` is a probability; at one nothing would be left to learn."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} should be a probability, at least 0 and less than 1; found {value!r}")


def zoneout_rates(zoneout: float | tuple[float, float], mode: str) -> tuple[float, float]:
    """The probabilities of keeping c and h, from one number or, for the LSTM, the pair of them."""
    if isinstance(zoneout, tuple | list):
        if mode != "LSTM":
            raise ValueError(
                "a pair of zoneouts is for the cell state and the output of an LSTM; "
                f"a {mode[:3]} has one state: expected a number, found {zoneout!r}"
            )
        if len(zoneout) != 2:
            raise ValueError(f"zoneout should be one number or the pair (zoneout_c, zoneout_h); found {zoneout!r}")
        of_c, of_h = zoneout
    else:
        of_c, of_h = zoneout if mode == "LSTM" else 0.0, zoneout
    check_probability("zoneout of c", of_c)
    check_probability("zoneout of h" if mode == "LSTM" else "zoneout", of_h)
    return float(of_c), float(of_h)


def refuse_projection(proj_size: object) -> None:
    """torch.nn's answer where a cell without a projection is given the size of one."""
    if proj_size is not None:
        raise ValueError(f"proj_size argument is only supported for LSTM, not RNN or GRU; found {proj_size}")
