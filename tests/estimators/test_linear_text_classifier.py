from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from estimators.contract import CHECKS, Case
from tidegate import LinearTextClassifier, TextClassifier
from tidegate.deploy.bundle import load_bundle, save_bundle
from tidegate.errors import BundleError
from tidegate.features.bag_of_words import BagOfWords
from tidegate.features.linear_model import CLASSIFIERS
from tiny_reviews import rows

X, Y = [text for _, text in rows(80, 1)], [label for label, _ in rows(80, 1)]


def make(**changes: Any) -> LinearTextClassifier:
    return LinearTextClassifier(**{"classifier": "nbsvm", "random_state": 0, **changes})


CASE = Case(make, X, Y, ("C", [0.03, 3.0]), drawn=False)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check: Any, tmp_path: Path) -> None:
    extra = {"folder": tmp_path} if "folder" in inspect.signature(check).parameters else {}
    check(CASE, **extra)


@pytest.mark.parametrize("weighting", ["tfidf", "counts", "binary"])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_every_classifier_over_every_weighting_learns(classifier: str, weighting: str, tmp_path: Path) -> None:
    model = make(classifier=classifier, weighting=weighting).fit(X, Y)
    others = rows(60, 5)
    texts, labels = [text for _, text in others], [label for label, _ in others]
    assert model.score(texts, labels) > 0.95
    again = LinearTextClassifier.load(model.save(tmp_path / "m.tg"))
    np.testing.assert_array_equal(again.predict_proba(texts), model.predict_proba(texts))


def test_three_classes() -> None:
    texts = [*X, *(f"the {word} plot" for word in ("odd", "strange", "weird") * 10)]
    labels = [*Y, *["strange"] * 30]
    for classifier in CLASSIFIERS:
        model = make(classifier=classifier).fit(texts, labels)
        assert model.score(texts, labels) > 0.95
        assert model.predict(["the strange plot"]).tolist() == ["strange"]


def test_every_argument_is_used() -> None:
    texts = [*X, "GREAT lovely<br/>film", "dull  naïve ﬁlm !", "odd"]
    labels = [*Y, "pos", "neg", "pos"]
    tests = [*texts, "Great <b>lovely</b> ﬁlm, dull!"]

    def outcome(**changes: Any) -> np.ndarray:
        model = make(**{"C": 0.5, "weighting": "counts", **changes}).fit(texts, labels)
        return model.predict_proba(tests)

    reference = outcome()
    changes: dict[str, Any] = {
        "tokenizer": "characters",
        "lowercase": False,
        "strip_html": False,
        "normalization": None,
        "keep_marks": True,
        "ngram_range": (1, 1),
        "character_ngram_range": (2, 3),
        "max_vocabulary": 20,
        "min_documents": 5,
        "weighting": "tfidf",
        "classifier": "svm",
        "C": 0.05,
        "alpha": 0.1,
        "interpolation": 1.0,
        "validation_fraction": 0.4,
    }
    assert {*changes, "random_state"} == set(make().get_params())
    for name, value in changes.items():
        assert not np.array_equal(reference, outcome(**{name: value})), name


def test_the_seed_draws_what_is_set_aside() -> None:
    def scale(seed: int) -> float:
        noisy = [label if row % 5 else "neg" for row, label in enumerate(Y)]
        return make(random_state=seed).fit(X, noisy).model_.scale

    assert scale(1) == scale(1) != scale(2)


def test_strength_is_chosen_on_validation_and_the_rest_is_fitted_to_all() -> None:
    noisy = [label if row % 6 else "neg" for row, label in enumerate(Y)]
    held = ([text for _, text in rows(60, 9)], [label for label, _ in rows(60, 9)])
    chosen = make(classifier="logistic").fit(X, noisy, validation_data=held)
    scores = {}
    for C in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0):
        model = make(classifier="logistic", C=C).fit(X, noisy, validation_data=held)
        scores[C] = model.score(*held)
        assert model.validation_accuracy_ == pytest.approx(scores[C])
    best = max(scores.values())
    assert scores[chosen.C_] == best
    assert not any(scores[C] == best for C in scores if C < chosen.C_)
    np.testing.assert_array_equal(
        chosen.predict_proba(X), make(classifier="logistic", C=chosen.C_).fit(X, noisy).predict_proba(X)
    )
    # What was set aside from X is learned from in the end.
    own = make(classifier="logistic").fit(X, noisy)
    np.testing.assert_array_equal(
        own.predict_proba(X), make(classifier="logistic", C=own.C_).fit(X, noisy).predict_proba(X)
    )
    bag, matrix = BagOfWords.fit(X, own.bag_.splitter)
    theirs = LogisticRegression(C=own.C_, max_iter=2000).fit(matrix, noisy)
    np.testing.assert_allclose(own.predict_proba(X), theirs.predict_proba(matrix), atol=1e-5)
    assert bag.terms == own.bag_.terms


def test_without_validation_the_strength_is_one() -> None:
    model = make(validation_fraction=0).fit(X, Y)
    assert (model.C_, model.model_.scale, model.validation_accuracy_) == (1.0, 1.0, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": "bpe"}, "tokenizer must be words or characters or jieba; found 'bpe'"),
        ({"classifier": "nbsmv"}, "Did you mean 'nbsvm'"),
        ({"weighting": "tf-idf"}, "Did you mean 'tfidf'"),
        ({"normalization": "NKFC"}, "normalization must be NFC or NFD"),
        ({"ngram_range": (2, 1)}, r"ngram_range must be two whole numbers, the smaller first, as \(1, 2\); found \(2"),
        ({"ngram_range": 2}, "ngram_range must be two whole numbers"),
        ({"character_ngram_range": (0, 2)}, "character_ngram_range must be two whole numbers"),
        ({"max_vocabulary": 0}, "max_vocabulary must be a whole number of at least 1; found 0"),
        ({"min_documents": 1.5}, "min_documents must be a whole number"),
        ({"C": 0}, "C must be above 0, or None; found 0"),
        ({"alpha": 0}, "alpha must be above 0"),
        ({"interpolation": 2}, r"interpolation must be in \[0, 1\]; found 2"),
        ({"validation_fraction": 1}, r"validation_fraction must be in \[0, 1\)"),
    ],
)
def test_arguments_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes).fit(X, Y)


def test_bundles_that_are_not_this_model_or_do_not_fit(tmp_path: Path) -> None:
    path = make().fit(X, Y).save(tmp_path / "m.tg")
    with pytest.raises(BundleError, match="expected a model of the kind text-classifier, found 'linear-text"):
        TextClassifier.load(path)
    bundle = load_bundle(path)
    bundle.weights["weights"] = bundle.weights["weights"][1:]
    save_bundle(path, bundle)
    with pytest.raises(BundleError, match="do not fit together: weights of shape"):
        LinearTextClassifier.load(path)


def test_a_bundle_predicts_without_scikit_learn_and_torch(tmp_path: Path) -> None:
    model = make().fit(X, Y)
    path = model.save(tmp_path / "m.tg")
    code = (
        "import sys\n"
        "for name in ('sklearn', 'torch', 'scipy', 'lightning'): sys.modules[name] = None\n"
        "from tidegate.deploy.bundle import load_bundle\n"
        "from tidegate.features.bag_of_words import BagOfWords\n"
        "from tidegate.features.linear_model import LinearModel\n"
        "bundle = load_bundle(sys.argv[1]); arrays = bundle.weights\n"
        "bag = BagOfWords.from_dict(bundle.tokenizer, arrays['idf'])\n"
        "model = LinearModel(arrays['weights'], arrays['intercept'], bundle.metrics['scale'])\n"
        "print(model.probabilities(bag.rows(sys.argv[2:])).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), *X[:3]], capture_output=True, text=True, check=True)
    np.testing.assert_allclose(eval(done.stdout), model.predict_proba(X[:3]), rtol=1e-6)


def test_the_strongest_terms_of_a_class_move_its_score_the_most() -> None:
    model = make(ngram_range=(1, 1), weighting="counts", classifier="logistic").fit(X, Y)
    strongest = model.strongest_terms(3)
    assert list(strongest) == ["neg", "pos"]
    assert {term for term, _ in strongest["neg"]} <= {"bad", "awful", "dull", "坏"}
    empty = model.model_.scores(model.bag_.rows([""]))[0]
    for term, weight in strongest["pos"]:
        change = model.model_.scores(model.bag_.rows([term]))[0] - empty
        assert change[1] - change.mean() == pytest.approx(weight, rel=1e-4)
        others = [model.model_.scores(model.bag_.rows([word]))[0] - empty for word in model.bag_.terms]
        assert sum(other[1] - other.mean() > weight + 1e-6 for other in others) < 3
