"""Monitors, temperatures and thresholds of TextClassifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as skm

import tidegate
from estimators.test_text_classifier import BAD, GOOD, X, Y, make, reviews
from features.tiny_bert import write_tiny_bert
from tidegate.deploy.bundle import Bundle, load_bundle, save_bundle
from tidegate.errors import DataError
from tidegate.estimators.text_ensemble import TextEnsemble
from tidegate.reporting.scores import CLASS_MONITORS, class_score

HELD = reviews(60, seed=7)


def noisy(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Reviews of which a fifth have the wrong label, and few are positive."""
    texts, labels = reviews(rows, seed)
    generator = np.random.default_rng(seed)
    kept = [row for row, label in enumerate(labels) if label == "negative" or generator.random() < 0.4]
    flipped = generator.random(rows) < 0.2
    swap = {"positive": "negative", "negative": "positive"}
    return [texts[row] for row in kept], [swap[labels[row]] if flipped[row] else labels[row] for row in kept]


TRAIN, VALID = noisy(120, 1), noisy(120, 2)


def overfitted(**changes: Any) -> Any:
    options = {"max_epochs": 12, "patience": 12, "monitor": "accuracy", "dropout": 0.0, "embedding_dropout": 0.0}
    return make(**{**options, **changes}).fit(*TRAIN, validation_data=VALID)


@pytest.fixture(scope="module")
def plain() -> Any:
    return overfitted()


# --- monitors


@pytest.mark.parametrize("monitor", [name for name in CLASS_MONITORS if name not in ("accuracy", "loss")])
def test_a_monitor_is_measured_as_its_figure_and_chooses_its_best_epoch(monitor: str) -> None:
    weights = np.linspace(0.5, 2, 60)
    model = make(monitor=monitor, max_epochs=3, patience=3).fit(X[:40], Y[:40], validation_data=(*HELD, weights))
    values = [entry[f"validation_{monitor}"] for entry in model.history_]
    best = min(values) if monitor in ("log_loss", "calibration_error") else max(values)
    assert model.best_epoch_ == 1 + values.index(best)
    targets = np.searchsorted(model.classes_, HELD[1])
    expected = class_score(monitor, targets, model.predict_proba(HELD[0]), weights)
    assert best == pytest.approx(expected, abs=1e-5)


def test_a_monitor_stops_training_when_it_stands_still() -> None:
    model = make(monitor="roc_auc", max_epochs=30, patience=2, learning_rate=1e-9).fit(X, Y)
    assert len(model.history_) == model.best_epoch_ + 2 == 3


def test_an_undefined_monitor_takes_no_epoch_for_better_than_the_first() -> None:
    held = (HELD[0][:5], ["positive"] * 5)
    model = make(monitor="roc_auc", max_epochs=4, patience=2).fit(X, Y, validation_data=held)
    assert model.best_epoch_ == 1 and len(model.history_) == 3


# --- temperature


def test_a_temperature_lowers_the_validation_log_loss_and_changes_no_decision(plain: Any, tmp_path: Path) -> None:
    model = overfitted(calibrate="temperature")
    found = model.calibration_
    raw, told = plain.predict_proba(VALID[0]), model.predict_proba(VALID[0])
    assert found["temperature"] > 1.1  # noise that was learned by heart
    np.testing.assert_allclose(
        told,
        np.exp(np.log(raw) / found["temperature"]) / np.exp(np.log(raw) / found["temperature"]).sum(1, keepdims=True),
        atol=1e-5,
    )
    np.testing.assert_array_equal(raw.argmax(1), told.argmax(1))
    assert found["before"]["log_loss"] == pytest.approx(skm.log_loss(VALID[1], raw), rel=1e-4)
    assert found["after"]["log_loss"] == pytest.approx(skm.log_loss(VALID[1], told), rel=1e-4)
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    loaded = tidegate.load(model.save(tmp_path / "model.tg"))
    assert loaded.calibration_ == found
    np.testing.assert_array_equal(loaded.predict_proba(VALID[0]), told)
    # Fitted again without, nothing of it is left.
    again = model.set_params(calibrate=None, max_epochs=1).fit(*TRAIN, validation_data=VALID)
    assert again.calibration_ is None and again.network_.head.temperature == 1.0


def test_the_temperature_uses_the_weights_of_the_validation_rows() -> None:
    weights = np.where(np.arange(len(VALID[0])) % 2, 3.0, 0.2)
    temperatures = [
        make(max_epochs=6, calibrate="temperature")
        .fit(*TRAIN, validation_data=(*VALID, *more))
        .calibration_["temperature"]
        for more in ((), (weights,))
    ]
    assert abs(temperatures[0] - temperatures[1]) > 1e-3


# --- thresholds


@pytest.mark.parametrize(
    ("monitor", "figure"), [("matthews", "matthews"), ("accuracy", "accuracy"), ("loss", "macro_f1")]
)
def test_a_tuned_threshold_is_the_best_for_the_monitor(monitor: str, figure: str, tmp_path: Path) -> None:
    model = overfitted(threshold="tuned", monitor=monitor, max_epochs=4)
    probabilities = model.predict_proba(VALID[0])[:, 1]
    functions = {
        "matthews": skm.matthews_corrcoef,
        "accuracy": skm.accuracy_score,
        "macro_f1": lambda truth, said: skm.f1_score(truth, said, average="macro"),
    }
    truth = np.array(VALID[1]) == "positive"
    best = max(functions[figure](truth, probabilities >= edge) for edge in np.unique(probabilities))
    said = model.predict(VALID[0]) == "positive"
    np.testing.assert_array_equal(said, probabilities >= model.threshold_)
    assert functions[figure](truth, said) == pytest.approx(best)
    loaded = tidegate.load(model.save(tmp_path / "model.tg"))
    assert loaded.threshold_ == model.threshold_ and loaded.threshold == "tuned"
    assert loaded.predict(VALID[0]).tolist() == model.predict(VALID[0]).tolist()


def test_a_threshold_of_ones_own(plain: Any, tmp_path: Path) -> None:
    model = overfitted(threshold=0.9)
    np.testing.assert_array_equal(model.predict_proba(VALID[0]), plain.predict_proba(VALID[0]))
    said = model.predict(VALID[0])
    assert said.tolist() == np.where(plain.predict_proba(VALID[0])[:, 1] >= 0.9, "positive", "negative").tolist()
    assert said.tolist() != plain.predict(VALID[0]).tolist()
    assert tidegate.load(model.save(tmp_path / "model.tg")).predict(VALID[0]).tolist() == said.tolist()
    without = make(threshold=0.9, max_epochs=1, validation_fraction=0).fit(X, Y)
    assert without.threshold_ == 0.9


def test_both_together_tune_the_threshold_on_calibrated_probabilities() -> None:
    model = overfitted(threshold="tuned", calibrate="temperature", monitor="macro_f1")
    plain = overfitted(threshold="tuned", monitor="macro_f1")
    assert model.predict(VALID[0]).tolist() == plain.predict(VALID[0]).tolist()
    factor = model.calibration_["temperature"]
    logit = np.log(plain.threshold_ / (1 - plain.threshold_)) / factor
    assert model.threshold_ == pytest.approx(1 / (1 + np.exp(-logit)), abs=0.1)


def test_a_finished_run_is_calibrated_by_resuming_it(tmp_path: Path) -> None:
    make(max_epochs=2).fit(*TRAIN, validation_data=VALID, run_folder=tmp_path)
    model = make(max_epochs=2, calibrate="temperature", threshold="tuned")
    model.fit(*TRAIN, validation_data=VALID, run_folder=tmp_path, resume=True)
    whole = make(max_epochs=2, calibrate="temperature", threshold="tuned").fit(*TRAIN, validation_data=VALID)
    assert (model.calibration_, model.threshold_) == (whole.calibration_, whole.threshold_)


def test_a_file_from_before_there_were_decisions_is_read(plain: Any, tmp_path: Path) -> None:
    good = load_bundle(plain.save(tmp_path / "good.tg"))
    config = {name: value for name, value in good.config.items() if name not in ("threshold", "calibrate")}
    metrics = {name: value for name, value in good.metrics.items() if name not in ("threshold", "calibration")}
    path = save_bundle(tmp_path / "old.tg", Bundle(**{**vars(good), "config": config, "metrics": metrics}))
    loaded = tidegate.load(path)
    assert loaded.threshold_ is None and loaded.calibration_ is None
    np.testing.assert_array_equal(loaded.predict_proba(X), plain.predict_proba(X))


# --- other estimators


def test_an_ensemble_tunes_a_threshold_of_its_own_on_calibrated_members(tmp_path: Path) -> None:
    one = make(max_epochs=3, threshold="tuned", calibrate="temperature", monitor="matthews")
    model = TextEnsemble(one, members=2, random_state=1).fit(*TRAIN, validation_data=VALID)
    probabilities = model.predict_proba(VALID[0])
    np.testing.assert_allclose(probabilities, np.mean([m.predict_proba(VALID[0]) for m in model.members_], axis=0))
    assert all(member.calibration_ is not None for member in model.members_)
    truth = np.array(VALID[1]) == "positive"
    best = max(skm.matthews_corrcoef(truth, probabilities[:, 1] >= edge) for edge in np.unique(probabilities[:, 1]))
    said = model.predict(VALID[0])
    assert skm.matthews_corrcoef(truth, said == "positive") == pytest.approx(best)
    loaded = tidegate.load(model.save(tmp_path / "model.tg"))
    assert loaded.threshold_ == model.threshold_
    assert loaded.predict(VALID[0]).tolist() == said.tolist()
    fixed = TextEnsemble(make(max_epochs=1, threshold=0.8), members=2, random_state=1).fit(*TRAIN)
    expected = np.where(fixed.predict_proba(X)[:, 1] >= 0.8, "positive", "negative")
    assert fixed.predict(X).tolist() == expected.tolist()


def test_a_classifier_over_given_states_decides_alike(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    parts = []
    for rows, seed in ((120, 0), (60, 1)):
        generator = np.random.default_rng(seed)
        good = generator.random(rows) < 0.5
        words = np.where(good[:, None], ["good", "great"], ["bad", "dull"])
        labels = np.where(good ^ (generator.random(rows) < 0.2), "positive", "negative")
        parts.append(([f"the film was {first} {second}" for first, second in words], labels.tolist()))
    train, held = parts
    model = tidegate.ContextualTextClassifier(
        write_tiny_bert(tmp_path),
        layer=0,
        max_tokens=16,
        threshold="tuned",
        calibrate="temperature",
        monitor="roc_auc",
        hidden_size=8,
        learning_rate=0.02,
        dropout=0.0,
        embedding_dropout=0.0,
        max_epochs=4,
        random_state=0,
        device="cpu",
        verbose=False,
    ).fit(*train, validation_data=held)
    assert model.history_[0]["validation_roc_auc"] is not None
    told = model.predict_proba(held[0])
    assert model.calibration_ is not None
    assert model.calibration_["after"]["log_loss"] == pytest.approx(skm.log_loss(held[1], told), rel=1e-3)
    said = np.where(told[:, 1] >= model.threshold_, "positive", "negative").tolist()
    loaded = tidegate.load(model.save(tmp_path / "model.tg"))
    assert model.predict(held[0]).tolist() == loaded.predict(held[0]).tolist() == said


# --- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": "tune"}, "threshold must be 'tuned', a number between 0 and 1, or None; found 'tune'. Did you"),
        ({"threshold": 1.0}, "threshold must be 'tuned', a number between 0 and 1, or None; found 1.0"),
        ({"threshold": True}, "found True"),
        ({"calibrate": "platt"}, "calibrate must be temperature; found 'platt'"),
        (
            {"threshold": "tuned", "validation_fraction": 0},
            "threshold='tuned' is set on validation data, and there are",
        ),
        ({"calibrate": "temperature", "validation_fraction": 0}, "calibrate='temperature' is set on validation data"),
        ({"monitor": "auc"}, "monitor must be accuracy or .* or calibration_error; found 'auc'"),
    ],
)
def test_decisions_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    model = make(**changes)
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y)
    assert not hasattr(model, "network_")


def test_a_threshold_needs_two_classes_and_rows_to_tune_it_on() -> None:
    texts = [f"{word} film" for word in (*GOOD, *BAD)]
    with pytest.raises(ValueError, match=r"threshold=0.4 is the probability from which on .* and y has 3 classes"):
        make(threshold=0.4).fit(texts, [number % 3 for number in range(len(texts))])
    with (
        pytest.warns(UserWarning, match="too few rows to set any aside"),
        pytest.raises(DataError, match="calibrate='temperature' is set on validation data, and there are none"),
    ):
        make(calibrate="temperature").fit(["good film", "bad film"], ["p", "n"])
