"""TextClassifier: from texts and labels to a judged, saved model, with scikit-learn's contract."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from tidegate.data.seeds import derive_seed
from tidegate.deploy.bundle import Bundle
from tidegate.errors import DataError
from tidegate.estimators.base import (
    check_data,
    check_texts,
    check_validation,
    resolve_class_weight,
    stratified_split,
)
from tidegate.estimators.decisions import ClassDecisions
from tidegate.estimators.neural import FitPlan
from tidegate.estimators.teaching import check_teaching, taught_rows, teaching_arguments
from tidegate.estimators.text_learning import TextLearning
from tidegate.estimators.text_network import NETWORK, Rows, TextNetworkEstimator
from tidegate.estimators.warm_start import known_values
from tidegate.estimators.word_reading import CHARACTERS
from tidegate.heads.classify import SequenceClassifier

__all__ = ["TextClassifier"]

_MODEL = (*NETWORK, *CHARACTERS, "label_smoothing", "focal_gamma")


class TextClassifier(ClassifierMixin, ClassDecisions, TextLearning, TextNetworkEstimator):
    """A recurrent classifier of texts.

    Texts are tokenised, embedded, read by a recurrent encoder, pooled to one vector and mapped to class probabilities.
    Training minimises the weighted cross-entropy and keeps the epoch that is best on validation data.

    ``y`` of :meth:`fit` are labels, int or str, one a text; at least two different ones.

    Args:
        tokenizer: ``"words"``, ``"characters"``, ``"bpe"`` (byte pairs, learned from X) or ``"jieba"`` (Chinese).
        lowercase: Whether case is ignored.
        strip_html: Whether tags are removed and entities resolved.
        normalization: Unicode form ``"NFC"``, ``"NFD"``, ``"NFKC"``, ``"NFKD"``, or None.
        max_tokens: Longest text in tokens, or None for no limit.
        truncation: Which part of a longer text is kept: ``"head"``, ``"tail"`` or ``"ends"``.
        max_vocabulary: Most tokens that have a vector of their own.
        min_count: Occurrences in the training texts that earn a token its vector.
        cell: ``"gru"``, ``"lstm"`` or ``"rnn"``.
        embedding_size: Features of a token's vector; None takes those of `vectors`, or 128.
        embedding_init: Where the vectors start: ``"normal"``, drawn at random, or ``"cooccurrence"``, such that tokens
            which stand near the same ones in the training texts begin alike (`features/cooccurrence.py`).
        vectors: A file of word vectors, or several whose vectors are put side by side, that the tokens' vectors start
            from (`features/vector_files.py`): GloVe, word2vec, FastText, npz.
        tune_vectors_after: Epochs for which `vectors` stay as they are before they learn too; 0 lets them learn at
            once, None never.
        char_encoder: ``"cnn"``, ``"gru"`` or ``"lstm"`` over the characters of each word, in upper case only where
            `lowercase` is off; what it gives stands beside the word's vector, of words without one too (Ma & Hovy
            2016; Lample et al. 2016). None reads none.
        char_embedding_size: Features of a character.
        char_hidden_size: Features that a word's characters give.
        language_model: A language model's file (:class:`TextLanguageModel`, ``tidegate language train``) of the same
            `tokenizer`. A mixture of its layers, which is learned, stands beside the words' vectors; the language model
            itself stays as it is (ELMo, Peters et al. 2018), and is saved with the rest.
        hidden_size: Units of a recurrent layer and direction.
        num_layers: Recurrent layers.
        bidirectional: Whether each layer also reads backwards.
        pooling: ``"last"`` (final states), ``"mean"``, ``"max"`` or ``"attention"``.
        dropout: Rate between recurrent layers and before the logits.
        embedding_dropout: Rate on the features of the token vectors.
        word_dropout: Rate at which tokens become the unknown one.
        locked_dropout: Rate on features of a text, the same at all its steps: of its vectors, between layers and of the
            last output (Gal & Ghahramani 2016).
        recurrent_dropout: Rate on the states where they enter the recurrent weights, the same at all steps of a text.
        weight_dropout: Rate on the entries of the recurrent weights (Merity et al. 2018).
        learning_rate: Step size; the highest one, where a schedule changes it.
        weight_decay: Of AdamW decoupled, of the other optimisers an L2 penalty in the gradient.
        optimizer: ``"adamw"``, ``"adam"``, ``"sgd"``, ``"rmsprop"``, ``"adagrad"``, or ``"asgd"``: SGD that averages
            its weights once validation stands still, as AWD-LSTM does.
        momentum: Of SGD and RMSprop; None is none.
        nesterov: Whether SGD's momentum looks ahead.
        beta1: Decay of Adam's mean gradient; None is 0.9.
        beta2: Decay of Adam's and RMSprop's mean squared gradient; None is 0.999 and 0.99.
        epsilon: Added to the root of it; None is the optimiser's own.
        average_trigger: Epochs without improvement that ``"asgd"`` waits for; None is 5.
        schedule: Course of the learning rate: ``"constant"``, ``"step"``, ``"plateau"``, ``"cosine"``, ``"linear"``,
            ``"one-cycle"`` or ``"cyclic"`` (`training/schedules.py`).
        warmup_epochs: Epochs over which it rises from a thousandth, in fractions too.
        decay_factor: What ``"step"`` (None is 0.1) and ``"plateau"`` (0.5) multiply it by.
        decay_epochs: After how many epochs, or how many without improvement; None is 1 and 2.
        cycles: Equal parts of ``"cyclic"``, each of which starts at the whole rate and ends at 0; None is 5.
        label_smoothing: Share of a text's target that goes to all classes alike, which counters wrong labels and
            overconfidence.
        focal_gamma: Exponent of the focal loss, by which texts that are right already count little; 0 for none.
        class_weight: ``"balanced"``, or a mapping from labels to weights, for learning; validation is unweighted.
        threshold: Of two classes, the probability from which on the second one is predicted; ``"tuned"`` takes the one
            that is best for `monitor` on validation data, or for macro F1 where `monitor` is no figure of decisions;
            None predicts the most probable class.
        calibrate: ``"temperature"`` divides the logits of the trained network by the number that gives the least
            log-loss on validation data (Guo et al. 2017), so that probabilities mean what they say; None leaves them.
        l1: Penalty of the sum of the weights' absolute values.
        l2: Penalty of the sum of their squares.
        penalized: Which ones these are: ``"weights"``, all but biases; ``"embedding"``, ``"recurrent"``, ``"head"``, or
            ``"all"``.
        activity_penalty: Factor of the mean square of the encoder's output (Merity et al. 2017).
        temporal_penalty: Factor of the mean square of its change from a step to the next.
        batch_size: Texts of a batch.
        accumulate: Batches of a step of the optimiser, which learns from them as from one.
        augment_delete: Share of a text's tokens that are left out, drawn anew in each epoch (`data/augment.py`).
        augment_swap: Share that change places with another one.
        augment_insert: Share of which a neighbour in meaning is put somewhere into the text.
        augment_replace: Share that a neighbour in meaning takes the place of.
        augment_noise: Share of its characters that are mistyped.
        augment_share: Share of the texts that are changed in an epoch.
        synonyms: A file with synonyms, a group a line; without it neighbours are the nearest by `vectors` or
            `init_from`, else by the company that tokens keep in the training texts.
        init_from: A ``.tg`` file whose tokens' vectors and encoder training starts from.
        teacher: A ``.tg`` file of a classifier of the same labels, as an ensemble, whose probabilities are learned
            beside the labels; unlabelled texts are learned by them alone (Hinton, Vinyals & Dean 2015).
        teacher_temperature: What the logits of both are divided by for that; None is 2.
        teacher_weight: The share of it in the loss, to 1, which leaves the labels to the validation; None is 0.5.
        pretrain_epochs: Epochs for which the encoder first learns, from the texts and the unlabelled ones, to foretell
            the next token (Dai & Le 2015; in both directions, Peters et al. 2018).
        adapt_epochs: Epochs for which it then does so on the texts alone, the second of ULMFiT's three steps.
        frozen: What does not learn: ``"embedding"``, ``"encoder"`` (which is all but the head), or None.
        unfreeze_every: Epochs after which one layer more learns, the head first (Howard & Ruder 2018); None trains all.
        layer_rate_decay: What the learning rate is multiplied by from each layer to the one below it, as 0.4; not for
            `pretrain_epochs`, which begin from drawn weights.
        max_epochs: Epochs at most.
        patience: Epochs without improvement before training stops.
        monitor: What chooses the epoch on validation data: ``"accuracy"``, ``"loss"``, ``"balanced_accuracy"``,
            ``"macro_f1"``, ``"micro_f1"``, ``"roc_auc"``, ``"average_precision"``, ``"matthews"``, ``"log_loss"`` or
            ``"calibration_error"`` (`reporting/scores.py`); whether higher or lower is better is known.
        validation_fraction: Share of each class set aside when `fit` is given no ``validation_data``; 0 sets nothing
            aside, and the last epoch is kept.
        gradient_clip: Largest norm of the gradient, or None.
        gradient_clip_value: Largest absolute value of its entries, or None; clipped before the norm.
        ema_decay: Decay a step of an exponential moving average of the weights, as 0.998: it is the average that
            validation judges and that is kept. None keeps the weights themselves.
        warm_start: Whether `fit`, called again, goes on from the fitted weights, with the vocabulary, the classes and
            the network of the last fit, and with a new optimiser and schedule, as scikit-learn means it. Texts may be
            new.
        precision: ``"float32"``; ``"bfloat16"``, whose products are faster on hardware that has it; or, on a GPU,
            ``"float16"`` with a loss scale. Weights are float32.
        random_state: An int, which repeats a run bit for bit, a ``numpy.random.RandomState``, or None for a new seed.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.
        devices: Processes that train side by side, each on a part of every batch: on one machine's cores, or on as many
            GPUs. Without dropout they learn what one process does, up to the rounding of sums.
        verbose: Whether progress is shown on standard error; None shows it on a terminal.

    Attributes:
        classes_: Labels in the order of the columns of ``predict_proba``.
        encoder_: The fitted :class:`~tidegate.data.encoder.TextEncoder`.
        network_: The fitted ``torch.nn.Module``.
        history_: One dict an epoch: epoch, train_loss, validation_loss, validation_accuracy, tokens_per_second,
            seconds.
        best_epoch_: The epoch whose weights are kept, counted from 1.
        n_truncated_: Training texts that were longer than `max_tokens`.
        random_state_: The seed in use.
        threshold_: The probability from which on the second of two classes is predicted, or None.
        calibration_: None, or ``temperature``, and ``before`` and ``after`` it the ``log_loss`` and
            ``calibration_error`` on the validation data.
        timing_: Seconds spent on ``encode`` and ``train``.

    Example:
        >>> model = TextClassifier(max_epochs=5).fit(texts, labels)  # doctest: +SKIP
        >>> model.predict(["not bad at all"])  # doctest: +SKIP
        array(['positive'], dtype='<U8')
    """

    kind: ClassVar[str] = "text-classifier"
    classes_: np.ndarray

    def __init__(
        self,
        *,
        tokenizer: str = "words",
        lowercase: bool = True,
        strip_html: bool = True,
        normalization: str | None = "NFKC",
        max_tokens: int | None = 512,
        truncation: str = "head",
        max_vocabulary: int = 30000,
        min_count: int = 2,
        cell: str = "gru",
        embedding_size: int | None = None,
        embedding_init: str = "normal",
        vectors: str | Sequence[str] | None = None,
        tune_vectors_after: int | None = 0,
        char_encoder: str | None = None,
        char_embedding_size: int = 30,
        char_hidden_size: int = 50,
        language_model: str | None = None,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "attention",
        dropout: float = 0.5,
        embedding_dropout: float = 0.5,
        word_dropout: float = 0.0,
        locked_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: str = "adamw",
        momentum: float | None = None,
        nesterov: bool = False,
        beta1: float | None = None,
        beta2: float | None = None,
        epsilon: float | None = None,
        average_trigger: int | None = None,
        schedule: str = "constant",
        warmup_epochs: float = 0.0,
        decay_factor: float | None = None,
        decay_epochs: int | None = None,
        cycles: int | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        class_weight: Any = None,
        threshold: Any = None,
        calibrate: str | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        penalized: str = "weights",
        activity_penalty: float = 0.0,
        temporal_penalty: float = 0.0,
        batch_size: int = 32,
        accumulate: int = 1,
        augment_delete: float = 0.0,
        augment_swap: float = 0.0,
        augment_insert: float = 0.0,
        augment_replace: float = 0.0,
        augment_noise: float = 0.0,
        augment_share: float = 1.0,
        synonyms: str | None = None,
        init_from: str | None = None,
        teacher: str | None = None,
        teacher_temperature: float | None = None,
        teacher_weight: float | None = None,
        pretrain_epochs: int = 0,
        adapt_epochs: int = 0,
        frozen: str | None = None,
        unfreeze_every: int | None = None,
        layer_rate_decay: float = 1.0,
        max_epochs: int = 20,
        patience: int = 3,
        monitor: str = "accuracy",
        validation_fraction: float = 0.1,
        gradient_clip: float | None = 1.0,
        gradient_clip_value: float | None = None,
        ema_decay: float | None = None,
        warm_start: bool = False,
        precision: str = "float32",
        random_state: Any = None,
        device: str = "auto",
        devices: int = 1,
        verbose: bool | None = None,
    ) -> None:
        self._store(locals())

    def _learn(
        self, plan: FitPlan, X: Any, y: Any, sample_weight: Any, validation_data: tuple[Any, ...] | None, **options: Any
    ) -> None:
        texts, labels, weights = check_data(X, y, sample_weight, pairs=True)
        classes = known_values(self, "classes_", np.unique(labels), "classes")
        targets = np.searchsorted(classes, labels)
        if len(classes) < 2:
            raise DataError(
                f"a classifier needs at least two classes in y; all {len(labels)} rows have the label "
                f"{classes[0].item()!r}; check the label column"
            )
        self._check_decisions(len(classes))
        weighed = resolve_class_weight(self.class_weight, classes, targets)
        factors = None if weighed is None else weighed[targets]
        rows = Rows(texts, targets, weights)
        held = None if validation_data is None else Rows(*check_validation(validation_data, classes, pairs=True))
        parts = functools.partial(stratified_split, targets, self.validation_fraction)
        check_teaching(self)
        if self.teacher is not None:
            more, seed = options.pop("unlabelled", ()), derive_seed(plan.random_state, "split")
            rows, held, places = taught_rows(self, rows, held, classes, more, seed=seed)
            parts = functools.partial(_all, len(rows.texts))  # nothing more is set aside
            if factors is not None:
                factors = np.append(factors[places], np.ones(len(more)))
        self._fit_rows(
            plan,
            rows,
            held,
            split=parts,
            build=lambda num_tokens, size, **words: self._build(num_tokens, len(classes), size, **words),
            fitted={"classes_": classes},
            factors=factors,
            **options,
        )

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each text, ``[rows]``; with `threshold`, the second from there on."""
        probabilities = self.predict_proba(X)
        return self.classes_[self._decide(probabilities)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, ``[rows, classes]``, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        check_is_fitted(self)
        return self._predict_texts(check_texts(X, pairs=True), (len(self.classes_),))

    def predict_counted(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """What `predict_proba` gives, and the number of tokens of each text before any cut, ``[rows]``."""
        encoded, forms = self._encode_texts(check_texts(X, pairs=True))
        return self._predict_ids(encoded.ids, (len(self.classes_),), forms), encoded.lengths

    def predict_encoded(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """`predict_proba` of texts that ``encoder_`` has encoded: one vector of ids a text.

        Raises:
            ValueError: The network reads the characters of words, or the states of a language model.
        """
        check_is_fitted(self)
        if not self.reads_ids_alone:
            raise ValueError("this model reads more of a word than its id; use predict_proba")
        return self._predict_ids(ids, (len(self.classes_),))

    def _describe(self) -> dict[str, Any]:
        return {
            "tokenizer": self._reading_state(),
            "labels": self.classes_.tolist(),
            "metrics": {"n_truncated": self.n_truncated_, **self._decisions()},
        }

    def _restore(self, bundle: Bundle) -> nn.Module:
        words = self._restore_reading(bundle.tokenizer)
        self.classes_ = np.array(bundle.labels)
        self.n_truncated_ = bundle.metrics["n_truncated"]
        embedding_size = bundle.weights["embedding.weight"].shape[1]
        network = self._build(self.encoder_.num_tokens, len(self.classes_), embedding_size, **words)
        self._restore_decisions(bundle.metrics, network)
        return network

    def _build(self, num_tokens: int, num_classes: int, embedding_size: int, **words: Any) -> SequenceClassifier:
        if getattr(self, "teacher", None) is not None:  # of several labels a text there is none
            words["teaching"] = teaching_arguments(self)
        return SequenceClassifier(
            num_tokens, num_classes, embedding_size=embedding_size, **words, **self._arguments(_MODEL)
        )


def _all(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    del seed
    return np.arange(count), np.arange(0)
