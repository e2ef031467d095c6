from __future__ import annotations

import inspect
import itertools
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import tidegate
from tidegate.data.tag_schemes import convert_tags, illegal_places, spans_of
from tidegate.deploy.bundle import load_bundle, save_bundle
from tidegate.errors import BundleError, DataError
from tidegate.estimators.sequence_tagger import SequenceTagger
from tidegate.features.vector_writing import write_vectors
from tidegate.features.vectors import WordVectors
from tiny_tags import tiny_sentences

X, Y, INTENTS = tiny_sentences(120)
SMALL: dict[str, Any] = {
    "embedding_size": 16,
    "char_embedding_size": 8,
    "char_hidden_size": 8,
    "hidden_size": 16,
    "dropout": 0.1,
    "embedding_dropout": 0.1,
    "learning_rate": 0.02,
    "max_epochs": 4,
    "random_state": 0,
    "device": "cpu",
    "verbose": False,
}


def make(**changed: Any) -> SequenceTagger:
    return SequenceTagger(**{**SMALL, **changed})


@pytest.fixture(scope="module")
def fitted() -> SequenceTagger:
    return make().fit(X, Y)


@pytest.fixture(scope="module")
def joint() -> SequenceTagger:
    return make().fit(X, Y, intents=INTENTS)


# --- scikit-learn's contract


def test_arguments_are_stored_as_given_and_cloned(fitted: SequenceTagger):
    defaults = {name: p.default for name, p in inspect.signature(SequenceTagger.__init__).parameters.items()}
    defaults.pop("self")
    assert SequenceTagger().get_params() == defaults
    marks = {name: object() for name in defaults}
    assert set(vars(SequenceTagger(**marks))) == set(marks)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(X)


def test_fit_leaves_what_it_is_given(fitted: SequenceTagger):
    before = [list(row) for row in X], [list(row) for row in Y]
    model = make(max_epochs=1)
    assert model.fit(X, Y) is model
    assert before == (X, Y)


def test_a_seed_repeats_a_run_and_another_does_not():
    first, second, other = (make(max_epochs=2, random_state=seed).fit(X, Y) for seed in (3, 3, 4))
    for a, b in zip(first.predict_marginals(X[:5]), second.predict_marginals(X[:5]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(first.predict_marginals(X[:5]), other.predict_marginals(X[:5]), strict=True)
    )


def test_it_pickles(fitted: SequenceTagger):
    assert pickle.loads(pickle.dumps(fitted)).predict(X[:9]) == fitted.predict(X[:9])


# --- learning


def test_it_learns_and_judges_itself(fitted: SequenceTagger):
    held, tags, _ = tiny_sentences(40, seed=1)
    assert fitted.score(held, tags) > 0.95
    assert fitted.tag_scheme_ == "bio"
    assert fitted.tags_ == ["O", *(f"{letter}-{kind}" for kind in ("LOC", "PER") for letter in "BIES")]
    assert fitted.history_[-1]["validation_f1"] > 0.9
    assert set(fitted.history_[0]) >= {"validation_accuracy", "validation_loss", "train_loss"}


@pytest.mark.parametrize(
    "scheme", ["iob1", *(pytest.param(one, marks=pytest.mark.slow) for one in ("bioes", "bmes", "bilou"))]
)
def test_predictions_are_in_the_scheme_of_the_data(fitted: SequenceTagger, scheme: str):
    tags = [convert_tags(row, "bio", scheme) for row in Y]
    # Segments of one and two tokens do not tell BMES from BIOES.
    model = make(tag_scheme="bmes" if scheme == "bmes" else "auto").fit(X, tags)
    assert model.tag_scheme_ == scheme
    # What is learned does not depend on how the tags were written.
    assert model.predict(X[:20]) == [convert_tags(row, "bio", scheme) for row in fitted.predict(X[:20])]


COMMON: list[dict[str, Any]] = [
    {"cell": "lstm", "output_layer": "softmax", "recurrent_dropout": 0.1, "max_epochs": 8},
    {"char_encoder": None, "case_features": False, "bigram_embedding_size": 4, "window": None, "monitor": "accuracy"},
]
RARER: list[dict[str, Any]] = [
    {"cell": "gru-blstm"},
    {"num_layers": 2, "monitor": "sentence_accuracy"},
    {"bidirectional": False},
    {"char_encoder": "gru"},
    {"model_scheme": "bio"},
    {"lowercase": False, "replace_digits": True, "min_count": 2, "max_vocabulary": 20},
    {"ema_decay": 0.9, "gradient_clip": None, "gradient_clip_value": 1.0, "word_dropout": 0.2},
    {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "schedule": "step", "decay_factor": 0.8},
    {"accumulate": 2, "warmup_epochs": 1.0, "schedule": "plateau", "decay_epochs": 1},
]


@pytest.mark.parametrize("changed", [*COMMON, *(pytest.param(one, marks=pytest.mark.slow) for one in RARER)], ids=str)
def test_every_option_learns(changed: dict[str, Any]):
    assert make(**changed).fit(X, Y).score(X, Y) > 0.8


def test_parts_of_speech_are_tags_of_their_own():
    kinds = [["N" if word[0].isupper() or word > "z" else "V" for word in row] for row in X]
    model = make().fit(X, kinds)
    assert (model.tag_scheme_, model.tags_) == ("plain", ["N", "V"])
    assert model.score(X, kinds) > 0.95
    assert model.history_[-1]["validation_f1"] == model.history_[-1]["validation_accuracy"]
    (spans,) = model.predict_spans([X[0]])
    assert [(span.start, span.end) for span in spans] == [(n, n + 1) for n in range(len(X[0]))]
    assert [span.type for span in spans] == model.predict([X[0]])[0]


def test_word_vectors_serve_words_that_training_has_not_seen(tmp_path: Path):
    words = ["ada", "bo", "met", "rome", "oslo", "carl", "lima"]
    rows = np.array([[1, 0], [1, 0], [0, 0], [0, 1], [0, 1], [1, 0], [0, 1]], np.float32)
    vectors = np.concatenate([rows, np.tile([[0.1, 0.2]], (7, 1))], 1).astype(np.float32)
    path = write_vectors(tmp_path / "words.npz", WordVectors(tuple(words), vectors))
    some = [row for row in range(len(X)) if "Oslo" not in X[row]]
    changed: dict[str, Any] = {"embedding_size": None, "vectors": str(path), "char_encoder": None, "max_epochs": 1}
    model = make(**changed).fit([X[row] for row in some], [Y[row] for row in some])
    assert model.encoder_.extra_words == ("oslo", "carl", "lima")
    network = model.network_
    np.testing.assert_allclose(network.extra_words.numpy(), vectors[[4, 5, 6]], atol=1e-6)
    known = model.encoder_.words.index["rome"]
    drift = np.abs(network.words.weight.detach().numpy()[known] - vectors[3]).max()
    assert 0 < drift < 0.5  # learned on from where it was given
    assert make(**changed, extra_words=1).fit(X, Y).encoder_.extra_words == ()
    model.save(tmp_path / "m.tg")
    path.unlink()
    again = SequenceTagger.load(tmp_path / "m.tg")
    assert again.predict([["Carl", "went", "to", "Lima"]]) == model.predict([["Carl", "went", "to", "Lima"]])


# --- probabilities


def all_paths(model: SequenceTagger, tokens: list[str]) -> dict[tuple[int, ...], float]:
    """The probability of every sequence of tags, by enumeration."""
    crf = model.network_.head.crf
    (emissions,) = model.predict_emissions([tokens])
    start, end, between = (
        t.detach().double().numpy() for t in (crf.start_transitions, crf.end_transitions, crf.transitions)
    )
    scores = {}
    for path in itertools.product(range(len(model.tags_)), repeat=len(tokens)):
        if illegal_places([model.tags_[number] for number in path], model.model_scheme):
            continue
        score = start[path[0]] + end[path[-1]] + sum(emissions[t, tag] for t, tag in enumerate(path))
        scores[path] = score + sum(between[a, b] for a, b in itertools.pairwise(path))
    total = np.logaddexp.reduce(np.array(list(scores.values())))
    return {path: float(np.exp(score - total)) for path, score in scores.items()}


@pytest.mark.parametrize("scheme", ["bioes", "bio"])
def test_every_probability_is_that_of_the_enumeration(scheme: str):
    model = make(max_epochs=1, model_scheme=scheme).fit(X, Y)
    for tokens in (["Ada"], ["New", "York", "Bo"], ["New", "York", "Oslo", "."]):
        paths = all_paths(model, tokens)
        best = sorted(paths, key=lambda path: -paths[path])
        (found,) = model.predict_k_best([tokens], 5)
        for one, path in zip(found, best, strict=False):
            given = convert_tags([model.tags_[number] for number in path], scheme, "bio")
            assert (one.tags, pytest.approx(one.probability, rel=1e-4)) == (given, paths[path])
        assert model.predict([tokens])[0] == found[0].tags
        (marginals,) = model.predict_marginals([tokens])
        for place, tag in itertools.product(range(len(tokens)), range(len(model.tags_))):
            expected = sum(chance for path, chance in paths.items() if path[place] == tag)
            assert marginals[place, tag] == pytest.approx(expected, abs=1e-5)
        (spans,) = model.predict_spans([tokens])
        assert [(span.start, span.end, span.type) for span in spans] == [tuple(s) for s in spans_of(found[0].tags)]
        for span in spans:
            expected = sum(
                chance
                for path, chance in paths.items()
                if (span.start, span.end, span.type) in spans_of([model.tags_[number] for number in path])
            )
            assert span.confidence == pytest.approx(expected, abs=1e-5)


def test_softmax_has_probabilities_of_its_own():
    model = make(max_epochs=1, output_layer="softmax").fit(X, Y)
    (marginals,), (emissions,) = model.predict_marginals([X[0]]), model.predict_emissions([X[0]])
    exact = np.exp(emissions - np.logaddexp.reduce(emissions, axis=1, keepdims=True))
    np.testing.assert_allclose(marginals, exact, atol=1e-6)
    with pytest.raises(ValueError, match='need output_layer="crf"'):
        model.predict_k_best([X[0]], 2)


def test_inspection_adds_up_to_the_score_of_the_path(fitted: SequenceTagger):
    rows = fitted.inspect(X[0])
    crf = fitted.network_.head.crf
    (emissions,) = fitted.predict_emissions([X[0]])
    numbers = [fitted.tags_.index(row["tag"]) for row in rows]
    assert [row["token"] for row in rows] == X[0]
    np.testing.assert_allclose([row["emission"] for row in rows], emissions[range(len(numbers)), numbers])
    assert [row["emission_tag"] for row in rows] == [fitted.tags_[n] for n in emissions.argmax(1)]
    assert rows[0]["transition"] == pytest.approx(crf.start_transitions[numbers[0]].item())
    assert rows[1]["transition"] == pytest.approx(crf.transitions[numbers[0], numbers[1]].item())


# --- intents


def test_intents_are_learned_beside_tags(joint: SequenceTagger, fitted: SequenceTagger):
    held, tags, intents = tiny_sentences(40, seed=1)
    assert joint.intents_ == ["go", "meet"]
    assert np.mean([a == b for a, b in zip(joint.predict_intents(held), intents, strict=True)]) > 0.95
    assert joint.score(held, tags) > 0.9
    assert joint.history_[-1]["validation_intent_accuracy"] > 0.9
    probabilities = joint.predict_intent_proba(held)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert joint.predict_intents([]) == []
    with pytest.raises(ValueError, match="trained without intents"):
        fitted.predict_intents(held)


def test_an_intent_of_the_validation_data_may_be_new():
    model = make(max_epochs=1).fit(X, Y, intents=INTENTS, validation_data=(X[:4], Y[:4], ["meet", "go", "stay", "go"]))
    assert model.intents_ == ["go", "meet"]
    assert model.history_[0]["validation_intent_accuracy"] <= 0.75


# --- the bundle


def test_a_saved_tagger_says_the_same(joint: SequenceTagger, tmp_path: Path):
    path = joint.save(tmp_path / "tags.tg")
    again = tidegate.load(path)
    assert isinstance(again, SequenceTagger)
    text = "Zoë went to New York. 李雷 met Ada."
    assert again.extract([text]) == joint.extract([text])
    assert again.predict_intents(X[:9]) == joint.predict_intents(X[:9])
    assert again.tag_scheme_ == "bio"
    bundle = load_bundle(path)
    assert bundle.kind == "sequence-tagger"
    assert bundle.labels == joint.tags_
    bundle.tokenizer.pop("words")
    save_bundle(path, bundle)
    with pytest.raises(BundleError, match="expected the keys"):
        tidegate.load(path)


def test_a_run_resumes_where_it_was_ended(tmp_path: Path):
    make(max_epochs=2).fit(X, Y, run_folder=tmp_path)
    resumed = make(max_epochs=4).fit(X, Y, run_folder=tmp_path, resume=True)
    whole = make(max_epochs=4).fit(X, Y)
    for a, b in zip(resumed.predict_marginals(X[:5]), whole.predict_marginals(X[:5]), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(tidegate.errors.TidegateError, match="data"):
        make(max_epochs=5).fit(X[1:], Y[1:], run_folder=tmp_path, resume=True)


# --- bad input


def test_illegal_tags_are_counted_and_repaired_dropped_or_refused():
    bad = [list(row) for row in Y]
    bad[3] = ["I-PER", *bad[3][1:]]
    bad[5] = [bad[5][0], "I-LOC", *bad[5][2:]]
    with pytest.warns(
        UserWarning, match=r"2 of 120 sentences of y have tags that BIO does not allow \(the first: sent"
    ):
        model = make(max_epochs=1).fit(X, bad)
    assert model.n_illegal_ == 2
    assert np.isfinite(model.history_[0]["train_loss"])
    with pytest.warns(UserWarning, match="they were left out"):
        dropped = make(max_epochs=1, illegal_tags="drop", validation_fraction=0).fit(X, bad)
    kept = [row for row in range(len(X)) if row not in (3, 5)]
    same = make(max_epochs=1, validation_fraction=0).fit([X[row] for row in kept], [Y[row] for row in kept])
    np.testing.assert_array_equal(dropped.predict_marginals(X[:1])[0], same.predict_marginals(X[:1])[0])
    with pytest.raises(DataError, match="sentence 3, token 0"):
        make(illegal_tags="error").fit(X, bad)


def test_empty_sentences_are_left_out_and_predicted_as_empty(fitted: SequenceTagger):
    model = make(validation_fraction=0).fit([[], *X, []], [[], *Y, []])
    alone = make(validation_fraction=0).fit(X, Y)
    np.testing.assert_array_equal(model.predict_marginals(X[:1])[0], alone.predict_marginals(X[:1])[0])
    assert fitted.predict([[], X[0], []])[0] == []
    assert fitted.predict([]) == []
    assert fitted.predict_spans([[]]) == [[]]
    assert fitted.predict_k_best([[]], 2)[0][0].tags == []
    with pytest.raises(DataError, match="no sentence with a token"):
        make().fit([[]], [[]])


def test_weights_of_zero_leave_sentences_out():
    weights = np.ones(len(X))
    weights[10:20] = 0
    kept = [row for row in range(len(X)) if not 10 <= row < 20]
    model = make(max_epochs=1, validation_fraction=0).fit(X, Y, sample_weight=weights)
    same = make(max_epochs=1, validation_fraction=0).fit([X[r] for r in kept], [Y[r] for r in kept])
    np.testing.assert_allclose(model.predict_marginals(X[:1])[0], same.predict_marginals(X[:1])[0], atol=1e-6)


def test_a_validation_tag_that_training_lacks_counts_as_an_error():
    tags = [list(row) for row in Y[:4]]
    tags[0][0] = "B-NEW"
    model = make().fit(X, Y, validation_data=(X[:4], tags))
    assert "B-NEW" not in model.tags_
    assert 0 < model.history_[-1]["validation_f1"] < 1


@pytest.mark.parametrize(
    ("X_", "y", "message"),
    [
        ("Ada met Bo", None, "X must be a list of sentences, each a list of tokens; found a single text"),
        (["Ada met Bo"], [["O"]], r"sentence 0 of X is one text, 'Ada met Bo'"),
        ([["Ada", 3]], [["O", "O"]], "sentence 0 of X: expected tokens that are texts and not empty, found 3"),
        ([["Ada", ""]], [["O", "O"]], "not empty, found ''"),
        ([["Ada"]], None, "y is missing"),
        ([["Ada"]], [["O"], ["O"]], "X has 1 sentences and y has tags of 2"),
        ([["Ada", "x"]], [["O"]], "sentence 0 has 2 tokens and 1 tags"),
        ([["Ada"]], [[None]], "the tag of token 0 of sentence 0 must be a text; found None"),
    ],
)
def test_what_is_no_tagged_sentence_is_refused(X_: Any, y: Any, message: str):
    with pytest.raises(DataError, match=message):
        make().fit(X_, y)


def test_other_things_that_do_not_fit():
    with pytest.raises(DataError, match="the tag 'NN' marks no segment"):
        make(tag_scheme="bio").fit([["a"]], [["NN"]])
    with pytest.raises(DataError, match="2 sentences and there are 1 intents"):
        make().fit(X[:2], Y[:2], intents=["a"])
    with pytest.raises(DataError, match=r"validation_data must be \(X, y, intents\)"):
        make().fit(X, Y, intents=INTENTS, validation_data=(X, Y))
    with pytest.raises(DataError, match="sample_weight must have one number a row"):
        make().fit(X, Y, sample_weight=[1.0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokenizer": "word"}, "tokenizer must be"),
        ({"tag_scheme": "iob"}, "Did you mean 'iob1'"),
        ({"model_scheme": "plain"}, "model_scheme must be"),
        ({"illegal_tags": "keep"}, "illegal_tags must be"),
        ({"output_layer": "crff"}, "Did you mean 'crf'"),
        ({"char_encoder": "cnnn"}, "Did you mean 'cnn'"),
        ({"window": 3}, "window must be a whole number of at least 4"),
        ({"extra_words": -1}, "extra_words must be a whole number of at least 0"),
        ({"monitor": "f2"}, "monitor must be f1 or accuracy or sentence_accuracy"),
        ({"monitor": "intent_accuracy"}, "needs intents"),
        ({"cell": "grv"}, "Did you mean 'gru'"),
        ({"intent_pooling": "min"}, "intent_pooling must be"),
        ({"intent_weight": 0.0}, "intent_weight must be above 0"),
    ],
)
def test_arguments_out_of_range(changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        make(**changed).fit(X, Y)


def test_few_sentences_leave_none_for_validation():
    with pytest.warns(UserWarning, match="too few sentences"):
        model = make(max_epochs=1).fit(X[:1], Y[:1])
    assert model.history_[0]["validation_f1"] is None if "validation_f1" in model.history_[0] else True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(max_epochs=1, validation_fraction=0.5).fit(X[:4], Y[:4])
