from __future__ import annotations

from typing import Any

import lightning
import numpy as np
import pytest

from estimators.test_text_classifier import X, Y, make
from estimators.training_arguments import OF_THE_SETTINGS, ON_THE_NETWORK
from tidegate.estimators.base import resolve_class_weight
from tidegate.training.settings import FitSettings


def test_every_argument_of_the_network_changes_what_is_learned() -> None:
    def outcome(**more: Any) -> np.ndarray:
        return make(max_epochs=1, validation_fraction=0, **more).fit(X[:24], Y[:24]).predict_proba(X)

    reference = outcome()
    for name, value in ON_THE_NETWORK.items():
        assert not np.array_equal(reference, outcome(**{name: value})), name


@pytest.mark.parametrize(("beside", "changes"), OF_THE_SETTINGS, ids=lambda value: "-".join(value)[:30])
def test_every_argument_of_training_reaches_it(beside: dict[str, Any], changes: dict[str, Any]) -> None:
    plain = make(**beside)._plan(None, False).settings
    for name, value in changes.items():
        settings = make(**{**beside, name: value})._plan(None, False).settings
        assert getattr(settings, name) == value
        assert getattr(plain, name) != value


def test_the_defaults_of_the_settings_are_those_of_the_estimator() -> None:
    params = make().get_params()
    defaults = {name: field.default for name, field in FitSettings.__dataclass_fields__.items()}
    given = {name: value for name, value in defaults.items() if name in params and isinstance(value, int | str | float)}
    assert len(given) > 8
    for name, value in given.items():
        assert params[name] == value, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adamv"}, "Did you mean 'adam"),
        ({"momentum": 0.9}, "momentum=0.9 has no effect with optimizer='adamw'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"locked_dropout": 1.0}, r"locked_dropout must be in \[0, 1\)"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout"),
        ({"weight_dropout": -0.1}, "weight_dropout"),
        ({"focal_gamma": -1.0}, "focal_gamma must not be negative"),
        ({"activity_penalty": -1.0}, "activity_penalty must not be negative"),
        ({"class_weight": "balance"}, r"class_weight must be balanced; found 'balance'. Did you mean 'balanced'"),
        (
            {"class_weight": {"positiv": 2.0}},
            "names the label 'positiv', which y has not; y has negative, positive. Did",
        ),
        ({"class_weight": {"positive": 0}}, "must be above 0 and finite; found 0 for the label 'positive'"),
        ({"class_weight": 3}, "class_weight must be 'balanced', a mapping"),
        ({"precision": "bf16"}, r"precision must be one of float32, bfloat16, float16; found 'bf16'. Did you mean"),
        ({"precision": "float16"}, "precision='float16' needs a GPU.*found the device 'cpu'. Use precision='bfloat16'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_argument_of_training_out_of_range_says_what_is_legal(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes).fit(X, Y)


def test_class_weights_are_weights_of_rows_in_learning_alone() -> None:
    texts, labels = X[:40], Y[:40]
    held = (X[40:], Y[40:])
    factors = {"positive": 3.0, "negative": 1.0}
    by_class = make(class_weight=factors, max_epochs=3).fit(texts, labels, validation_data=held)
    by_row = make(max_epochs=3).fit(texts, labels, [factors[label] for label in labels], validation_data=held)
    np.testing.assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
    assert by_class.history_[0]["validation_loss"] == by_row.history_[0]["validation_loss"]


def test_balanced_class_weights_are_scikit_learns() -> None:
    targets = np.array([0, 0, 0, 1, 2, 2])
    classes = np.array([5, 7, 9])
    weights = resolve_class_weight("balanced", classes, targets)
    assert weights == pytest.approx([6 / 9, 2.0, 1.0])
    assert resolve_class_weight({7: 2, "9": 0.5}, classes, targets) == pytest.approx([1, 2, 0.5])
    assert resolve_class_weight(None, classes, targets) is None


def test_a_users_callbacks_are_called_and_see_the_metrics() -> None:
    class Watch(lightning.Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            self.seen.append(float(trainer.callback_metrics["validation_accuracy"]))

    watch = Watch()
    model = make(max_epochs=3).fit(X, Y, callbacks=[watch])
    assert watch.seen == pytest.approx([entry["validation_accuracy"] for entry in model.history_])


def test_a_run_whose_schedule_ends_with_it_cannot_be_made_longer(tmp_path: Any) -> None:
    make(max_epochs=1, schedule="cosine").fit(X, Y, run_folder=tmp_path)
    with pytest.raises(Exception, match="max_epochs was 1 and is 2"):
        make(max_epochs=2, schedule="cosine").fit(X, Y, run_folder=tmp_path, resume=True)


def test_class_weights_are_saved_as_json_holds_them(tmp_path: Any) -> None:
    numbers = [int(label == "positive") for label in Y]
    model = make(class_weight={1: 2.0}, max_epochs=1).fit(X, numbers)
    loaded = type(model).load(model.save(tmp_path / "model.tg"))
    assert loaded.class_weight == {"1": 2.0}
    again = loaded.set_params(device="cpu").fit(X, numbers)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
