"""Ranker: documents in the order in which they answer a query, by BM25 and a recurrent network over both."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from tidegate.data.encoder import TextEncoder
from tidegate.data.ranking_batch import Candidates, RankingBatches, make_ranking_batch
from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import Bundle
from tidegate.errors import DataError
from tidegate.estimators.base import check_choice, check_texts, check_vector_arguments, data_digest
from tidegate.estimators.neural import TEXT, NeuralEstimator, seeded
from tidegate.estimators.text_network import EMBEDDING_INITS
from tidegate.features.cooccurrence import cooccurrence_vectors
from tidegate.features.lexical import LexicalScorer
from tidegate.features.vectors import token_vectors
from tidegate.heads.rank import PairRanker
from tidegate.reporting.ranking_metrics import ndcg

__all__ = ["Ranker"]

_MODEL = ("hidden_size", "num_layers", "cell", "bidirectional", "match_size", "dropout", "embedding_dropout")
_EMBEDDING_SIZE = 128
_MIXTURES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_AT_ONCE = 64  # candidates scored in one batch

Judged = tuple[Sequence[str], Sequence[str], Sequence[Any]]


class Ranker(NeuralEstimator):
    """Ranks documents for queries: the second stage of a search whose first is BM25.

    The score of a document is its BM25 score plus the likeness of both texts by the vectors of their words, and what a
    bidirectional GRU with attention from query to document adds (`heads/rank.py`), learned from pairs of which it is
    known whether the document answers the query. How much of the last is added is chosen on the validation queries, so
    that a network that learned nothing of use leaves the order of the others.

    Args:
        tokenizer: ``"words"``, ``"characters"``, ``"bpe"`` or ``"jieba"``.
        lowercase: Whether case is ignored.
        strip_html: Whether tags are removed and entities resolved.
        normalization: A Unicode form, or None.
        max_tokens: Tokens of a document and of a query that the network reads; BM25 reads all.
        truncation: Which part of a longer text is read: ``"head"``, ``"tail"`` or ``"ends"``.
        max_vocabulary: Most tokens that have a vector of their own.
        min_count: Occurrences that earn a token its vector.
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        embedding_size: Features of a token's vector; None takes those of `vectors`, or 128.
        embedding_init: Where the vectors start without `vectors`: ``"cooccurrence"``, such that tokens which stand near
            the same ones in the collection begin alike (`features/cooccurrence.py`), or ``"normal"``, drawn at random;
            None is the first, and nothing beside `vectors`.
        vectors: A file of word vectors, or several, to start from.
        tune_vectors_after: Epochs for which `vectors` stay as they are; None never changes them.
        hidden_size: Units of a layer and direction.
        num_layers: Recurrent layers.
        bidirectional: Whether each layer also reads backwards.
        match_size: Features of the vectors by which query and document are compared.
        dropout: Rate between the layers and in the comparison.
        embedding_dropout: Rate on the features of the token vectors.
        negatives: Documents that do not answer, beside each that does, in a training step.
        learning_rate: Step size of AdamW.
        weight_decay: Decoupled weight decay of AdamW.
        batch_size: Answers of a training step.
        max_epochs: Epochs at most.
        patience: Epochs without improvement before training stops.
        monitor: What chooses the epoch on validation queries: ``"ndcg"`` (of the first ten), ``"mrr"``,
            ``"accuracy"`` (the first one is an answer) or ``"loss"``.
        validation_fraction: Share of the queries set aside when `fit` is given no ``validation_data``.
        gradient_clip: Largest norm of the gradient, or None.
        ema_decay: Decay a step of a moving average of the weights, or None.
        random_state: An int, a ``numpy.random.RandomState``, or None for a new seed.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        verbose: Whether progress is shown on standard error; None shows it on a terminal.

    Attributes:
        encoder_: The fitted :class:`~tidegate.data.encoder.TextEncoder`.
        lexical_: The fitted :class:`~tidegate.features.lexical.LexicalScorer`.
        network_, history_, best_epoch_, random_state_, timing_: As those of ``TextClassifier``.

    Example:
        >>> ranker = Ranker().fit(queries, documents, relevance)  # doctest: +SKIP
        >>> ranker.rank("heat in slabs", ["wings and lift", "heat conduction"])  # doctest: +SKIP
        [(1, 3.2), (0, 0.0)]
    """

    kind: ClassVar[str] = "ranker"
    monitors: ClassVar[tuple[str, ...]] = ("ndcg", "mrr", "accuracy", "loss")
    encoder_: TextEncoder
    lexical_: LexicalScorer

    def __init__(
        self,
        *,
        tokenizer: str = "words",
        lowercase: bool = True,
        strip_html: bool = True,
        normalization: str | None = "NFKC",
        max_tokens: int | None = 300,
        truncation: str = "head",
        max_vocabulary: int = 30000,
        min_count: int = 2,
        cell: str = "gru",
        embedding_size: int | None = None,
        embedding_init: str | None = None,
        vectors: str | Sequence[str] | None = None,
        tune_vectors_after: int | None = 0,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        match_size: int = 64,
        dropout: float = 0.2,
        embedding_dropout: float = 0.2,
        negatives: int = 7,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 8,
        max_epochs: int = 10,
        patience: int = 3,
        monitor: str = "ndcg",
        validation_fraction: float = 0.1,
        gradient_clip: float | None = 1.0,
        ema_decay: float | None = None,
        random_state: Any = None,
        device: str = "auto",
        verbose: bool | None = None,
    ) -> None:
        self._store(locals())

    def fit(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        relevance: Sequence[Any],
        validation_data: Judged | None = None,
        *,
        corpus: Sequence[str] | None = None,
        run_folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Sequence[Any] = (),
        loggers: Sequence[Any] = (),
    ) -> Self:
        """Learn from judged pairs: row r says whether ``documents[r]`` answers ``queries[r]``.

        Args:
            queries: The query of each pair; rows of the same text are one query.
            documents: The document of each pair.
            relevance: 1 or True where it answers, 0 or False where it does not. What BM25 ranks high and does not
                answer teaches the most.
            validation_data: ``(queries, documents, relevance)`` that choose the epoch, instead of a share of the
                queries.
            corpus: The whole collection, whose statistics BM25 takes; None takes the documents of the pairs.
            run_folder: Where checkpoints are kept.
            resume: Go on from the last finished epoch in `run_folder`.
            callbacks, loggers: As of :meth:`TextClassifier.fit`.

        Raises:
            DataError: The rows do not fit together, or no query has both an answer and another document.
            ValueError: An argument of the estimator is out of range.
        """
        plan = self._plan(run_folder, resume, loggers, callbacks)
        check_vector_arguments(self)
        if self.embedding_init is not None:
            check_choice("embedding_init", self.embedding_init, EMBEDDING_INITS)
        for name in ("match_size", "negatives"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; found {value!r}")
        pairs = _check_pairs(queries, documents, relevance)
        held = None if validation_data is None else _check_pairs(*validation_data)
        if held is None and self.validation_fraction > 0:
            pairs, held = _set_aside(pairs, self.validation_fraction, derive_seed(plan.random_state, "split"))
        started = time.perf_counter()
        texts = list(dict.fromkeys(document for group in pairs.values() for document, _ in group))
        collection = texts if corpus is None else check_texts(corpus)
        encoder, encoded = TextEncoder.fit_encode(
            list(dict.fromkeys([*pairs, *texts, *collection])), **self._arguments(TEXT)
        )
        lexical = LexicalScorer.fit(_terms(encoder, text) for text in collection)
        vectors = self._start(encoder, encoded.ids, plan.random_state)
        size = self.embedding_size or _EMBEDDING_SIZE if vectors is None else vectors.shape[1]
        network = seeded(derive_seed(plan.random_state, "weights"), lambda: self._build(encoder.num_tokens, size))
        if vectors is not None:
            network.start_from(vectors, self.tune_vectors_after)
        with torch.no_grad():
            known = lexical.frequencies
            idf = torch.tensor([lexical.idf(token) if token in known else 0.0 for token in encoder.vocabulary.tokens])
            network.token_weights.copy_(torch.log(torch.expm1(idf.clamp(min=1e-3))))  # softplus gives idf back
        sampling: dict[str, Any] = {"batch_size": int(self.batch_size), "random_state": plan.random_state}
        train_groups = _encode(pairs, encoder, lexical)
        if not train_groups:
            raise DataError("no query has both a document that answers it and one that does not")
        train = RankingBatches(train_groups, negatives=int(self.negatives), **sampling)
        validation = None
        if held is not None and (judged := _encode(held, encoder, lexical)):
            validation = RankingBatches(judged, negatives=None, **{**sampling, "batch_size": 1})
        self._train(
            plan,
            network,
            train,
            validation,
            data=data_digest(_digest_parts(pairs) + _digest_parts(held or {})),
            seconds=time.perf_counter() - started,
            fitted={"encoder_": encoder, "lexical_": lexical},
        )
        return self

    def scores(self, query: str, documents: Sequence[str]) -> np.ndarray:
        """The score of each document for a query, ``[documents]`` float32; higher answers better.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: The query has no token, or a document is not a text.
        """
        network, device = self._ready_network()
        if not self.encoder_.tokenize(query):
            raise DataError(f"the query {query[:60]!r} has no word")
        group = _encode_group(query, check_texts(documents), None, self.encoder_, self.lexical_)
        found = np.zeros(len(group.documents), dtype=np.float32)
        order = np.argsort([len(row) for row in group.documents], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), _AT_ONCE):
                places = order[start : start + _AT_ONCE]
                batch = make_ranking_batch([group.select(places)])
                batch = batch if device == "cpu" else batch.to(device)
                part = network(batch.values, batch.ragged, batch.query_of, batch.lexical, batch.num_queries)
                found[places] = part.float().cpu().numpy()
        return found

    def rank(self, query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
        """The places of documents and their scores, the best first, equal ones in the order given.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: The query has no token, or a document is not a text.
        """
        scores = self.scores(query, documents)
        return [(int(place), float(scores[place])) for place in np.argsort(-scores, kind="stable")]

    def _settle(self, validation: Any) -> None:
        """Choose how much of the network is added, by the validation queries."""
        if validation is not None:
            self.network_.mixture.fill_(_best_mixture(self.network_, validation))

    def _start(self, encoder: TextEncoder, ids: Sequence[np.ndarray], random_state: int) -> np.ndarray | None:
        """The vectors that the tokens start from, or None where they are drawn."""
        if self.vectors is not None:
            seed = derive_seed(random_state, "vectors")
            tokens = encoder.vocabulary.tokens
            return token_vectors(tokens, self.vectors, size=self.embedding_size, random_state=seed).vectors
        if self.embedding_init == "normal":
            return None
        seed = derive_seed(random_state, "cooccurrence")
        size = self.embedding_size or _EMBEDDING_SIZE
        return cooccurrence_vectors(ids, encoder.num_tokens, size, random_state=seed)

    def _describe(self) -> dict[str, Any]:
        tokenizer = {"encoder": self.encoder_.to_dict(), "lexical": self.lexical_.to_dict()}
        return {"tokenizer": tokenizer, "labels": [], "metrics": {}}

    def _restore(self, bundle: Bundle) -> nn.Module:
        self.encoder_ = TextEncoder.from_dict(bundle.tokenizer["encoder"])
        self.lexical_ = LexicalScorer.from_dict(bundle.tokenizer["lexical"])
        return self._build(self.encoder_.num_tokens, bundle.weights["embedding.weight"].shape[1])

    def _build(self, num_tokens: int, embedding_size: int) -> PairRanker:
        return PairRanker(num_tokens, embedding_size=embedding_size, **self._arguments(_MODEL))


def _best_mixture(network: PairRanker, validation: RankingBatches) -> float:
    """The share of the network by which the validation queries are answered best (nDCG of ten), the smallest such."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for batch in validation.epoch(0):
            batch = batch.to(network.lexical_scale.device)
            ends = []
            for share in (0.0, 1.0):  # a score is linear in it
                network.mixture.fill_(share)
                ends.append(network(batch.values, batch.ragged, batch.query_of, batch.lexical, batch.num_queries))
            without, whole = (end.cpu().numpy() for end in ends)
            parts.append((without, whole - without, batch.targets))
    found = []
    for share in _MIXTURES:
        gains = []
        for without, added, targets in parts:
            order = np.argsort(-(without + share * added), kind="stable")
            ranked = [str(place) for place in order]
            gains.append(ndcg(ranked, {str(place) for place in np.flatnonzero(targets.cpu().numpy())}, 10))
        found.append(float(np.mean(gains)))
    return _MIXTURES[int(np.argmax(found))]


Groups = dict[str, list[tuple[str, bool]]]


def _check_pairs(queries: Any, documents: Any, relevance: Any) -> Groups:
    """The documents of each query with their judgments."""
    asked, answers = check_texts(queries), check_texts(documents)
    judged = np.asarray(relevance)
    if not len(asked) == len(answers) == len(judged) or judged.ndim != 1:
        raise DataError(
            f"expected one document and one judgment a query; found {len(asked)} queries, {len(answers)} documents and "
            f"judgments of shape {judged.shape}"
        )
    bad = [row for row, value in enumerate(judged.tolist()) if value not in (0, 1)]
    if bad:
        raise DataError(f"the judgment of row {bad[0]} must be 0 or 1; found {judged[bad[0]]!r}")
    groups: Groups = {}
    for query, document, answer in zip(asked, answers, judged.tolist(), strict=True):
        groups.setdefault(query, []).append((document, bool(answer)))
    return groups


def _set_aside(groups: Groups, fraction: float, seed: int) -> tuple[Groups, Groups | None]:
    names = list(groups)
    count = min(round(fraction * len(names)), len(names) - 1)
    if count < 1:
        return groups, None
    chosen = {names[place] for place in np.random.default_rng(seed).permutation(len(names))[:count]}
    return {name: groups[name] for name in names if name not in chosen}, {name: groups[name] for name in chosen}


def _encode(groups: Groups, encoder: TextEncoder, lexical: LexicalScorer) -> list[Candidates]:
    """The queries that can teach or judge: with an answer and another document."""
    encoded = []
    for query, pairs in groups.items():
        relevance = np.array([answer for _, answer in pairs])
        if relevance.any() and not relevance.all() and encoder.tokenize(query):
            encoded.append(_encode_group(query, [document for document, _ in pairs], relevance, encoder, lexical))
    return encoded


def _encode_group(
    query: str, documents: list[str], relevance: np.ndarray | None, encoder: TextEncoder, lexical: LexicalScorer
) -> Candidates:
    scores = lexical.scores(_terms(encoder, query), [_terms(encoder, document) for document in documents])
    return Candidates(encoder.encode([query]).ids[0], encoder.encode(documents).ids, scores, relevance)


def _terms(encoder: TextEncoder, text: str) -> list[str]:
    """What BM25 counts: the tokens without marks of punctuation, as in a search index."""
    return [token for token in encoder.tokenize(text) if any(map(str.isalnum, token))]


def _digest_parts(groups: Groups) -> list[tuple[list[str], np.ndarray, None]]:
    return [
        ([query, *(document for document, _ in pairs)], np.array([answer for _, answer in pairs], dtype=np.int64), None)
        for query, pairs in groups.items()
    ]
