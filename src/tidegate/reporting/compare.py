"""What a network is measured against: a bag of words and bigrams with a linear model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tidegate.data.pairs import flatten, is_pair
from tidegate.data.sources import TextExamples
from tidegate.data.text import TOKENIZERS, prepare
from tidegate.errors import DataError, RecipeError, nearest, require

_NAMES = {
    "words": "TF-IDF of words and bigrams",
    "characters": "TF-IDF of characters and character bigrams",
    "jieba": "TF-IDF of Chinese words and bigrams",
}
_MANY_TEXTS = 1000
_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def tfidf_baseline(train: TextExamples, test: TextExamples, *, tokenizer: str = "words") -> dict[str, Any]:
    """Train and judge the baseline that a network on text has to beat; seconds of work, and the same each time.

    Unigrams and bigrams of tidegate's own tokens, in lower case and without punctuation marks, weighted by
    (1 + ln tf) idf, then logistic regression with C=10. From 1,000 training texts on, terms of one single text are left
    out. Marks are dropped and rare terms left out because both were better on the validation parts of the bundled
    reviews; no test set had a say.

    Args:
        train: labelled training texts, of two classes at least.
        test: labelled texts to judge it on.
        tokenizer: ``"words"``, ``"characters"`` or ``"jieba"``.

    Returns:
        ``name`` (what it is, in words), ``accuracy``, ``macro_f1``, ``seconds`` (training and testing) and
        ``vocabulary`` (number of terms).

    Raises:
        DataError: labels are missing, the training set has one class only, or a set holds no text or no term.
        RecipeError: there is no such tokenizer.
    """
    _check_tokenizer(tokenizer)
    for name, examples in (("training", train), ("test", test)):
        if examples.labels is None or not examples.labels:
            labels = "without" if examples.labels is None else "with"
            raise DataError(f"the baseline needs labelled {name} texts, found {len(examples)} texts {labels} labels")
    if len(set(train.labels or ())) < 2:
        raise DataError(f"the baseline needs training texts of two classes at least, found {set(train.labels or ())}")
    linear = require("sklearn.linear_model", "train")
    skm = require("sklearn.metrics", "train")

    start = time.perf_counter()
    vectorizer, matrix = _weighted_terms(train.texts, tokenizer)
    classifier = linear.LogisticRegression(C=10, max_iter=1000).fit(matrix, train.labels)
    predicted = classifier.predict(_rows(vectorizer, test.texts))
    return {
        "name": f"{_name(tokenizer, train.texts)} + logistic regression",
        "accuracy": float(skm.accuracy_score(test.labels, predicted)),
        "macro_f1": float(skm.f1_score(test.labels, predicted, average="macro", zero_division=0.0)),
        "seconds": time.perf_counter() - start,
        "vocabulary": len(vectorizer.vocabulary_),
    }


def ridge_baseline(
    train: tuple[Sequence[str], Sequence[float]],
    test: tuple[Sequence[str], Sequence[float]],
    *,
    tokenizer: str = "words",
) -> dict[str, Any]:
    """Train and judge the baseline that a regression of texts has to beat; seconds of work, and the same each time.

    The terms and weights of `tfidf_baseline`, then ridge regression, its penalty the best of 0.1, 0.3, 1, 3, 10 and 30
    by the squared error of a threefold cross-validation on the training texts.

    Args:
        train: training texts and their numbers.
        test: texts and numbers to judge it on.
        tokenizer: ``"words"``, ``"characters"`` or ``"jieba"``.

    Returns:
        ``name``, ``mae``, ``mse``, ``rmse``, ``r2``, ``pearson``, ``spearman``, ``seconds`` and ``vocabulary``.

    Raises:
        DataError: a set holds no text or no term.
        RecipeError: there is no such tokenizer.
    """
    from tidegate.reporting.number_metrics import NUMBER_FIGURES, number_metrics

    _check_tokenizer(tokenizer)
    linear = require("sklearn.linear_model", "train")
    start = time.perf_counter()
    vectorizer, matrix = _weighted_terms(train[0], tokenizer)
    # RidgeCV's leave-one-out takes minutes, and gigabytes, from some thousands of texts on.
    selection = require("sklearn.model_selection", "train")
    ridge = linear.Ridge(solver="sparse_cg", random_state=0)
    folds = selection.KFold(3, shuffle=True, random_state=0)
    search = selection.GridSearchCV(ridge, {"alpha": _PENALTIES}, cv=folds, scoring="neg_mean_squared_error")
    model = search.fit(matrix, train[1])
    judged = number_metrics(test[1], model.predict(_rows(vectorizer, test[0])))
    return {
        "name": f"{_name(tokenizer, train[0])} + ridge regression",
        **{name: judged[name] for name in NUMBER_FIGURES},
        "seconds": time.perf_counter() - start,
        "vocabulary": len(vectorizer.vocabulary_),
    }


def label_baseline(
    train: tuple[Sequence[Any], Any],
    test: tuple[Sequence[Any], Any],
    classes: Sequence[Any],
    *,
    tokenizer: str = "words",
) -> dict[str, Any]:
    """Train and judge the baseline of several labels a text; seconds of work, and the same each time.

    The terms and weights of `tfidf_baseline`, then for each label a logistic regression with C=10.

    Args:
        train: training texts and their indicator matrix [n, C].
        test: texts and indicator matrix to judge it on.
        classes: the C labels.
        tokenizer: ``"words"``, ``"characters"`` or ``"jieba"``.

    Returns:
        ``name``, ``micro_f1``, ``macro_f1``, ``average_precision``, ``accuracy`` (all labels right), ``seconds`` and
        ``vocabulary``.

    Raises:
        DataError: a set holds no text or no term.
        RecipeError: there is no such tokenizer.
    """
    from tidegate.reporting.label_metrics import label_metrics

    _check_tokenizer(tokenizer)
    linear = require("sklearn.linear_model", "train")
    multiclass = require("sklearn.multiclass", "train")
    start = time.perf_counter()
    vectorizer, matrix = _weighted_terms(train[0], tokenizer)
    model = multiclass.OneVsRestClassifier(linear.LogisticRegression(C=10, max_iter=1000)).fit(matrix, train[1])
    # Of a single label scikit-learn gives the probabilities of its absence and its presence.
    probabilities = model.predict_proba(_rows(vectorizer, test[0]))[:, -len(classes) :]
    judged = label_metrics(test[1], probabilities, classes)
    return {
        "name": f"{_name(tokenizer, train[0])} + logistic regression for each label",
        **{name: judged[name] for name in ("micro_f1", "macro_f1", "average_precision", "accuracy")},
        "seconds": time.perf_counter() - start,
        "vocabulary": len(vectorizer.vocabulary_),
    }


def _check_tokenizer(tokenizer: str) -> None:
    if tokenizer not in _NAMES:
        raise RecipeError(
            f"tokenizer={tokenizer!r}: the baseline knows {', '.join(_NAMES)}.{nearest(tokenizer, _NAMES)}"
        )


def _name(tokenizer: str, texts: Sequence[Any]) -> str:
    return f"{_NAMES[tokenizer]} of both texts, their distance and product" if is_pair(texts[0]) else _NAMES[tokenizer]


def _weighted_terms(texts: Sequence[Any], tokenizer: str) -> tuple[Any, Any]:
    """The fitted vectorizer of TF-IDF weights, and those of the rows."""
    features = require("sklearn.feature_extraction.text", "train")
    vectorizer = features.TfidfVectorizer(
        preprocessor=_prepare,
        tokenizer=_terms(tokenizer),
        token_pattern=None,
        ngram_range=(1, 2),
        min_df=2 if len(texts) >= _MANY_TEXTS else 1,
        sublinear_tf=True,
    )
    try:
        vectorizer.fit(flatten(texts)[0])
        return vectorizer, _rows(vectorizer, texts)
    except ValueError as error:
        raise DataError(f"the {len(texts)} training texts hold no term for the baseline: {error}") from None


def _rows(vectorizer: Any, texts: Sequence[Any]) -> Any:
    """The weights of texts; of pairs ``[u, v, |u - v|, u v]``, as a network of pairs combines its vectors."""
    flat, width = flatten(texts)
    weights = vectorizer.transform(flat)
    if width == 1:
        return weights
    first, second = weights[: len(texts)], weights[len(texts) :]
    sparse = require("scipy.sparse", "train")
    return sparse.hstack([first, second, abs(first - second), first.multiply(second)], format="csr")


def _prepare(text: str) -> str:
    return prepare(text, lowercase=True, html=True, normalization="NFKC")


def _terms(tokenizer: str) -> Callable[[str], list[str]]:
    tokenize = TOKENIZERS[tokenizer]
    return lambda text: [token for token in tokenize(text) if any(character.isalnum() for character in token)]
