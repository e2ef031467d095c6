from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tidegate.data.ranking_batch import Candidates, RankingBatches, make_ranking_batch
from tidegate.heads.rank import PairRanker


def network(seed: int = 0, **changes: Any) -> PairRanker:
    torch.manual_seed(seed)
    settings = {
        "embedding_size": 6,
        "hidden_size": 5,
        "num_layers": 1,
        "cell": "gru",
        "bidirectional": True,
        "match_size": 4,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
    }
    made = PairRanker(20, **{**settings, **changes}).double()
    with torch.no_grad():
        made.judge.weight.normal_()
        made.token_weights.normal_()
        made.whole_scale.fill_(0.7)
    return made


def group(lengths: list[int], query: list[int], seed: int, relevant: list[int]) -> Candidates:
    generator = np.random.default_rng(seed)
    documents = [generator.integers(0, 20, length) for length in lengths]
    lexical = generator.normal(size=len(lengths)).astype(np.float32)
    return Candidates(np.array(query), documents, lexical, np.isin(np.arange(len(lengths)), relevant))


GROUPS = [
    group([5, 0, 9, 3], [3, 4, 3], 0, [2]),
    group([2, 7], [5], 1, [0]),
    group([1, 4, 6], [7, 8, 9, 1, 2], 2, [0, 1]),
]


def plain_score(model: PairRanker, query: np.ndarray, document: np.ndarray, lexical: float) -> float:
    """The formulas of the class, one token at a time, the encoder run over each text alone."""

    def matches(ids: np.ndarray) -> torch.Tensor:
        embedded = model.embedding.weight[torch.from_numpy(ids)]
        states, _ = model.encoder(embedded[:, None])
        return embedded @ model.project_embedding.weight.T + states[:, 0] @ model.project_state.weight.T

    def whole(ids: np.ndarray) -> torch.Tensor:
        vectors = [model.embedding.weight[token] for token in ids.tolist()]
        shares = [functional.softplus(model.token_weights[token]) for token in ids.tolist()]
        return torch.stack([share * vector / vector.norm() for share, vector in zip(shares, vectors, strict=True)]).sum(
            0
        )

    score = model.lexical_scale * lexical
    if len(document):
        score = score + model.whole_scale * functional.cosine_similarity(whole(query), whole(document), dim=0)
    if not len(document):
        return float(score)
    q, d = matches(query), matches(document)
    total, norm = 0.0, 0.0
    for place, token in enumerate(query):
        cosines = torch.stack([functional.cosine_similarity(q[place], other, dim=0) for other in d])
        found = (model.sharpness * cosines).softmax(0) @ d
        likeness = functional.cosine_similarity(q[place], found, dim=0)
        inputs = torch.cat([q[place] * found, (q[place] - found).abs(), likeness[None], cosines.max()[None]])
        gain = model.judge(model.compare(inputs).relu())[0]
        weight = functional.softplus(model.token_weights[int(token)])
        total, norm = total + weight * gain, norm + weight
    return float(score + total / norm)


@pytest.mark.parametrize("changes", [{}, {"cell": "lstm", "num_layers": 2}, {"bidirectional": False}])
def test_scores_are_those_of_the_formulas_whatever_stands_beside(changes: dict[str, Any]) -> None:
    model = network(**changes).eval()
    batch = make_ranking_batch(GROUPS)
    with torch.no_grad():
        found = model(batch.values, batch.ragged, batch.query_of, batch.lexical.double(), batch.num_queries)
        expected = [
            plain_score(model, item.query, document, float(lexical))
            for item in GROUPS
            for document, lexical in zip(item.documents, item.lexical, strict=True)
        ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_given_vectors_compare_whole_texts_before_training() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    model = network().eval().float()
    torch.nn.init.zeros_(model.judge.weight)
    torch.nn.init.zeros_(model.judge.bias)
    torch.nn.init.ones_(model.token_weights)
    model.start_from(vectors)
    batch = make_ranking_batch(GROUPS)
    with torch.no_grad():
        found = model(batch.values, batch.ragged, batch.query_of, batch.lexical, batch.num_queries).numpy()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = []
    for item in GROUPS:
        query = units[item.query].sum(0)
        for document, lexical in zip(item.documents, item.lexical, strict=True):
            text = units[document].sum(0) if len(document) else np.zeros(6)
            norm = np.linalg.norm(query) * np.linalg.norm(text)
            expected.append(0.5 * lexical + 5 * (query @ text / norm if norm else 0.0))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_untrained_network_ranks_as_the_lexical_score() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embedding_size": 6, "hidden_size": 5, "num_layers": 1, "match_size": 4}
    model = PairRanker(20, **sizes, cell="gru", bidirectional=True, dropout=0.0, embedding_dropout=0.0).eval()
    batch = make_ranking_batch(GROUPS)
    found = model(batch.values, batch.ragged, batch.query_of, batch.lexical, batch.num_queries)
    torch.testing.assert_close(found, 0.5 * batch.lexical)


def test_loss_and_metrics_by_hand() -> None:
    model, batch = network().eval(), make_ranking_batch(GROUPS)
    scores = model(batch.values, batch.ragged, batch.query_of, batch.lexical.double(), 3)
    parts = scores.split([4, 2, 3])
    chosen = [
        part.log_softmax(0)[torch.from_numpy(item.relevance)].mean() for part, item in zip(parts, GROUPS, strict=True)
    ]
    total, count = model.loss(batch)
    torch.testing.assert_close(total, -torch.stack(chosen).sum(), rtol=1e-5, atol=1e-6)
    assert count == 3
    ranks = [
        1 + np.flatnonzero(item.relevance[np.argsort(-part.detach().numpy())])
        for part, item in zip(parts, GROUPS, strict=True)
    ]
    measured = {name: float(value.detach()) / float(number) for name, (value, number) in model.measure(batch).items()}
    assert measured["mrr"] == pytest.approx(np.mean([1 / rank[0] for rank in ranks]))
    assert measured["accuracy"] == pytest.approx(np.mean([rank[0] == 1 for rank in ranks]))
    gains = [(1 / np.log2(rank + 1)).sum() / (1 / np.log2(np.arange(len(rank)) + 2)).sum() for rank in ranks]
    assert measured["ndcg"] == pytest.approx(np.mean(gains), rel=1e-5)


def test_gradients() -> None:
    model, batch = network(), make_ranking_batch(GROUPS[:2])
    parameters = [model.project_state.weight, model.sharpness, model.token_weights, model.lexical_scale]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        names = ("project_state.weight", "sharpness", "token_weights", "lexical_scale")
        arguments = (batch.values, batch.ragged, batch.query_of, batch.lexical.double(), batch.num_queries)
        scores = torch.func.functional_call(model, dict(zip(names, values, strict=True)), arguments)
        return scores.square().sum()

    assert torch.autograd.gradcheck(loss, parameters, atol=1e-5)


def test_batches_draw_other_documents_each_epoch_and_every_answer_once() -> None:
    groups = [group([2] * 9, [1], seed, [0, 4]) for seed in range(5)]
    batches = RankingBatches(groups, batch_size=4, negatives=3, random_state=0)
    assert len(batches) == 3
    epochs = [list(batches.epoch(number)) for number in (0, 0, 1)]
    for first, again in zip(epochs[0], epochs[1], strict=True):
        torch.testing.assert_close(first.values, again.values)
    assert sum(batch.num_queries for batch in epochs[0]) == 10
    assert sorted(torch.cat([batch.origin for batch in epochs[0]]).tolist()) == sorted(2 * list(range(5)))
    for batch in epochs[0]:
        assert batch.targets is not None
        answers = torch.zeros(batch.num_queries).index_add(0, batch.query_of, batch.targets)
        assert answers.tolist() == [1.0] * batch.num_queries
        assert len(batch.targets) == 4 * batch.num_queries
    lexical = [torch.cat([batch.lexical for batch in epoch]).sort().values for epoch in (epochs[0], epochs[2])]
    assert not torch.equal(*lexical)
    whole = RankingBatches(groups, batch_size=1, negatives=None, random_state=0)
    assert [len(batch.lexical) for batch in whole.epoch(3)] == [9] * 5
