from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tidegate.data.batch import make_batch
from tidegate.heads.language import LanguageHead, LanguageModel, adaptive_cutoffs
from tidegate.kernels.ragged import ragged_from_lengths
from tidegate.layers.embedding import TokenEmbedding
from tidegate.layers.stack import RecurrentStack
from tidegate.training.language import StreamBatches

IDS = [np.array([1, 2, 3, 4]), np.array([5]), np.array([], dtype=np.int64), np.array([6, 7, 1])]


def model(cell: str = "gru", bidirectional: bool = False, **changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    embedding = TokenEmbedding(9, 5)
    return LanguageModel(embedding, RecurrentStack(cell, 5, 4, 1, bidirectional), **changes)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_the_loss_is_that_of_each_next_token_of_each_text_alone(bidirectional: bool, tied: bool) -> None:
    language = model(bidirectional=bidirectional, tied=tied)
    weights = np.array([1.0, 2.0, 3.0, 0.5])
    total, count = language.loss(make_batch(IDS, None, weights))
    expected, number = torch.zeros(()), 0.0
    for row, weight in zip(IDS, weights, strict=True):
        if not len(row):
            continue
        ids = torch.from_numpy(row)
        output, _ = language.encoder.forward_ragged(language.embedding(ids), ragged_from_lengths([len(row)]))
        for place in range(len(row) - 1):
            told = language.head.log_probabilities(output[place, :4][None])[0, ids[place + 1]]
            expected, number = expected - weight * told, number + weight
        for place in range(1, len(row) if bidirectional else 0):
            told = language.head.log_probabilities(output[place, 4:][None])[0, ids[place - 1]]
            expected, number = expected - weight * told, number + weight
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert count.item() == number


def test_no_half_sees_what_it_predicts() -> None:
    language = model(bidirectional=True).eval()
    changed = [np.array([1, 2, 8, 4]), *IDS[1:]]
    (first, _), (second, _) = (language(b.values, b.ragged) for b in (make_batch(IDS), make_batch(changed)))
    batch = make_batch(IDS)
    of_row = (batch.ragged.row_of == 0).nonzero().squeeze(1)
    forward, backward = (first - second)[of_row].abs().sum(1), None
    forward = (first - second)[of_row][:, :4].abs().sum(1)
    backward = (first - second)[of_row][:, 4:].abs().sum(1)
    assert (forward[:2] == 0).all() and (forward[2:] > 0).all()
    assert (backward[3:] == 0).all() and (backward[:3] > 0).all()


def test_a_tied_output_learns_the_embedding_and_holds_no_second_table() -> None:
    language = model(tied=True)
    names = dict(language.named_parameters())
    assert sum(parameter.shape[0] == 9 and parameter.dim() == 2 for parameter in names.values()) == 1
    language.head.losses(torch.randn(3, 4), torch.tensor([1, 2, 3])).sum().backward()
    assert language.embedding.weight.grad is not None and language.embedding.weight.grad.abs().sum() > 0


def test_the_adaptive_softmax_is_a_distribution_and_its_loss_that_of_it() -> None:
    torch.manual_seed(1)
    head = LanguageHead(6, 50, tied=None, cutoffs=[10, 30])
    states, targets = torch.randn(20, 6), torch.arange(0, 50, 50 // 20)[:20]
    told = head.log_probabilities(states)
    torch.testing.assert_close(told.exp().sum(1), torch.ones(20))
    torch.testing.assert_close(head.losses(states, targets), -told[torch.arange(20), targets])
    assert head.losses(states[:0], targets[:0]).shape == (0,)
    assert adaptive_cutoffs(25000) == [625, 2500, 10000]
    assert adaptive_cutoffs(6000) == [500, 2000]
    assert adaptive_cutoffs(500) == []


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_running_text_in_pieces_is_the_whole_text_with_truncated_gradients(cell: str) -> None:
    language = model(cell)
    ids = np.random.default_rng(0).integers(1, 9, size=2 * 10 + 1)
    pieces = list(StreamBatches(ids, rows=2, steps=4).epoch(0))
    assert [piece.num_values for piece in pieces] == [8, 8, 4]
    states, total, count = None, 0.0, 0.0
    for piece in pieces:
        (loss, number), states = language.stream_loss(piece, states)
        total, count = total + loss.item(), count + number.item()
        leaves = [states] if isinstance(states, torch.Tensor) else list(torch.utils._pytree.tree_leaves(states))
        assert not any(leaf.requires_grad for leaf in leaves)
    (whole,) = StreamBatches(ids, rows=2, steps=10).epoch(0)
    (expected, number), _ = language.stream_loss(whole, None)
    assert (total, count) == (pytest.approx(expected.item(), rel=1e-5), number.item()) == (pytest.approx(total), 20)
    # The rows are the two halves of the text, and each target the token after its input.
    assert whole.values.view(10, 2)[:, 0].tolist() == ids[:10].tolist()
    assert whole.targets.view(10, 2)[:, 1].tolist() == ids[11:21].tolist()
    # Gradients of a later piece stop at its beginning.
    first, second = pieces[:2]
    (_, _), states = language.stream_loss(first, None)
    language.zero_grad()
    language.stream_loss(second, states)[0][0].backward()
    of_second = language.embedding.weight.grad.clone()
    only_first = sorted(set(first.values.tolist()) - set(second.values.tolist()))
    if not language.head._tied:
        assert (of_second[only_first] == 0).all()


def test_what_cannot_be_a_language_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of 2 bidirectional ones the second sees .* set num_layers=1"):
        LanguageModel(TokenEmbedding(9, 5), RecurrentStack("gru", 5, 4, 2, True))
    with pytest.raises(ValueError, match="expected tied=None with cutoffs"):
        LanguageHead(4, 9, tied=TokenEmbedding(9, 5), cutoffs=[3])
    with pytest.raises(ValueError, match="read forward alone"):
        model(bidirectional=True).stream_loss(next(StreamBatches(np.arange(9), rows=1, steps=4).epoch(0)), None)
    with pytest.raises(ValueError, match="too few for 4 rows"):
        StreamBatches(np.arange(4), rows=4, steps=2)
