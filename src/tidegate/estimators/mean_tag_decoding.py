"""From sentences to tags, probabilities and confidences, by several networks whose probabilities are averaged."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tidegate.data.tag_schemes import Span
from tidegate.estimators.tag_decoding import TagDecoder
from tidegate.kernels.ragged import from_batch_major, ragged_from_lengths, to_batch_major

__all__ = ["MeanTagDecoder"]

# Sentences whose mean probabilities are held at once.
_SENTENCES = 2048

Sentences = Sequence[Sequence[str]]


class MeanTagDecoder:
    """Decodes sentences with several networks of the same tags, whose probabilities are averaged.

    Averaged transitions and emissions would be another model than the average of the models. What is averaged is the
    probability of each tag at each token, as each network sees it over all sequences of tags; the best tags are those
    of the legal sequence with the greatest product of these means (posterior decoding), found by Viterbi.

    Args:
        decoders: One a network.
    """

    def __init__(self, decoders: Sequence[TagDecoder]) -> None:
        self.decoders = list(decoders)

    def best(self, sentences: Sentences) -> list[np.ndarray]:
        """The numbers of each sentence's best tags."""
        found: list[np.ndarray] = []
        for start in range(0, len(sentences), _SENTENCES):
            found += self._best(self.marginals(sentences[start : start + _SENTENCES]))
        return found

    def marginals(self, sentences: Sentences) -> list[np.ndarray]:
        """The mean probability of each tag at each token, ``[T, K]`` float32 a sentence."""
        said = [decoder.marginals(sentences) for decoder in self.decoders]
        return [np.mean(row, axis=0) for row in zip(*said, strict=True)]

    def emissions(self, sentences: Sentences) -> list[np.ndarray]:
        """The logarithms of the marginals, which are what the best tags are found by."""
        return [_logarithm(row) for row in self.marginals(sentences)]

    def k_best(self, sentences: Sentences, k: int) -> list[list[tuple[np.ndarray, float]]]:
        """Refused: whole sequences of tags are not averaged.

        Raises:
            ValueError: Always.
        """
        del sentences, k
        raise ValueError("the best sequences are those of one tagger; ask one of members_")

    def intents(self, sentences: Sentences) -> np.ndarray:
        """The mean probability of each intent, ``[rows, C]``."""
        return np.mean([decoder.intents(sentences) for decoder in self.decoders], axis=0)

    def transitions(self) -> None:
        """None: there are as many as networks."""

    def confidences(
        self, sentences: Sentences, tags: Sequence[np.ndarray], spans: Sequence[Sequence[Span]], ends: Any
    ) -> list[list[float]]:
        """The mean of what each network gives a segment, as of :meth:`TagDecoder.confidences`."""
        said = [decoder.confidences(sentences, tags, spans, ends) for decoder in self.decoders]
        return [np.mean(row, axis=0).tolist() for row in zip(*said, strict=True)]

    def _best(self, marginals: list[np.ndarray]) -> list[np.ndarray]:
        crf = self.decoders[0].network.head.crf
        if crf is None:
            return [row.argmax(1) for row in marginals]
        legal = copy.deepcopy(crf).cpu()
        scores = torch.from_numpy(np.concatenate([_logarithm(row) for row in marginals]))
        lengths = torch.tensor([len(row) for row in marginals])
        ragged = ragged_from_lengths(lengths)
        with torch.inference_mode():
            for parameter in legal.parameters():
                parameter.zero_()
            tags = to_batch_major(legal.decode(from_batch_major(scores, ragged), ragged)[0], ragged)
        return [part.numpy() for part in torch.split(tags, lengths.tolist())]


def _logarithm(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities.clip(min=np.finfo(np.float32).tiny))
