"""From sentences to tags, probabilities and confidences, by a trained tagging network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tidegate.data.tag_schemes import Span
from tidegate.data.tagging_batch import make_tagging_batch
from tidegate.data.token_encoder import EncodedSentences, TokenEncoder
from tidegate.heads.tag import TaggingNetwork
from tidegate.kernels.ragged import Ragged, from_batch_major, ragged_from_lengths, to_batch_major
from tidegate.training.batches import batches_within

__all__ = ["TagDecoder", "TagPath"]

# Together these keep a batch of prediction within some tens of megabytes.
_ROWS, _TOKENS, _FORMS = 256, 8192, 4096
# Emissions of all copies of sentences that one call for confidences takes.
_COPIED_VALUES = 1 << 22
# Below any score that training gives: exp of it is 0 beside the others, and no difference of two is not a number.
_FORBIDDEN = -1e4


class TagPath(NamedTuple):
    """The tags of a sentence, and the probability of just these among all."""

    tags: list[str]
    probability: float


class Scores(NamedTuple):
    """What a network says of some sentences: their numbers, emissions ``[N, K]``, logits of intents, and the layout."""

    rows: np.ndarray
    emissions: Tensor
    intents: Tensor | None
    ragged: Ragged

    def split(self, values: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The number of each sentence, and its part of values ``[N, ...]``."""
        parts = torch.split(to_batch_major(values, self.ragged), self.ragged.lengths.tolist())
        return zip(self.rows.tolist(), parts, strict=True)


class TagDecoder:
    """Decodes sentences with a network.

    A sentence longer than the window is read in pieces that overlap by half a window, of which the middle counts; the
    tags are then found over the sentence as a whole, so that there is no seam.

    Args:
        network: In evaluation, on the device.
        encoder: The one that the network was trained with.
        device: ``"cpu"`` or ``"cuda"``.
        window: Most tokens that are read at once; None reads every sentence whole.
    """

    def __init__(self, network: TaggingNetwork, encoder: TokenEncoder, device: str, window: int | None) -> None:
        self.network, self.encoder, self.device, self.window = network, encoder, device, window

    def best(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """The numbers of each sentence's best tags."""
        found = [np.empty(0, np.int64)] * len(sentences)
        with torch.inference_mode():
            for scores in self._scores(sentences):
                tags = self.network.head.decode(scores.emissions, scores.ragged)
                for row, part in scores.split(tags):
                    found[row] = part.cpu().numpy()
        return found

    def marginals(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """The probability of each tag at each token, ``[T, K]`` float32 a sentence."""
        found = [np.empty((0, self.network.head.num_tags), np.float32)] * len(sentences)
        with torch.inference_mode():
            for scores in self._scores(sentences):
                for row, part in scores.split(self.network.head.marginals(scores.emissions, scores.ragged)):
                    found[row] = part.float().cpu().numpy()
        return found

    def emissions(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """The score of each tag at each token before transitions, ``[T, K]`` float32 a sentence."""
        found = [np.empty((0, self.network.head.num_tags), np.float32)] * len(sentences)
        with torch.inference_mode():
            for scores in self._scores(sentences):
                for row, part in scores.split(scores.emissions):
                    found[row] = part.float().cpu().numpy()
        return found

    def k_best(self, sentences: Sequence[Sequence[str]], k: int) -> list[list[tuple[np.ndarray, float]]]:
        """The `k` best sequences of tags of each sentence with their probabilities; fewer where there are no more.

        Raises:
            ValueError: The network has no CRF, or `k` is less than 1.
        """
        crf = self.network.head.crf
        if crf is None:
            raise ValueError('the best sequences need output_layer="crf"; this model has a softmax a token')
        found: list[list[tuple[np.ndarray, float]]] = [[(np.empty(0, np.int64), 1.0)] for _ in sentences]
        with torch.inference_mode():
            for scores in self._scores(sentences):
                best = crf.decode_k_best(scores.emissions, scores.ragged, k)
                for (row, tags), chances in zip(scores.split(best.tags), best.probabilities.tolist(), strict=True):
                    paths = tags.cpu().numpy().T
                    found[row] = [(path, p) for path, p in zip(paths, chances, strict=True) if not (path < 0).any()]
        return found

    def intents(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """The probability of each intent, ``[rows, C]`` float32."""
        head = self.network.intents
        if head is None:
            raise ValueError("this model was trained without intents")
        found = np.full((len(sentences), head.projection.out_features), 1.0 / head.projection.out_features, np.float32)
        with torch.inference_mode():
            for scores in self._scores(sentences):
                if scores.intents is not None:
                    found[scores.rows] = scores.intents.softmax(-1).float().cpu().numpy()
        return found

    def transitions(self) -> tuple[list[float], list[list[float]]] | None:
        """The scores of tags as the first, and of each after each; None without a CRF."""
        crf = self.network.head.crf
        return None if crf is None else (crf.start_transitions.tolist(), crf.transitions.tolist())

    def confidences(
        self, sentences: Sequence[Sequence[str]], tags: Sequence[np.ndarray], spans: Sequence[Sequence[Span]], ends: Any
    ) -> list[list[float]]:
        """The probability that each segment is there just so: its tags, and an end after it (Culotta & McCallum 2004).

        The sum over all sequences of tags with the segment, over the sum of all: one constrained forward pass each.

        Args:
            sentences: Tokens.
            tags: The numbers of each sentence's tags.
            spans: Its segments.
            ends: ``[K + 1, K + 1]`` bool, whether a segment ends between two tags.
        """
        head = self.network.head
        found: list[list[float]] = [[0.0] * len(row) for row in spans]
        with torch.inference_mode():
            forbid = torch.from_numpy(np.where(ends, 0.0, _FORBIDDEN)[:, :-1]).to(self.device, torch.float32)
            for scores in self._scores(sentences):
                totals = dict(
                    zip(scores.rows.tolist(), head.log_partition(scores.emissions, scores.ragged).tolist(), strict=True)
                )
                for row, emissions in scores.split(scores.emissions):
                    length, size = emissions.shape
                    most = max(1, _COPIED_VALUES // max(1, length * size))
                    for start in range(0, len(spans[row]), most):
                        chosen = spans[row][start : start + most]
                        copies = emissions.float().repeat(len(chosen), 1, 1)
                        for copy, span in zip(copies, chosen, strict=True):
                            inside = torch.arange(span.start, span.end)
                            own = torch.from_numpy(tags[row][span.start : span.end]).to(self.device)
                            kept = emissions[inside, own].float()
                            copy[span.start : span.end] = _FORBIDDEN
                            copy[inside, own] = kept
                            if span.end < length:
                                copy[span.end] += forbid[own[-1]]
                        ragged = ragged_from_lengths(torch.full((len(chosen),), length)).to(self.device)
                        sums = head.log_partition(from_batch_major(copies.flatten(0, 1), ragged), ragged)
                        chances = (sums - totals[row]).exp().clamp(max=1.0).tolist()
                        found[row][start : start + most] = chances
        return found

    # --- reading

    def _scores(self, sentences: Sequence[Sequence[str]]) -> Iterator[Scores]:
        """Batches of sentences with their scores; empty sentences are in none."""
        encoded = self.encoder.encode(sentences)
        spelled = self._spelled(encoded)
        lengths = encoded.lengths
        longest = int(lengths.max(initial=0)) if self.window is None else self.window
        short = np.flatnonzero((lengths > 0) & (lengths <= longest))
        for chosen in batches_within(lengths[short], _ROWS, _TOKENS):
            rows = short[chosen]
            batch = make_tagging_batch(encoded, rows, spelled=spelled)
            batch = batch if self.device == "cpu" else batch.to(self.device)
            emissions, intents = self.network(batch)
            yield Scores(rows, emissions, intents, batch.ragged)
        for row in np.flatnonzero(lengths > longest):
            yield self._long(encoded, spelled, int(row), longest)

    def _spelled(self, encoded: EncodedSentences) -> Tensor | None:
        """What the network reads of the characters of every form, each once, however often it occurs."""
        characters = self.network.characters
        if characters is None:
            return None
        parts = [torch.zeros(0, characters.output_size, device=self.device)]
        for first in range(0, len(encoded.words), _FORMS):
            starts = encoded.starts[first : first + _FORMS + 1]
            letters = torch.from_numpy(encoded.characters[starts[0] : starts[-1]]).to(self.device)
            parts.append(characters(letters, torch.from_numpy(np.diff(starts)).to(self.device)))
        return torch.cat(parts)

    def _long(self, encoded: EncodedSentences, spelled: Tensor | None, row: int, window: int) -> Scores:
        context = window // 4
        core = max(1, window - 2 * context)
        length = int(encoded.lengths[row])
        starts = range(0, length, core)
        pieces = [slice(max(0, start - context), min(length, start + core + context)) for start in starts]
        forms = [encoded.forms[row][piece] for piece in pieces]
        bigrams = None if encoded.bigrams is None else [encoded.bigrams[row][piece] for piece in pieces]
        parts = replace(encoded, forms=forms, bigrams=bigrams)
        emissions: list[Tensor] = []
        intents: list[Tensor] = []
        most = max(1, _TOKENS // window)
        for first in range(0, len(pieces), most):
            numbers = np.arange(first, min(first + most, len(pieces)))
            batch = make_tagging_batch(parts, numbers, spelled=spelled)
            batch = batch if self.device == "cpu" else batch.to(self.device)
            values, logits = self.network(batch)
            scores = Scores(numbers, values, logits, batch.ragged)
            for number, values in scores.split(scores.emissions):
                skipped = starts[number] - pieces[number].start
                emissions.append(values[skipped : skipped + core])
            if scores.intents is not None:
                intents.append(scores.intents)
        ragged = ragged_from_lengths(torch.tensor([length]))
        ragged = ragged if self.device == "cpu" else ragged.to(self.device)
        # What the pieces say of the whole, on average.
        said = torch.cat(intents).mean(0, keepdim=True) if intents else None
        return Scores(np.array([row]), torch.cat(emissions), said, ragged)
