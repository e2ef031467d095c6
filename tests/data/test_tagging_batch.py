from __future__ import annotations

import numpy as np
import torch

from tidegate.data.tagging_batch import TaggingBatches, make_tagging_batch
from tidegate.data.token_encoder import TokenEncoder
from tidegate.kernels.ragged import to_batch_major

SENTENCES = [["b", "ab", "b"], ["Abc"], ["c", "b", "ab", "Abc", "c"], ["b", "b"]]
TAGS = [np.arange(len(row)) + 10 * number for number, row in enumerate(SENTENCES)]


def encoder() -> TokenEncoder:
    return TokenEncoder.fit(
        SENTENCES, lowercase=False, replace_digits=False, max_vocabulary=99, min_count=1, use_bigrams=True
    )


def test_each_token_keeps_its_word_characters_and_tag():
    fitted = encoder()
    encoded = fitted.encode(SENTENCES)
    rows = np.array([2, 0, 3])
    intents, weights = np.array([5, 6, 7, 8]), np.array([1.0, 2.0, 0.5, 4.0])
    batch = make_tagging_batch(encoded, rows, TAGS, intents, weights)
    words = to_batch_major(batch.values, batch.ragged).tolist()
    tokens = [token for row in rows for token in SENTENCES[row]]
    assert [fitted.words.tokens[word] for word in words] == tokens
    assert batch.targets is not None and batch.bigrams is not None
    assert to_batch_major(batch.targets, batch.ragged).tolist() == [20, 21, 22, 23, 24, 0, 1, 2, 30, 31]
    pairs = [fitted.bigrams.tokens[number] for number in to_batch_major(batch.bigrams, batch.ragged)]  # pyright: ignore
    assert pairs[:3] == ["c\nb", "b\nab", "ab\nAbc"]
    assert batch.intents is not None and batch.intents.tolist() == [7, 5, 8]
    assert batch.weights is not None and batch.weights.tolist() == [0.5, 1.0, 4.0]
    assert batch.origin.tolist() == [2, 0, 3]
    # Forms: each once, its characters in order; "Abc" stands in the batch by row 2 alone.
    starts = np.concatenate([[0], np.cumsum(batch.form_lengths.numpy())])
    spelled = [
        "".join(fitted.characters.tokens[letter] for letter in batch.characters[starts[form] : starts[form + 1]])
        for form in to_batch_major(batch.form_of, batch.ragged).tolist()
    ]
    assert spelled == tokens
    assert len(batch.form_lengths) == 4
    assert (batch.num_rows, batch.num_values) == (3, 10)


def test_it_moves_whole():
    batch = make_tagging_batch(encoder().encode(SENTENCES), np.array([0, 1]), TAGS)
    moved = batch.to("cpu")
    assert torch.equal(moved.characters, batch.characters)
    assert moved.weights is None and moved.intents is None


def test_an_epoch_has_every_sentence_once_and_repeats():
    encoded = encoder().encode(SENTENCES)
    batches = TaggingBatches(encoded, TAGS, None, None, batch_size=3, random_state=1, shuffle=True)
    first = [batch.origin.tolist() for batch in batches.epoch(0)]
    assert sorted(row for rows in first for row in rows) == [0, 1, 2, 3]
    assert first == [batch.origin.tolist() for batch in batches.epoch(0)]
    assert len(batches) == 2
