"""Models that one run passed through: the weights at the end of each cycle of its learning rate."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

__all__ = ["fit_snapshots"]


def fit_snapshots(
    model: Any,
    members: int,
    X: Any,
    y: Any,
    sample_weight: Any,
    validation_data: tuple[Any, ...] | None,
    *,
    run_folder: Path | None,
    resume: bool,
    **options: Any,
) -> list[Any]:
    """Train a network by a cyclic learning rate and take its weights at the end of each cycle (Huang et al. 2017).

    Args:
        model: An estimator that was not fitted, of the schedule ``"cyclic"`` or the default one; it is changed.
        members: How many cycles.
        X, y, sample_weight, validation_data, run_folder, resume, options: As of the estimator's ``fit``.

    Raises:
        ValueError: An argument of the estimator does not go with snapshots.
        DataError, TidegateError, KeyboardInterrupt: As of the estimator's ``fit``.
    """
    from tidegate.training.snapshots import Snapshots

    if not hasattr(model, "schedule"):
        raise ValueError(f"snapshots need schedule='cyclic', which {type(model).__name__} has not; take seeds")
    if model.schedule not in ("constant", "cyclic") or model.cycles not in (None, members):
        raise ValueError(
            f"snapshots need schedule='cyclic' with a cycle a member; found schedule={model.schedule!r} and "
            f"cycles={model.cycles!r}: leave both out"
        )
    if model.max_epochs % members:
        raise ValueError(
            f"snapshots need cycles of whole epochs; found max_epochs={model.max_epochs} and {members} members: set "
            "max_epochs to a multiple of members"
        )
    for name in ("ema_decay", "calibrate", "threshold"):
        if (value := getattr(model, name, None)) is not None:
            raise ValueError(f"{name}={value!r} is not for snapshots, which are the weights themselves; leave it out")
    if model.optimizer == "asgd":
        raise ValueError("optimizer='asgd' is not for snapshots: it averages over what they keep apart")
    # A rising rate makes validation worse for a while, which must not end the run.
    model.set_params(schedule="cyclic", cycles=members, patience=model.max_epochs)
    snapshots = Snapshots(members, int(model.max_epochs))
    model.fit(
        X, y, sample_weight, validation_data, run_folder=run_folder, resume=resume, callbacks=[snapshots], **options
    )
    if run_folder is not None and not snapshots.taken:
        snapshots.read(run_folder)  # of a run that was finished before
    taken = []
    for epoch, weights in sorted(snapshots.taken.items()):
        member = copy.copy(model)
        member.network_ = copy.deepcopy(model.network_)
        member.network_.load_state_dict(weights)
        member.best_epoch_ = epoch
        taken.append(member)
    return taken
