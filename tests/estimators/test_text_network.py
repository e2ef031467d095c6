from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from estimators.test_text_classifier import X, Y, make, reviews
from tidegate.data.encoder import TextEncoder
from tidegate.errors import BundleError
from tidegate.training import language
from tidegate.training.batches import EncodedBatches
from tidegate.training.language import pretrain


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The ids of every text of every batch that was made, and whether it was for learning."""
    rows: list[list[int]] = []
    epoch = EncodedBatches.epoch

    def watched(self: Any, number: int) -> Any:
        for batch in epoch(self, number):
            if self.sampler.shuffle:
                rows.extend(batch.values[batch.ragged.row_of == row].tolist() for row in range(batch.num_rows))
            yield batch

    monkeypatch.setattr(EncodedBatches, "epoch", watched)
    return rows


def test_texts_are_changed_in_learning_alone_and_a_share_of_them(seen: list[list[int]]) -> None:
    def changed(**options: Any) -> float:
        seen.clear()
        model = make(max_epochs=2, validation_fraction=0, **options).fit(X, Y)
        whole = {tuple(ids.tolist()) for ids in model.encoder_.encode(X).ids}
        return float(np.mean([tuple(ids) not in whole for ids in seen]))

    assert changed() == 0
    everywhere = changed(augment_swap=0.5)
    assert everywhere > 0.7
    assert 0 < changed(augment_swap=0.5, augment_share=0.3) < 0.6 * everywhere


def test_synonyms_of_a_file_are_what_replaces(seen: list[list[int]], tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("great,lovely\nthe,unheard-of\n", encoding="utf-8")
    model = make(max_epochs=2, validation_fraction=0, augment_replace=0.5, synonyms=str(path)).fit(X, Y)
    index = model.encoder_.vocabulary.index
    pair = {index["great"], index["lovely"]}
    plain = sorted(
        tuple(0 if token in pair else token for token in ids) for ids in map(list, model.encoder_.encode(X).ids)
    )
    found = sorted(tuple(0 if token in pair else token for token in ids) for ids in seen)
    assert found == sorted([*plain, *plain])
    originals = {tuple(ids.tolist()) for ids in model.encoder_.encode(X).ids}
    assert any(tuple(ids) not in originals for ids in seen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment_delete": 1.0}, "augment_delete must be in"),
        ({"augment_share": 0.5}, "augment_share=0.5 has no effect"),
        ({"synonyms": "x.txt"}, "synonyms has no effect without augment_insert or augment_replace"),
        ({"synonyms": "x.txt", "augment_insert": 0.1}, "x.txt: the file of synonyms cannot be read"),
        ({"pretrain_epochs": -1}, "pretrain_epochs must be a whole number of at least 0; found -1"),
        ({"pretrain_epochs": 1, "num_layers": 2}, "a language model needs one bidirectional layer"),
    ],
)
def test_augmentation_and_pretraining_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes).fit(X, Y)


def test_unlabelled_texts_give_tokens_and_need_pretraining() -> None:
    texts = ["an unheardof film", "an unheardof story"]
    model = make(max_epochs=1, pretrain_epochs=1).fit(X, Y, unlabelled=texts)
    assert "unheardof" in model.encoder_.vocabulary.index
    with pytest.raises(ValueError, match="unlabelled texts have no effect without pretrain_epochs"):
        make(max_epochs=1).fit(X, Y, unlabelled=texts)


def test_rates_fall_with_depth_only_where_something_was_learned_before(monkeypatch: pytest.MonkeyPatch) -> None:
    decays = {}

    def watched(model: Any, ids: Any, settings: Any, **options: Any) -> Any:
        decays[len(decays)] = settings.layer_rate_decay, settings.max_epochs
        return pretrain(model, ids, settings, **options)

    monkeypatch.setattr(language, "pretrain", watched)
    make(max_epochs=1, pretrain_epochs=2, adapt_epochs=1, layer_rate_decay=0.25).fit(X, Y)
    assert decays == {0: (1.0, 2), 1: (0.25, 1)}


def test_pretraining_moves_the_encoder_and_resumes_as_it_was(tmp_path: Path) -> None:
    options: dict[str, Any] = {"pretrain_epochs": 1, "adapt_epochs": 1, "max_epochs": 2}
    still = {"max_epochs": 1, "learning_rate": 1e-12, "optimizer": "sgd"}
    assert np.allclose(
        make(**still).fit(X, Y).network_.embedding.weight.detach(),
        make(**{**still, "pretrain_epochs": 1}).fit(X, Y).network_.embedding.weight.detach(),
    )
    whole = make(**options).fit(X, Y, run_folder=tmp_path / "whole")
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {"pretrain", "adapt", "checkpoints", "epochs.csv"}
    make(**{**options, "max_epochs": 1}).fit(X, Y, run_folder=tmp_path / "broken")
    resumed = make(**options).fit(X, Y, run_folder=tmp_path / "broken", resume=True)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


# --- from another model


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts, labels = reviews(60, seed=5)
    return (
        make(max_epochs=2)
        .fit([*texts, "elsewhere"], [*labels, "positive"])
        .save(tmp_path_factory.mktemp("other") / "other.tg")
    )


def test_tokens_take_their_vectors_over_by_name_and_new_ones_begin_at_the_mean(other: Path) -> None:
    theirs = make().load(other)
    table = theirs.network_.embedding.weight.detach().numpy()
    texts = [f"{text} newcomer" for text in X]
    model = make(init_from=str(other), max_epochs=1, learning_rate=1e-12, optimizer="sgd").fit(texts, Y)
    own = model.network_.embedding.weight.detach().numpy()
    tokens, index = model.encoder_.vocabulary.tokens, theirs.encoder_.vocabulary.index
    assert sum(token in index for token in tokens) > 10
    for place, token in enumerate(tokens):
        expected = table[index[token]] if token in index else table.mean(0)
        np.testing.assert_allclose(own[place], expected, atol=1e-6, err_msg=token)
    for name, weight in theirs.network_.named_parameters():
        if name.startswith(("encoder.", "attention.")):
            np.testing.assert_allclose(model.network_.get_parameter(name).detach(), weight.detach(), atol=1e-6)
    assert not np.allclose(
        model.network_.head.projection.weight.detach(), theirs.network_.head.projection.weight.detach()
    )


def test_a_model_of_another_architecture_is_refused_by_what_differs(other: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"hidden_size": 9}, r"encoder\.layers\.0\.weight_ih_l0 of shape \(24, 12\) where this one has \(27, 12\)"),
        ({"cell": "lstm"}, "another architecture"),
        ({"num_layers": 2}, r"no encoder\.layers\.1\.weight_ih_l0"),
        ({"bidirectional": False}, r"weight_ih_l0_reverse as well"),
        ({"embedding_size": 13}, "vectors of 12 features where this one has 13"),
    ):
        with pytest.raises(BundleError, match=message):
            make(init_from=str(other), **changes).fit(X, Y)
    with pytest.raises(BundleError, match="no such file"):
        make(init_from=str(tmp_path / "none.tg")).fit(X, Y)
    assert make(init_from=str(other), pooling="mean", max_epochs=1).fit(X, Y).best_epoch_ == 1
    assert isinstance(make().fit(X[:20], Y[:20]).encoder_, TextEncoder)
