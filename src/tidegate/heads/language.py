"""The next token of a text: a language model over an embedding and an encoder that other networks may share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.heads.sequence import SequenceBatch, widened
from tidegate.kernels.ragged import Ragged
from tidegate.layers.dropout import check_rate
from tidegate.layers.embedding import TokenEmbedding
from tidegate.layers.locked_dropout import locked_dropout
from tidegate.layers.stack import RecurrentStack
from tidegate.layers.two_way import TwoWayStack

__all__ = ["LanguageHead", "LanguageModel", "adaptive_cutoffs", "next_tokens"]


def adaptive_cutoffs(num_tokens: int) -> list[int]:
    """Where the clusters of an adaptive softmax begin: a fortieth (500 at least), four and sixteen times as many ids.

    What each token is compared with costs most: the 625 most frequent of 25,000 words, which are three quarters of a
    text, make an epoch twice as fast as a first cluster of 2,500 does.
    """
    first = max(500, num_tokens // 40)
    return [cut for cut in (first, 4 * first, 16 * first) if cut < num_tokens - 1]


def next_tokens(ragged: Ragged) -> tuple[Tensor, Tensor]:
    """For every token but the first of each row its place, and the place of the token before it, ``[N - rows]``."""
    first = int(ragged.batch_sizes[0]) if ragged.num_steps else 0
    places = torch.arange(first, ragged.num_values, device=ragged.row_of.device)
    # The rows alive at a step come first among those of the step before.
    return places, places - ragged.batch_sizes.to(places.device)[ragged.step_of[first:] - 1]


class LanguageHead(nn.Module):
    """From a state to the probability of each token.

    Args:
        input_size: H, features of a state.
        num_tokens: V.
        tied: The embedding whose table is also that of the output (Press & Wolf 2017), through a map from H to its E
            features; None has weights of its own.
        cutoffs: Ids where the clusters of an adaptive softmax begin (Grave et al. 2017): frequent tokens, with low ids,
            cost little, and rare ones are looked at together. None computes every token.

    Raises:
        ValueError: Both are given; the clusters have tables of their own.
    """

    def __init__(
        self, input_size: int, num_tokens: int, *, tied: TokenEmbedding | None, cutoffs: Sequence[int] | None
    ) -> None:
        super().__init__()
        if tied is not None and cutoffs:
            raise ValueError("an adaptive softmax has tables of its own; expected tied=None with cutoffs")
        self.projection: Any = None
        self.adaptive: nn.AdaptiveLogSoftmaxWithLoss | None = None
        # In a list, so that the shared table is a parameter of its owner alone.
        self._tied = [] if tied is None else [tied]
        if cutoffs:
            # Each cluster's states are a quarter of those before it; small states leave room for less.
            shrink = next(by for by in (4, 2, 1) if input_size >= by ** len(cutoffs))
            self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(input_size, num_tokens, list(cutoffs), float(shrink))
        elif tied is not None:
            self.projection = nn.Linear(input_size, tied.weight.shape[1], bias=False)
            self.bias = nn.Parameter(torch.zeros(num_tokens))
        else:
            self.projection = nn.Linear(input_size, num_tokens)

    def log_probabilities(self, states: Tensor) -> Tensor:
        """``[N, H]`` to ``[N, V]``."""
        if self.adaptive is not None:
            return self.adaptive.log_prob(states)
        return self._logits(states).log_softmax(-1)

    def losses(self, states: Tensor, targets: Tensor) -> Tensor:
        """The negative log-probability of each target, nats, ``[N]``, from states ``[N, H]`` and ids ``[N]``."""
        if not len(targets):
            return states.new_zeros(0)
        if self.adaptive is not None:
            return -widened(self.adaptive(states, targets).output)
        return functional.cross_entropy(self._logits(states), targets, reduction="none")

    def _logits(self, states: Tensor) -> Tensor:
        projected = self.projection(states)
        return widened(functional.linear(projected, self._tied[0].weight, self.bias) if self._tied else projected)


class LanguageModel(nn.Module):
    """Predicts each token of a text from those before it, and, of a bidirectional encoder, from those after it.

    The directions of one bidirectional layer see the text from one side each, so either half is a language model of its
    own (Peters et al. 2018, arXiv:1802.05365); of two such layers the second would see what it predicts, unless they
    are a :class:`TwoWayStack`.

    Args:
        embedding: The tokens' vectors, shared with whoever else holds them.
        encoder: The recurrent layers, shared likewise.
        tied: Whether the output shares the embedding's table.
        adaptive: Whether the output is an adaptive softmax, for large vocabularies; not with `tied`.
        dropout: Rate on features of a text, the same at all its steps, of its vectors and of the encoder's output.

    Raises:
        ValueError: A bidirectional encoder has two layers or more, or `tied` and `adaptive` are both asked for.
    """

    def __init__(
        self,
        embedding: TokenEmbedding,
        encoder: RecurrentStack | TwoWayStack,
        *,
        tied: bool = True,
        adaptive: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_rate("dropout", dropout)
        if isinstance(encoder, RecurrentStack) and encoder.bidirectional and len(encoder.layers) > 1:
            raise ValueError(
                "a language model needs one bidirectional layer, or layers that read forward alone: of "
                f"{len(encoder.layers)} bidirectional ones the second sees the token that it predicts; "
                "set num_layers=1 or bidirectional=False"
            )
        self.embedding, self.encoder, self.dropout = embedding, encoder, dropout
        self.directions = 2 if encoder.bidirectional else 1
        num_tokens = embedding.weight.shape[0]
        size = encoder.output_size // self.directions
        cutoffs = adaptive_cutoffs(num_tokens) if adaptive else None
        self.head = LanguageHead(size, num_tokens, tied=embedding if tied else None, cutoffs=cutoffs)

    def forward(self, values: Tensor, ragged: Ragged, states: Any = None) -> tuple[Tensor, Any]:
        """Ids ``[N]`` in ragged order to the encoder's dropped outputs ``[N, D*H]`` and its last states."""
        embedded = locked_dropout(self.embedding(values), ragged, self.dropout, self.training)
        output, states = self.encoder.forward_ragged(embedded, ragged, states)
        return locked_dropout(output, ragged, self.dropout, self.training), states

    def loss(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """The sum of the losses in nats of all predicted tokens, times the weights of their rows, and their number."""
        output, _ = self(batch.values, batch.ragged)
        after, before = next_tokens(batch.ragged)
        halves = output.chunk(self.directions, dim=1)
        losses = [self.head.losses(halves[0][before], batch.values[after])]
        rows = [batch.ragged.row_of[after]]
        if self.directions == 2:
            losses.append(self.head.losses(halves[1][after], batch.values[before]))
            rows.append(batch.ragged.row_of[before])
        joined = torch.cat(losses)
        if batch.weights is None:
            return joined.sum(), torch.full((), len(joined), dtype=joined.dtype, device=joined.device)
        weights = batch.weights[torch.cat(rows)].to(joined.dtype)
        return (joined * weights).sum(), weights.sum()

    def stream_loss(self, batch: SequenceBatch, states: Any) -> tuple[tuple[Tensor, Tensor], Any]:
        """The loss of a piece of running text, whose ``targets`` ``[N]`` are the tokens after each one of it.

        Args:
            batch: The piece.
            states: Where the piece before it ended, or None at the beginning; gradients stop there, which truncates the
                back-propagation through time (Williams & Peng 1990).

        Returns:
            Sum and count of the losses, and the states at the end, detached.

        Raises:
            ValueError: The encoder reads backwards, from where nothing can be carried on.
        """
        if self.directions == 2:
            raise ValueError("running text is read forward alone; expected an encoder with bidirectional=False")
        if batch.targets is None:
            raise ValueError("a piece of running text needs targets, the tokens after each one; found none")
        output, states = self(batch.values, batch.ragged, states)
        losses = self.head.losses(output, batch.targets)
        count = torch.full((), len(losses), dtype=losses.dtype, device=losses.device)
        return (losses.sum(), count), _detached(states)

    def measure(self, batch: SequenceBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """``loss`` in nats a token; its exponential is the perplexity."""
        return {"loss": self.loss(batch)}


def _detached(states: Any) -> Any:
    return states.detach() if isinstance(states, Tensor) else tuple(_detached(state) for state in states)
