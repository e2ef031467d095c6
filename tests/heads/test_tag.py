from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.data.tag_schemes import segment_tables, spans_of, transition_masks
from tidegate.data.tagging_batch import TaggingBatch, make_tagging_batch
from tidegate.data.token_encoder import CASES, TokenEncoder
from tidegate.heads.tag import Segments, TaggingHead, TaggingNetwork
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths, to_batch_major

TAGS = ["O", "B-A", "I-A", "B-B", "I-B"]
SENTENCES = [["Ada", "met", "Bo", "x"], ["y"], ["Bo", "met", "Ada"]]
SIZES: dict[str, Any] = {
    "cell": "gru",
    "embedding_size": 6,
    "char_encoder": "cnn",
    "char_embedding_size": 4,
    "char_hidden_size": 6,
    "bigram_embedding_size": 3,
    "hidden_size": 5,
    "num_layers": 2,
    "bidirectional": True,
    "output_layer": "crf",
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "word_dropout": 0.0,
}


def masks() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    follow, first, last = (torch.from_numpy(mask) for mask in transition_masks(TAGS, "bio"))
    return follow, first, last


def tables(names: list[str]) -> Segments:
    begins, ends, types = (torch.from_numpy(table) for table in segment_tables(names))
    return Segments(begins, ends, types)


def encoder(use_bigrams: bool = True) -> TokenEncoder:
    return TokenEncoder.fit(
        SENTENCES, lowercase=True, replace_digits=False, max_vocabulary=99, min_count=1, use_bigrams=use_bigrams
    )


def network(**changed: Any) -> TaggingNetwork:
    torch.manual_seed(0)
    fitted = encoder()
    assert fitted.bigrams is not None
    sizes: dict[str, Any] = {
        "num_words": len(fitted.words),
        "num_extra_words": 0,
        "num_characters": len(fitted.characters),
        "num_cases": len(CASES),
        "num_bigrams": len(fitted.bigrams),
        "num_tags": len(TAGS),
        "num_intents": 0,
        "masks": masks(),
    }
    return TaggingNetwork(**{**sizes, **SIZES, **changed})


def batch(tags: list[list[int]] | None = None, intents: list[int] | None = None, **options: Any) -> TaggingBatch:
    rows = np.arange(len(SENTENCES))
    numbers = None if tags is None else [np.array(row) for row in tags]
    labels = None if intents is None else np.array(intents)
    return make_tagging_batch(encoder().encode(SENTENCES), rows, numbers, labels, **options)


GOLD = [[1, 0, 3, 4], [0], [3, 0, 1]]

# --- counting segments


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(range(5)), max_size=6), min_size=1, max_size=4))
def test_keys_of_segments_are_those_of_spans_of(rows):
    flat = torch.tensor([tag for row in rows for tag in row], dtype=torch.int64)
    keys = tables(TAGS).keys(flat, torch.tensor([len(row) for row in rows]))
    start = 0
    for row in rows:
        spans = spans_of([TAGS[tag] for tag in row])
        own = keys[start : start + len(row)].tolist()
        assert [place for place, key in enumerate(own) if key >= 0] == [span.start for span in spans]
        for one, other in itertools.product(spans, spans):
            same = (one.end - one.start, one.type) == (other.end - other.start, other.type)
            assert (own[one.start] == own[other.start]) == same
        start += len(row)


# --- the head


def test_the_loss_is_that_of_all_legal_sequences_by_hand():
    torch.manual_seed(1)
    head = TaggingHead(4, len(TAGS), "crf", masks()).double()
    ragged = ragged_from_lengths([3, 1])
    emissions = torch.randn(4, len(TAGS), dtype=torch.double)
    tags = from_batch_major(torch.tensor([1, 2, 0, 3]), ragged)
    total, count = head.loss(emissions, tags, ragged, torch.tensor([1.0, 3.0], dtype=torch.double))
    assert head.crf is not None
    follow, first, _ = masks()
    rows = torch.split(to_batch_major(emissions, ragged), [3, 1])
    expected = 0.0
    for row, gold, weight in zip(rows, [[1, 2, 0], [3]], [1.0, 3.0], strict=True):
        scores = {}
        for path in itertools.product(range(len(TAGS)), repeat=len(row)):
            if first[path[0]] and all(follow[a, b] for a, b in itertools.pairwise(path)):
                score = head.crf.start_transitions[path[0]] + head.crf.end_transitions[path[-1]]
                score = score + sum(row[t, tag] for t, tag in enumerate(path))
                scores[path] = score + sum(head.crf.transitions[a, b] for a, b in itertools.pairwise(path))
        partition = torch.logsumexp(torch.stack([torch.as_tensor(score) for score in scores.values()]), 0)
        expected += weight * (partition - scores[tuple(gold)])
    torch.testing.assert_close(total, torch.as_tensor(expected))
    assert count.item() == 4.0


def test_softmax_judges_each_token_by_itself():
    head = TaggingHead(4, 3, "softmax")
    ragged = ragged_from_lengths([2, 1])
    emissions = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    tags = torch.tensor([2, 0, 1])
    total, count = head.loss(emissions, tags, ragged, torch.ones(2))
    expected = -emissions.log_softmax(1)[torch.arange(3), tags].sum()
    torch.testing.assert_close(total, expected)
    assert count.item() == 2
    assert head.decode(emissions, ragged).tolist() == [2, 0, 0]
    torch.testing.assert_close(head.marginals(emissions, ragged), emissions.softmax(1))
    torch.testing.assert_close(head.log_partition(emissions, ragged).sum(), emissions.logsumexp(1).sum())
    with pytest.raises(ValueError, match="Did you mean 'crf'"):
        TaggingHead(4, 3, "crff")


# --- the network


def test_a_sentence_is_tagged_the_same_alone():
    net = network().eval()
    together = to_batch_major(net(batch())[0], batch().ragged)
    start = 0
    for number, tokens in enumerate(SENTENCES):
        alone = make_tagging_batch(encoder().encode(SENTENCES), np.array([number]))
        torch.testing.assert_close(net(alone)[0], together[start : start + len(tokens)], atol=1e-5, rtol=1e-5)
        start += len(tokens)


@pytest.mark.parametrize(
    ("changed", "narrower"),
    [({"char_encoder": None}, 6), ({"num_cases": 0}, len(CASES)), ({"num_bigrams": 0}, 3)],
)
def test_each_feature_can_be_left_out(changed: dict[str, Any], narrower: int):
    assert network().features(batch()).shape[1] - network(**changed).features(batch()).shape[1] == narrower


def test_words_outside_training_have_the_vectors_that_were_given():
    net = network(num_extra_words=2).eval()
    net.start_from(torch.randn(net.words.weight.shape), torch.arange(12.0).view(2, 6))
    known = net.words.weight.shape[0]
    found = net._word_vectors(torch.tensor([known + 1, 1, known]))
    assert found[0].tolist() == [6.0, 7, 8, 9, 10, 11]
    assert found[2].tolist() == [0.0, 1, 2, 3, 4, 5]
    assert torch.equal(found[1], net.words.weight[1])
    assert "extra_words" not in dict(net.named_parameters())


def test_training_lowers_the_loss_and_every_part_learns():
    net = network(num_intents=2).train()
    data = batch(GOLD, [0, 1, 1])
    optimizer = torch.optim.AdamW(net.parameters(), 0.02)
    losses = []
    for _ in range(60):
        total, count = net.loss(data)
        optimizer.zero_grad()
        (total / count).backward()
        if not losses:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.1 * losses[0]
    decoded = net.head.decode(net.eval()(data)[0], data.ragged)
    assert to_batch_major(decoded, data.ragged).tolist() == [tag for row in GOLD for tag in row]


def test_measures_count_segments_tokens_and_intents():
    net = network(num_intents=2).eval()
    net.segments = tables(TAGS)
    data = batch(GOLD, [0, 1, 1], weights=np.array([1.0, 2.0, 0.0]))
    emissions, logits = net(data)
    predicted = torch.split(to_batch_major(net.head.decode(emissions, data.ragged), data.ragged), [4, 1, 3])
    measured = {name: (total.item(), count.item()) for name, (total, count) in net.measure(data).items()}
    right = there = found = tokens = 0.0
    for row, gold, weight in zip(predicted, GOLD, [1.0, 2.0, 0.0], strict=True):
        truth, said = ({*spans_of([TAGS[tag] for tag in tags])} for tags in (gold, row.tolist()))
        right += weight * len(truth & said)
        there, found = there + weight * len(truth), found + weight * len(said)
        tokens += weight * sum(a == b for a, b in zip(gold, row.tolist(), strict=True))
    assert measured["f1"] == pytest.approx((2 * right, there + found))
    assert measured["accuracy"] == pytest.approx((tokens, 4 + 2))
    hits = (logits.argmax(1) == torch.tensor([0, 1, 1])).float() * torch.tensor([1.0, 2.0, 0.0])
    assert measured["intent_accuracy"] == pytest.approx((hits.sum().item(), 3.0))
    assert measured["loss"][1] == 3.0
    whole = [row.tolist() == gold for row, gold in zip(predicted, GOLD, strict=True)]
    expected = sum(
        w * a * b
        for w, a, b in zip([1.0, 2.0, 0.0], whole, (logits.argmax(1) == torch.tensor([0, 1, 1])).tolist(), strict=True)
    )
    assert measured["sentence_accuracy"] == pytest.approx((expected, 3.0))


def test_a_tag_that_the_model_lacks_is_an_error_and_out_of_the_loss():
    net = network().eval()
    net.segments = tables([*TAGS, "B-C"])
    measured = net.measure(batch([[1, 0, 3, 4], [5], [3, 0, 1]]))
    assert measured["loss"][1].item() == 2
    assert torch.isfinite(measured["loss"][0])
    assert measured["accuracy"][1].item() == 8
    # Five segments are there, the one of the unknown type among them.
    predicted = to_batch_major(net.head.decode(net(batch())[0], batch().ragged), batch().ragged)
    said = int((net.segments.keys(predicted, torch.tensor([4, 1, 3])) >= 0).sum())
    assert measured["f1"][1].item() == 5 + said


def test_what_a_loss_needs():
    with pytest.raises(ValueError, match="a loss needs targets"):
        network().loss(batch())
    with pytest.raises(ValueError, match="learns intents; the batch has none"):
        network(num_intents=2).loss(batch(GOLD))


@pytest.mark.parametrize(
    ("pooling", "of_steps"),
    [
        ("max", lambda steps: steps.amax(0)),
        ("mean", lambda steps: steps.mean(0)),
        ("last", lambda steps: torch.cat([steps[-1, :5], steps[0, 5:]])),
    ],
)
def test_intents_are_told_from_what_the_pooling_says(pooling: str, of_steps: Any):
    net = network(num_intents=3, intent_pooling=pooling).eval()
    assert net.attention is None and net.intents is not None
    given = batch(GOLD)
    steps = to_batch_major(net.encoder.encode(net.features(given), given.ragged)[0], given.ragged)
    expected = torch.stack([of_steps(row) for row in steps.split(given.ragged.lengths.tolist())])
    logits = net(given)[1]
    assert logits is not None
    torch.testing.assert_close(logits, net.intents.projection(expected))


def test_the_intents_loss_has_its_weight():
    losses = [network(num_intents=2, intent_weight=weight).loss(batch(GOLD, [0, 1, 0]))[0] for weight in (1e-9, 1, 3)]
    tags_alone, once, thrice = (loss.item() for loss in losses)
    assert once > tags_alone
    assert thrice - tags_alone == pytest.approx(3 * (once - tags_alone), rel=1e-4)
