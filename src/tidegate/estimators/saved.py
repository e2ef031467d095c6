"""What all estimators share: one file that they are saved to, its kind checked when it is read; rows are texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Self

from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from tidegate.deploy.bundle import Bundle, load_bundle, save_bundle
from tidegate.errors import BundleError

__all__ = ["SavedEstimator"]


class SavedEstimator(BaseEstimator):
    """An estimator that becomes a bundle and is made of one again.

    A subclass names its bundle's ``kind`` and gives `to_bundle` and `_from_parts`.
    """

    kind: ClassVar[str]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        return tags

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the fitted model to one file, by convention ``NAME.tg``; :meth:`load` gives it back.

        Raises:
            NotFittedError: `fit` has not been called.
            BundleError: The file cannot be written.
        """
        return save_bundle(path, self.to_bundle())

    def to_bundle(self) -> Bundle:
        """The fitted model as plain values.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The fitted estimator that :meth:`save` wrote.

        Raises:
            BundleError: The file is missing, damaged, or holds another kind of model.
        """
        return cls.from_bundle(load_bundle(path), path)

    @classmethod
    def from_bundle(cls, bundle: Bundle, path: str | os.PathLike[str]) -> Self:
        """The fitted estimator that a bundle describes; `path` names it in errors.

        Raises:
            BundleError: The bundle holds another kind of model, or its parts do not fit together.
        """
        if bundle.kind != cls.kind:
            raise BundleError(f"{path}: expected a model of the kind {cls.kind}, found {bundle.kind!r}")
        try:
            return cls._from_parts(bundle)
        except BundleError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise BundleError(f"{path}: the parts of this model do not fit together: {error}") from error

    @classmethod
    def _from_parts(cls, bundle: Bundle) -> Self:
        """The fitted estimator; an error of Python's own says that the parts do not fit together."""
        raise NotImplementedError
