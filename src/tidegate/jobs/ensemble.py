"""What ``tidegate ensemble`` does, without a terminal: saved classifiers joined into one, judged and saved."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.errors import DataError, TidegateError, require

__all__ = ["Joined", "Judged", "join"]


@dataclass(frozen=True)
class Judged:
    """How the members and all together do on labelled texts.

    Attributes:
        data: The texts.
        rows: How many.
        members: The accuracy of each member.
        together: That of all together; of weights fitted on these very texts, five parts of them were judged by weights
            that were fitted on the others.
    """

    data: str
    rows: int
    members: list[float]
    together: float


@dataclass(frozen=True)
class Joined:
    """An ensemble that was saved.

    Attributes:
        model: Its file.
        members: The files of its members.
        kinds: What each is.
        weights: How their probabilities are joined, in words.
        held_out: How they do on the texts that the weights were fitted on, or that were given instead.
        test: How they do on the test texts; ``metrics`` of all together.
        metrics: ``classification_metrics`` on the test texts.
        seconds: Time it took.
    """

    model: Path
    members: list[str]
    kinds: list[str]
    weights: str
    held_out: Judged | None
    test: Judged | None
    metrics: dict[str, Any] | None
    seconds: float


def join(
    models: Sequence[str | Path],
    out: str | Path,
    *,
    weights: str | Sequence[float] = "fit",
    data: str | None = None,
    part: str | None = None,
    test: str | None = None,
    test_part: str | None = None,
    overwrite: bool = False,
    columns: dict[str, str | None] | None = None,
    **reading: Any,
) -> Joined:
    """Join saved classifiers of texts into one file.

    Args:
        models: Their ``.tg`` files.
        out: Where the ensemble goes.
        weights: ``"fit"``, ``"equal"``, or a number a member; see :class:`~tidegate.TextStack`.
        data: Labelled texts that no member learned from, as `evaluate` reads them; ``"fit"`` needs them.
        part: Their part: a value of the column ``split``.
        test: Labelled texts on which the members and the ensemble are compared.
        test_part: Their part.
        overwrite: Whether `out` may be replaced.
        columns: Names of the columns ``text``, ``label`` and ``split``, where they are others.
        reading: How files are read, as of `evaluate`.

    Raises:
        BundleError: A model cannot be read, or the ensemble not be written.
        DataError: The texts cannot be used, or the members not be joined.
        TidegateError: `out` exists, ``weights="fit"`` has no data, or weights are wrong.
    """
    started = time.perf_counter()
    require("torch", "train")
    from tidegate.data.sources import align_labels
    from tidegate.estimators.loading import load
    from tidegate.estimators.members import check_members, member_probabilities
    from tidegate.estimators.text_stack import TextStack
    from tidegate.jobs.classification import read_labelled
    from tidegate.jobs.run_steps import add_metrics
    from tidegate.reporting.metrics import classification_metrics

    target = Path(out)
    if target.exists() and not overwrite:
        raise TidegateError(f"{target}: the file exists. Replace it (--overwrite), or name another (--out).")
    if weights == "fit" and data is None:
        raise TidegateError(
            "--weights fit needs --data, labelled texts that no member learned from. Give them, or --weights equal."
        )
    loaded = [load(path) for path in models]
    names = [str(path) for path in models]
    classes = check_members(loaded, names).tolist()

    def read(source: str, chosen: str | None) -> tuple[list[str], list[Any]]:
        examples = read_labelled(source, {**(columns or {}), "part": chosen}, **reading)
        return examples.texts, align_labels(examples, classes)

    held = None if data is None else read(data, part)
    tested = None if test is None else read(test, test_part)
    if held is not None and tested is not None and data == test and part == test_part:
        raise DataError(f"--data and --test are the same texts, {data}; weights must not be fitted on test texts")
    try:
        stack = TextStack.join(loaded, *(held or ()), weights=weights)
    except ValueError as error:
        raise TidegateError(str(error)) from None
    judged = compared = metrics = None
    if held is not None and data is not None:
        judged = Judged(data, len(held[0]), stack.member_accuracies_, float(stack.validation_accuracy_ or 0.0))
    model = stack.save(target)
    if tested is not None and test is not None:
        said = member_probabilities(loaded, tested[0])
        together = stack.stacking_.probabilities(said)
        metrics = classification_metrics(tested[1], together, classes)
        alone = [classification_metrics(tested[1], one, classes)["accuracy"] for one in said]
        compared = Judged(test, len(tested[0]), alone, metrics["accuracy"])
        add_metrics(model, {"test": metrics})
    return Joined(
        model=model,
        members=names,
        kinds=[member.kind for member in loaded],
        weights=stack.stacking_.describe(),
        held_out=judged,
        test=compared,
        metrics=metrics,
        seconds=time.perf_counter() - started,
    )
