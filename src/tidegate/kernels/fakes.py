"""The rule of an op for fake tensors, from the function that makes its results."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["fake_rule"]


def fake_rule(op: Callable[..., Any], made: Callable[..., Any]) -> Callable[..., Any]:
    """What `made` makes of those of the op's arguments that it names: so shapes are said once, for both."""
    names = list(inspect.signature(op).parameters)
    wanted = list(inspect.signature(made).parameters)

    def rule(*arguments: Any) -> Any:
        given = dict(zip(names, arguments, strict=True))
        return made(*(given[name] for name in wanted))

    return rule
