"""An estimator with the arguments of another one, but for a few."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

from tidegate.errors import nearest

__all__ = ["arguments_of"]


def arguments_of(other: type[Any], *, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Any]:
    """A decorator of an ``__init__(self, *, own..., **others)``, whose signature becomes that of another estimator.

    The arguments of `other` stand in their order, with their defaults, less those `without`; of those that ``__init__``
    names itself the defaults are its own, and new ones come last. So an argument that `other` gains is gained here, in
    recipes too (`tidegate.schema.targets.derived_section`), and scikit-learn, which reads signatures, sees all of them.

    Raises:
        TypeError: When the estimator is made with an argument that there is not; the message names the nearest.
    """

    def derive(init: Callable[..., None]) -> Callable[..., None]:
        named = inspect.signature(init).parameters.values()
        own = {item.name: item for item in named if item.name != "self" and item.kind is not item.VAR_KEYWORD}
        theirs = inspect.signature(other).parameters
        taken = {name: item for name, item in theirs.items() if name not in without}
        parameters = {**taken, **own}
        defaults = {name: item.default for name, item in parameters.items()}

        @functools.wraps(init)
        def wrapped(self: Any, **arguments: Any) -> None:
            for name in arguments:
                if name not in defaults:
                    guess = nearest(name, defaults) or f" It has: {', '.join(defaults)}."
                    raise TypeError(f"{type(self).__name__} has no argument {name!r}.{guess}")
            init(self, **{**defaults, **arguments})

        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        vars(wrapped)["__signature__"] = inspect.Signature([first, *parameters.values()])
        return wrapped

    return derive
