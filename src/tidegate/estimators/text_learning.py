"""How estimators of one network over texts are fitted, and look for a learning rate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from tidegate.estimators.base import check_texts

if TYPE_CHECKING:
    from tidegate.heads.sequence import SequenceNetwork
    from tidegate.training.fit import BatchSource
    from tidegate.training.rate_finder import FoundRate

__all__ = ["TextLearning"]


class TextLearning:
    """Part of an estimator that is a :class:`~tidegate.estimators.text_network.TextNetworkEstimator`.

    It learns by ``_learn(plan, X, y, sample_weight, validation_data, unlabelled=..., instead=...)``, which hands
    `instead`, where it is given, the network and its batches in place of all training.
    """

    if TYPE_CHECKING:
        _plan: Any
        _learn: Any

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        *,
        run_folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Sequence[Any] = (),
        loggers: Sequence[Any] = (),
        unlabelled: Any = None,
    ) -> Self:
        """Learn from texts and what is known of them.

        Args:
            X: Texts: a list, a Series, a 1-D array or one column of a 2-D array; or pairs of texts.
            y: What is to be foretold of each text, as the estimator's description has it.
            sample_weight: Weights of the texts in the loss; a text of weight 0 is left out altogether.
            validation_data: ``(X, y)`` or ``(X, y, sample_weight)`` that choose the epoch, instead of a share of X.
            run_folder: Where ``epochs.csv`` and the checkpoints ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt``
                are kept.
            resume: Go on from the last finished epoch in `run_folder`, where there is one.
            callbacks: Your own, of the class ``lightning.Callback``, called before the epoch is judged; a callback that
                sets ``trainer.should_stop`` makes the epoch the last one.
            loggers: Where the epochs are recorded: ``"tensorboard"`` and ``"mlflow"``, in `run_folder`, or loggers of
                Lightning's.
            unlabelled: Further texts, which the vocabulary and `pretrain_epochs` learn from, and `teacher` speaks of.

        Raises:
            DataError: X, y or sample_weight cannot be used; the message says where.
            ValueError: An argument of the estimator is out of range.
            TidegateError: A checkpoint cannot be written or read, or belongs to another run.
            KeyboardInterrupt: Ctrl-C; where an epoch was finished, the estimator is fitted with the best one so far.
        """
        plan = self._plan(run_folder, resume, loggers, callbacks)
        more = check_texts(unlabelled) if unlabelled is not None else ()
        self._learn(plan, X, y, sample_weight, validation_data, unlabelled=more)
        return self

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
