"""Relevance of documents to queries: a recurrent encoder, attention from query to document, beside a lexical score."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.kernels.ragged import Ragged, pad
from tidegate.layers.dropout import dropout as drop_features
from tidegate.layers.embedding import TokenEmbedding
from tidegate.layers.stack import RecurrentStack

__all__ = ["PairRanker", "RankedBatch"]

_SHARPNESS = 10.0  # of the attention over cosines, to begin with
_LEXICAL_SCALE = 0.5  # of BM25's scores as logits, to begin with
_WHOLE_SCALE = 5.0  # of the cosine of two texts, where the vectors say something to begin with


class RankedBatch(Protocol):
    """What a ranker reads of a batch: see :class:`tidegate.data.ranking_batch.RankingBatch`."""

    @property
    def values(self) -> Tensor:
        """``[N]`` ids, the rows of the queries before those of the documents."""
        ...

    @property
    def ragged(self) -> Ragged:
        """Their layout."""
        ...

    @property
    def targets(self) -> Tensor | None:
        """``[R]`` 1 where a document answers, or None."""
        ...

    @property
    def query_of(self) -> Tensor:
        """``[R]`` the query of each document."""
        ...

    @property
    def lexical(self) -> Tensor:
        """``[R]`` lexical scores."""
        ...

    @property
    def num_queries(self) -> int:
        """Q."""
        ...


class PairRanker(nn.Module):
    r"""A lexical score mended by a network that reads query and document.

    Both are embedded and read by one recurrent encoder. A token's vector and its state, projected, are its match
    vector. Each token t of the query attends to the document's tokens by the cosine of match vectors, and what it finds
    is compared with it; the weighted mean over the query's tokens is added to the lexical score (in the manner of
    Parikh et al. 2016 and Chen et al. 2017, ESIM):

    .. math::
        a_{tj} = \mathrm{softmax}_j(s \cos(q_t, d_j)) \qquad
        g_t = \mathrm{MLP}(q_t \odot \tilde d_t, |q_t - \tilde d_t|, \cos(q_t, \tilde d_t), \max_j \cos(q_t, d_j)) \\
        \tilde d_t = \sum_j a_{tj} d_j \qquad
        \mathrm{score} = \alpha\, \mathrm{BM25} + \gamma \cos(\bar q, \bar d)
            + \beta \sum_t w_t g_t / \sum_t w_t \\
        \bar q = \sum_t w_t e_t / |e_t|

    ``w_t`` is a weight a token of the vocabulary, which begins as its inverse document frequency, and ``e_t`` the
    token's vector: the second term compares what the texts are about, as latent semantic indexing does (Deerwester et
    al. 1990). ``beta`` is 1 in training, and may be chosen afterwards. The last layer of the MLP begins as zeros and
    gamma as 0 until :meth:`start_from` gives vectors, so that an untrained network ranks as the lexical score does.

    Args:
        num_tokens: V.
        embedding_size: E.
        hidden_size: H, a layer and direction.
        num_layers: Layers of the encoder.
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        bidirectional: Whether the encoder also reads backwards.
        match_size: K, of the match vectors.
        dropout: Between the layers and within the MLP.
        embedding_dropout: Of single features of the embedded tokens.
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        cell: str,
        bidirectional: bool,
        match_size: int,
        dropout: float,
        embedding_dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.embedding = TokenEmbedding(num_tokens, embedding_size, embedding_dropout)
        self.encoder = RecurrentStack(cell, embedding_size, hidden_size, num_layers, bidirectional, dropout)
        self.project_embedding = nn.Linear(embedding_size, match_size, bias=False)
        self.project_state = nn.Linear(self.encoder.output_size, match_size, bias=False)
        self.token_weights = nn.Parameter(torch.ones(num_tokens))
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        self.lexical_scale = nn.Parameter(torch.tensor(_LEXICAL_SCALE))
        self.whole_scale = nn.Parameter(torch.tensor(0.0))
        self.mixture: Tensor
        self.register_buffer("mixture", torch.tensor(1.0))
        self.compare = nn.Linear(2 * match_size + 2, match_size)
        self.judge = nn.Linear(match_size, 1)
        nn.init.zeros_(self.judge.weight)
        nn.init.zeros_(self.judge.bias)

    def start_from(self, vectors: np.ndarray, tune_after: int | None = 0) -> None:
        """Begin with given vectors of the tokens, ``[V, E]``, by which whole texts can be compared from the start."""
        self.embedding.start_from(vectors, tune_after)
        nn.init.constant_(self.whole_scale, _WHOLE_SCALE)

    def begin_epoch(self, epoch: int) -> None:
        """Say which epoch of training begins, counted from 0."""
        self.embedding.begin_epoch(epoch)

    def forward(self, values: Tensor, ragged: Ragged, query_of: Tensor, lexical: Tensor, num_queries: int) -> Tensor:
        """The score of each document, ``[R]``.

        Args:
            values: ``[N]`` ids in ragged order, the rows of the queries before those of the documents.
            ragged: Their layout.
            query_of: ``[R]`` the query of each document.
            lexical: ``[R]``.
            num_queries: Q.
        """
        embedded = self.embedding(values)
        states, _ = self.encoder.encode(embedded, ragged)
        matches = pad(self.project_embedding(embedded) + self.project_state(states), ragged)
        lengths = ragged.lengths
        longest = max(int(lengths[:num_queries].max()), 1)
        queries = matches[:num_queries, :longest]
        token_weights = functional.softplus(self.token_weights.index_select(0, values))
        weights = pad(token_weights, ragged)[:num_queries, :longest]
        documents = matches[num_queries:]
        present = torch.arange(documents.shape[1], device=lengths.device) < lengths[num_queries:, None]  # [R, T]
        asked = queries.index_select(0, query_of)  # [R, Q, K]
        cosines = functional.normalize(asked, dim=-1) @ functional.normalize(documents, dim=-1).mT  # [R, Q, T]
        cosines = cosines.masked_fill(~present[:, None], -1.0)
        attention = (self.sharpness * cosines).masked_fill(~present[:, None], -1e9).softmax(-1)
        found = attention @ documents  # [R, Q, K]
        hardest = cosines.amax(-1, keepdim=True)
        likeness = functional.cosine_similarity(asked, found, dim=-1).unsqueeze(-1)
        compared = self.compare(torch.cat([asked * found, (asked - found).abs(), likeness, hardest], -1)).relu()
        gains = self.judge(drop_features(compared, self.dropout, self.training)).squeeze(-1)  # [R, Q]
        shares = weights.index_select(0, query_of)
        gained = (shares * gains).sum(1) / shares.sum(1).clamp(min=1e-6)
        wholes = embedded.new_zeros(ragged.num_rows, embedded.shape[1]).index_add(
            0, ragged.row_of, token_weights[:, None] * functional.normalize(embedded, dim=-1)
        )
        alike = functional.cosine_similarity(wholes[:num_queries].index_select(0, query_of), wholes[num_queries:])
        # A document without a token has nothing to attend to.
        added = self.mixture * torch.where(present.any(1), gained, 0.0)
        return self.lexical_scale * lexical + self.whole_scale * alike + added

    def loss(self, batch: RankedBatch) -> tuple[Tensor, Tensor]:
        """The sum over the queries of the cross-entropy of their answers among their candidates (ListNet), and Q."""
        scores = self._scores(batch)
        targets = _targets(batch).to(scores.dtype)
        shares = _log_softmax(scores, batch.query_of, batch.num_queries)
        answers = scores.new_zeros(batch.num_queries).index_add(0, batch.query_of, targets)
        losses = -(shares * targets / answers[batch.query_of].clamp(min=1.0)).sum()
        return losses, torch.full((), batch.num_queries, dtype=losses.dtype, device=losses.device)

    def measure(self, batch: RankedBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Sum and count over the queries of ``loss``, ``accuracy`` (the first is an answer), ``mrr`` and ``ndcg``."""
        scores = self._scores(batch)
        targets = _targets(batch).to(scores.dtype)
        reciprocal, first, gain = 0.0, 0.0, 0.0
        for query in range(batch.num_queries):
            mine = batch.query_of == query
            ranked = targets[mine][scores[mine].argsort(descending=True, stable=True)]
            places = ranked.nonzero().flatten() + 1
            if len(places):
                reciprocal += 1 / float(places[0])
                first += float(ranked[0])
                best = (1 / torch.log2(torch.arange(2.0, min(10, len(places)) + 2))).sum()
                gain += float((1 / torch.log2(places[places <= 10] + 1.0)).sum() / best)
        count = torch.full((), float(batch.num_queries))
        return {
            "loss": self.loss(batch),
            "accuracy": (torch.tensor(first), count),
            "mrr": (torch.tensor(reciprocal), count),
            "ndcg": (torch.tensor(gain), count),
        }

    def _scores(self, batch: RankedBatch) -> Tensor:
        return self(batch.values, batch.ragged, batch.query_of, batch.lexical, batch.num_queries)


def _log_softmax(scores: Tensor, query_of: Tensor, num_queries: int) -> Tensor:
    """The logarithm of the softmax of each query's scores, ``[R]``; the documents of a query stand side by side."""
    counts = torch.bincount(query_of, minlength=num_queries)
    place = torch.arange(len(scores), device=scores.device) - (counts.cumsum(0) - counts)[query_of]
    table = scores.new_full((num_queries, int(counts.max())), -torch.inf).index_put((query_of, place), scores)
    return table.log_softmax(1)[query_of, place]


def _targets(batch: RankedBatch) -> Tensor:
    if batch.targets is None:
        raise ValueError("a loss needs targets; the batch has none")
    return batch.targets
