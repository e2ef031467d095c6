"""LinearTextClassifier: bags of words under a linear model, with the contract of the recurrent classifier."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from tidegate.data.encoder import NORMALIZATIONS
from tidegate.data.seeds import derive_seed
from tidegate.data.text import TOKENIZERS
from tidegate.deploy.bundle import Bundle, installed_versions
from tidegate.errors import DataError
from tidegate.estimators.base import (
    check_choice,
    check_data,
    check_texts,
    check_validation,
    plain_value,
    resolve_seed,
    stratified_split,
)
from tidegate.estimators.saved import SavedEstimator
from tidegate.features.bag_of_words import WEIGHTINGS, BagOfWords, TermSplitter
from tidegate.features.linear_model import CLASSIFIERS, LinearModel, fit_linear, fit_scale

__all__ = ["LinearTextClassifier"]

_GRID = {
    "logistic": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
    "svm": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "nbsvm": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "naive-bayes": (1.0,),  # where C does not count
}
_MARGINS = ("svm", "nbsvm")

Data = tuple[list[str], np.ndarray, np.ndarray | None]


class LinearTextClassifier(ClassifierMixin, SavedEstimator):
    """A linear classifier of texts over counts or TF-IDF weights of their n-grams: seconds of work.

    The terms are tidegate's own tokens, so Chinese works. C, where it is not given, is chosen on validation data; where
    those were set aside from X, the model is then fitted to all of X. The fitted model predicts without scikit-learn.

    Args:
        tokenizer: ``"words"``, ``"characters"`` or ``"jieba"`` (Chinese).
        lowercase: Whether case is ignored.
        strip_html: Whether tags are removed and entities resolved.
        normalization: Unicode form ``"NFC"``, ``"NFD"``, ``"NFKC"``, ``"NFKD"``, or None.
        keep_marks: Whether tokens without a letter or digit count.
        ngram_range: Tokens of the shortest and the longest term.
        character_ngram_range: The same in characters, of pieces of words that count as well, or None.
        max_vocabulary: Most terms, the most frequent ones; None keeps all.
        min_documents: Texts that a term must be in.
        weighting: ``"tfidf"``, ``"counts"`` or ``"binary"``.
        classifier: ``"logistic"``, ``"naive-bayes"``, ``"svm"`` or ``"nbsvm"`` (`features/linear_model.py`).
        C: Inverse strength of the regularisation, for naive Bayes without effect; None chooses it on validation data.
        alpha: What naive Bayes and NB-SVM add to their counts.
        interpolation: NB-SVM's, in [0, 1].
        validation_fraction: Share of each class set aside when `fit` is given no ``validation_data``; 0 sets nothing
            aside, and C=None is then 1.
        random_state: Seed of what is set aside: an int, a ``numpy.random.RandomState``, or None for a new one.

    Attributes:
        classes_: Labels in the order of the columns of ``predict_proba``.
        bag_: The fitted :class:`~tidegate.features.bag_of_words.BagOfWords`.
        model_: The fitted :class:`~tidegate.features.linear_model.LinearModel`.
        C_: The C in use.
        validation_accuracy_: The accuracy on validation data of the model of the chosen C, or None.
        random_state_: The seed in use.
        timing_: Seconds spent on ``encode`` and ``train``.

    Example:
        >>> model = LinearTextClassifier(classifier="nbsvm").fit(texts, labels)  # doctest: +SKIP
        >>> model.predict(["not bad at all"])  # doctest: +SKIP
        array(['positive'], dtype='<U8')
    """

    kind: ClassVar[str] = "linear-text-classifier"

    def __init__(
        self,
        *,
        tokenizer: str = "words",
        lowercase: bool = True,
        strip_html: bool = True,
        normalization: str | None = "NFKC",
        keep_marks: bool = False,
        ngram_range: Sequence[int] = (1, 2),
        character_ngram_range: Sequence[int] | None = None,
        max_vocabulary: int | None = None,
        min_documents: int = 1,
        weighting: str = "tfidf",
        classifier: str = "logistic",
        C: float | None = None,
        alpha: float = 1.0,
        interpolation: float = 0.25,
        validation_fraction: float = 0.1,
        random_state: Any = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.lowercase = lowercase
        self.strip_html = strip_html
        self.normalization = normalization
        self.keep_marks = keep_marks
        self.ngram_range = ngram_range
        self.character_ngram_range = character_ngram_range
        self.max_vocabulary = max_vocabulary
        self.min_documents = min_documents
        self.weighting = weighting
        self.classifier = classifier
        self.C = C
        self.alpha = alpha
        self.interpolation = interpolation
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: tuple[Any, ...] | None = None) -> Self:
        """Learn from texts and labels.

        Args:
            X: Texts: a list, a Series, a 1-D array or one column of a 2-D array.
            y: Labels, int or str, one a text; at least two different ones.
            sample_weight: Weights of the texts in the loss; a text of weight 0 is left out altogether.
            validation_data: ``(X, y)`` or ``(X, y, sample_weight)`` that choose C, instead of a share of X.

        Raises:
            DataError: X, y or sample_weight cannot be used; the message says where.
            ValueError: An argument of the estimator is out of range.
        """
        self._check_arguments()
        texts, labels, weights = check_data(X, y, sample_weight)
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(
                f"a classifier needs at least two classes in y; all {len(labels)} rows have the label "
                f"{classes[0].item()!r}; check the label column"
            )
        random_state = resolve_seed(self.random_state)
        whole: Data = (texts, targets, weights)
        candidates = _GRID[self.classifier] if self.C is None else (float(self.C),)
        seconds = {"encode": 0.0, "train": 0.0}
        accuracy: float | None = None
        fitted: tuple[BagOfWords, LinearModel] | None = None
        chosen, scale = candidates[0] if len(candidates) == 1 else 1.0, 1.0
        train, validation = self._split(whole, validation_data, classes, random_state)
        if validation is not None:
            bag, models = self._fit_all(train, candidates, seconds)
            rows = bag.rows(validation[0])
            judged = [_judge(model.scores(rows), validation) for model in models]
            # Equal accuracies go to the stronger regularisation.
            best = max(range(len(models)), key=lambda place: (judged[place], -place))
            chosen, accuracy = candidates[best], judged[best]
            if self.classifier in _MARGINS:
                scale = fit_scale(models[best].scores(rows), validation[1], validation[2])
            fitted = bag, models[best]
        if fitted is None or train is not whole:
            bag, models = self._fit_all(whole, (chosen,), seconds)
            fitted = bag, models[0]
        self.classes_ = classes
        self.bag_ = fitted[0]
        self.model_ = LinearModel(fitted[1].weights, fitted[1].intercept, scale)
        self.C_ = chosen
        self.validation_accuracy_ = accuracy
        self.random_state_ = random_state
        self.timing_ = seconds
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each text, ``[rows]``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, ``[rows, classes]`` float32, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        check_is_fitted(self)
        return self.model_.probabilities(self.bag_.rows(check_texts(X)))

    def strongest_terms(self, count: int = 10) -> dict[str | int, list[tuple[str, float]]]:
        """For each class the terms of the greatest weights for it, against the mean of the classes.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        weights = self.model_.weights - self.model_.weights.mean(axis=1, keepdims=True)
        found: dict[str | int, list[tuple[str, float]]] = {}
        for column, name in enumerate(self.classes_.tolist()):
            rows = np.argsort(-weights[:, column], kind="stable")[:count]
            found[name] = [(self.bag_.terms[row].lstrip("\x01"), float(weights[row, column])) for row in rows]
        return found

    def to_bundle(self) -> Bundle:
        """The fitted model as plain values.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        config = {name: plain_value(value) for name, value in self.get_params().items()}
        return Bundle(
            kind=self.kind,
            config={**config, "random_state": self.random_state_},
            tokenizer=self.bag_.to_dict(),
            labels=self.classes_.tolist(),
            metrics={
                "C": self.C_,
                "scale": self.model_.scale,
                "validation_accuracy": self.validation_accuracy_,
                "timing": self.timing_,
            },
            weights={"weights": self.model_.weights, "intercept": self.model_.intercept, "idf": self.bag_.idf},
            versions=installed_versions(),
        )

    @classmethod
    def _from_parts(cls, bundle: Bundle) -> Self:
        ranges = {name: tuple(value) for name, value in bundle.config.items() if isinstance(value, list)}
        model = cls(**{**bundle.config, **ranges})
        model.classes_ = np.array(bundle.labels)
        model.bag_ = BagOfWords.from_dict(bundle.tokenizer, bundle.weights["idf"])
        scale = float(bundle.metrics["scale"])
        model.model_ = LinearModel(bundle.weights["weights"], bundle.weights["intercept"], scale)
        if model.model_.weights.shape != (len(model.bag_.terms), len(model.classes_)):
            raise ValueError(f"weights of shape {model.model_.weights.shape}")
        model.C_ = bundle.metrics["C"]
        model.validation_accuracy_ = bundle.metrics["validation_accuracy"]
        model.timing_ = bundle.metrics["timing"]
        model.random_state_ = model.random_state
        return model

    def _fit_all(
        self, data: Data, candidates: Sequence[float], seconds: dict[str, float]
    ) -> tuple[BagOfWords, list[LinearModel]]:
        """One bag of the texts, and a model for each C."""
        texts, targets, weights = data
        started = time.perf_counter()
        pieces = self.character_ngram_range
        splitter = TermSplitter(
            tokenizer=self.tokenizer,
            lowercase=bool(self.lowercase),
            strip_html=bool(self.strip_html),
            normalization=self.normalization,
            ngram_range=_range(self.ngram_range),
            character_ngram_range=None if pieces is None else _range(pieces),
            keep_marks=bool(self.keep_marks),
        )
        bag, matrix = BagOfWords.fit(
            texts,
            splitter,
            weighting=self.weighting,
            max_vocabulary=None if self.max_vocabulary is None else int(self.max_vocabulary),
            min_documents=int(self.min_documents),
        )
        encoded = time.perf_counter()
        arguments = {"alpha": float(self.alpha), "interpolation": float(self.interpolation)}
        models = [fit_linear(self.classifier, matrix, targets, weights, C=C, **arguments) for C in candidates]
        seconds["encode"] += encoded - started
        seconds["train"] += time.perf_counter() - encoded
        return bag, models

    def _split(
        self, whole: Data, validation_data: tuple[Any, ...] | None, classes: np.ndarray, random_state: int
    ) -> tuple[Data, Data | None]:
        if validation_data is not None:
            return whole, check_validation(validation_data, classes)
        texts, targets, weights = whole
        if not self.validation_fraction:
            return whole, None
        seed = derive_seed(random_state, "split")
        train, held = stratified_split(targets, self.validation_fraction, seed)
        if not len(held):
            return whole, None

        def part(rows: np.ndarray) -> Data:
            return [texts[row] for row in rows], targets[rows], None if weights is None else weights[rows]

        return part(train), part(held)

    def _check_arguments(self) -> None:
        check_choice("tokenizer", self.tokenizer, tuple(TOKENIZERS))
        check_choice("weighting", self.weighting, WEIGHTINGS)
        check_choice("classifier", self.classifier, CLASSIFIERS)
        if self.normalization is not None:
            check_choice("normalization", self.normalization, NORMALIZATIONS)
        for name in ("ngram_range", "character_ngram_range"):
            value = getattr(self, name)
            if name == "ngram_range" or value is not None:
                _check_range(name, value)
        for name in ("max_vocabulary", "min_documents"):
            value = getattr(self, name)
            allowed = name == "max_vocabulary" and value is None
            if not allowed and (not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1; found {value!r}")
        if self.C is not None and not self.C > 0:
            raise ValueError(f"C must be above 0, or None; found {self.C!r}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0; found {self.alpha!r}")
        if not 0 <= self.interpolation <= 1:
            raise ValueError(f"interpolation must be in [0, 1]; found {self.interpolation!r}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be in [0, 1); found {self.validation_fraction!r}")


def _check_range(name: str, value: Any) -> None:
    sizes = list(value) if isinstance(value, (tuple, list, np.ndarray)) else []
    whole = all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in sizes)
    if len(sizes) != 2 or not whole or not 1 <= sizes[0] <= sizes[1]:
        raise ValueError(f"{name} must be two whole numbers, the smaller first, as (1, 2); found {value!r}")


def _range(value: Sequence[int]) -> tuple[int, int]:
    return int(value[0]), int(value[1])


def _judge(scores: np.ndarray, data: Data) -> float:
    return float(np.average(scores.argmax(axis=1) == data[1], weights=data[2]))
