from __future__ import annotations

import pytest
import torch

from tidegate.layers.embedding import TokenEmbedding


def test_values_and_gradient_equal_torch_embedding() -> None:
    torch.manual_seed(0)
    ours, theirs = TokenEmbedding(11, 5), torch.nn.Embedding(11, 5)
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([3, 0, 3, 10, 7])
    upstream = torch.randn(5, 5)
    assert torch.equal(ours(ids), theirs(ids))
    ours(ids).backward(upstream)
    theirs(ids).backward(upstream)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_word_dropout_replaces_whole_tokens_by_the_unknown_one_in_training_only() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(5, 4, word_dropout=0.3, unknown_id=2)
    ids = torch.full((20000,), 4)
    vectors = embedding(ids)
    unknown = (vectors == embedding.weight[2]).all(1)
    kept = (vectors == embedding.weight[4]).all(1)
    assert bool((unknown ^ kept).all())
    assert abs(unknown.double().mean().item() - 0.3) < 0.02
    assert torch.equal(embedding.eval()(ids), embedding.weight[4].expand(20000, 4))


def test_dropout_acts_on_single_features() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(5, 400, dropout=0.5)
    dropped = embedding(torch.tensor([1, 1])) == 0
    assert 100 < int(dropped[0].sum()) < 300
    assert not torch.equal(dropped[0], dropped[1])
    assert not (embedding.eval()(torch.tensor([1, 1])) == 0).any()


def test_rates_are_checked() -> None:
    with pytest.raises(ValueError, match="word_dropout must be in"):
        TokenEmbedding(3, 2, word_dropout=1.0)
    with pytest.raises(ValueError, match="dropout must be in"):
        TokenEmbedding(3, 2, dropout=-0.5)


def test_no_tokens() -> None:
    assert TokenEmbedding(3, 2, dropout=0.2, word_dropout=0.2)(torch.zeros(0, dtype=torch.int64)).shape == (0, 2)
