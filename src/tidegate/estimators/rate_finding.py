"""The search for a learning rate, as part of estimators of one network over texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.heads.sequence import SequenceNetwork
    from tidegate.training.fit import BatchSource
    from tidegate.training.rate_finder import FoundRate

__all__ = ["RateFinding"]


class RateFinding:
    """Part of an estimator that is a :class:`~tidegate.estimators.text_network.TextNetworkEstimator`.

    It learns by ``_learn(plan, X, y, sample_weight, validation_data, instead=...)``, which hands `instead` the network
    and its batches in place of all training.
    """

    if TYPE_CHECKING:
        _plan: Any
        _learn: Any

    def find_learning_rate(self, X: Any, y: Any, sample_weight: Any = None, *, steps: int = 100) -> FoundRate:
        """The loss of a network like the one that `fit` would train while its learning rate rises; trains nothing.

        Args:
            X: Texts.
            y: What `fit` takes.
            sample_weight: Weights of the texts.
            steps: Batches to look at.

        Raises:
            DataError, ValueError: As of `fit`.
            TidegateError: The loss never fell.
        """
        from tidegate.training.rate_finder import find_learning_rate

        plan, found = self._plan(None, False), []

        def look(network: SequenceNetwork, batches: BatchSource) -> None:
            found.append(find_learning_rate(network, batches, plan.settings, steps=steps))

        self._learn(plan, X, y, sample_weight, None, instead=look)
        return found[0]
