"""A student learns from a teacher's probabilities: the mixture of losses, soft targets alone, unlabelled texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tidegate
from estimators.test_text_classifier import X, Y, make, reviews
from tidegate import TextStack, jobs
from tidegate.config import load_recipe
from tidegate.errors import BundleError, DataError, RecipeError
from tidegate.estimators.linear_text_classifier import LinearTextClassifier
from tidegate.estimators.sequence_tagger import SequenceTagger
from tidegate.heads.classify import ClassificationHead, DistillationHead, SequenceClassifier
from tiny_reviews import rows, write_csv, write_tiny
from tiny_tags import tiny_sentences

TEST = reviews(60, seed=1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of a linear and a recurrent classifier in one file."""
    models = [LinearTextClassifier(C=1.0, random_state=0).fit(X, Y), make(max_epochs=3).fit(X, Y)]
    return TextStack.join(models, weights="equal").save(tmp_path_factory.mktemp("teacher") / "teacher.tg")


def head(**changes: Any) -> DistillationHead:
    arguments: dict[str, Any] = {"teacher_temperature": 3.0, "teacher_weight": 0.3, **changes}
    return DistillationHead(4, 3, 0.0, 0.1, 0.0, **arguments)


def test_the_loss_is_the_mixture_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    told = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    told /= told.sum(1, keepdim=True)
    labels = torch.tensor([0, 2, 1, 1, 0])
    targets = torch.cat([labels[:, None].double(), told], dim=1)
    targets[3, 0] = torch.nan  # a text without a label
    losses = head().losses(logits, targets)
    for row in range(5):
        p = [float(value) for value in torch.softmax(logits[row], 0)]
        own = -sum((0.9 * (number == int(labels[row])) + 0.1 / 3) * np.log(p[number]) for number in range(3))
        warm = np.exp(logits[row].numpy() / 3.0)
        warm /= warm.sum()
        soft = told[row].numpy() ** (1 / 3.0)
        soft /= soft.sum()
        taught = 9.0 * -(soft * np.log(warm)).sum()
        wanted = 0.3 * taught + (0.0 if row == 3 else 0.7 * own)
        assert float(losses[row]) == pytest.approx(wanted, rel=1e-6)
    plain = ClassificationHead(4, 3, 0.0, 0.1)
    torch.testing.assert_close(head().losses(logits, labels), plain.losses(logits, labels))
    assert head().eval().measure(logits, labels)["accuracy"].tolist() == (logits.argmax(1) == labels).double().tolist()


def test_the_loss_is_least_where_the_student_says_what_the_teacher_does() -> None:
    told = torch.tensor([[0.7, 0.2, 0.1]])
    targets = torch.cat([torch.tensor([[torch.nan]]), told], dim=1)
    logits = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(150):
        optimizer.zero_grad()
        head(teacher_weight=1.0).losses(logits, targets).sum().backward()
        optimizer.step()
    torch.testing.assert_close(torch.softmax(logits.detach(), 1), told, atol=1e-3, rtol=0)


def test_a_student_learns_from_soft_targets_alone(teacher: Path) -> None:
    # Labels that say the opposite: with all of the weight on the teacher they choose no more than the epoch.
    wrong = [next(other for other in set(Y) if other != label) for label in Y]
    student = make(teacher=str(teacher), teacher_weight=1.0, max_epochs=6).fit(X, wrong, validation_data=TEST)
    assert student.score(*TEST) > 0.9
    without = make(max_epochs=3).fit(X, wrong, validation_data=TEST)
    assert without.score(*TEST) < 0.6
    said = tidegate.load(teacher).predict_proba(TEST[0])
    assert np.corrcoef(student.predict_proba(TEST[0])[:, 1], said[:, 1])[0, 1] > 0.9


def test_unlabelled_texts_are_taught_and_labelled_ones_held_out(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    loss = SequenceClassifier.loss

    def spy(self: Any, batch: Any) -> Any:
        seen.append(batch.targets)
        return loss(self, batch)

    monkeypatch.setattr(SequenceClassifier, "loss", spy)
    few, labels = X[:20], Y[:20]
    more, _ = reviews(100, seed=7)
    arguments: dict[str, Any] = {"teacher": str(teacher), "max_epochs": 6, "class_weight": "balanced"}
    student = make(**arguments).fit(few, labels, np.ones(20), unlabelled=more)
    targets = torch.cat(seen)[: len(torch.cat(seen)) // len(student.history_)]
    assert int(targets[:, 0].isnan().sum()) == 100
    held = len(student.token_lengths["validation"])
    assert 0 < held < 6 and len(targets) == 120 - held
    assert student.score(*TEST) > make(max_epochs=6).fit(few, labels).score(*TEST)


def test_what_a_student_learned_is_saved_without_its_teacher(teacher: Path, tmp_path: Path) -> None:
    student = make(max_epochs=2, teacher=str(teacher), teacher_temperature=4.0).fit(X, Y)
    path = student.save(tmp_path / "student.tg")
    moved = teacher.rename(teacher.with_suffix(".away"))
    try:
        loaded = tidegate.load(path)
        np.testing.assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))
        assert loaded.teacher_temperature == 4.0
        with pytest.raises(BundleError, match="no such file"):
            make(teacher=str(teacher)).fit(X, Y)
    finally:
        moved.rename(teacher)


def test_what_is_no_teacher_is_refused(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"teacher_weight=0\.5 has no effect without teacher"):
        make(teacher_weight=0.5).fit(X, Y)
    for changes, message in (
        ({"teacher_weight": 0.0}, "teacher_weight must be above 0 and at most 1"),
        ({"teacher_temperature": -1.0}, "teacher_temperature must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make(teacher=str(teacher), **changes).fit(X, Y)
    with pytest.raises(DataError, match=r"has the labels \['negative', 'positive'\], and y has \[0, 1\]"):
        make(teacher=str(teacher)).fit(X, [int(label == "positive") for label in Y])
    words, tags, _ = tiny_sentences(20)
    tagger = SequenceTagger(max_epochs=1, hidden_size=4, embedding_size=4, device="cpu", verbose=False).fit(words, tags)
    with pytest.raises(DataError, match="expected a classifier that gives a text one label, found 'sequence-tagger'"):
        make(teacher=str(tagger.save(tmp_path / "tagger.tg"))).fit(X, Y)


def test_a_recipe_distils_an_ensemble_with_unlabelled_texts(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path)
    short = ["output.baseline=false", "output.report=false"]
    ensemble = jobs.train(load_recipe(recipe, overrides=short), out=tmp_path / "ensemble", members=2)
    write_csv(tmp_path / "more.csv", rows(60, 9))
    keys = [*short, "training.teacher=ensemble/model.tg", "training.teacher_weight=1.0", "data.unlabelled=more.csv"]
    run = jobs.train(load_recipe(recipe, overrides=keys), out=tmp_path / "student")
    assert run.test is not None and ensemble.test is not None
    assert run.test["accuracy"] > 0.9
    again = load_recipe(tmp_path / "student" / "recipe.yaml").arguments
    assert again["teacher"] == str(ensemble.model) and again["teacher_weight"] == 1.0
    with pytest.raises(RecipeError, match=r"training\.teacher: expected a file or folder, found none"):
        load_recipe(recipe, overrides=["training.teacher=none.tg"])
