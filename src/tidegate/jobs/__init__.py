"""What each command does, without a terminal: a module for each task of a recipe and each further command.

The four commands that every task has stand here: ``train``, ``evaluate``, ``predict`` and ``validate``.
"""

from tidegate.jobs.runs import Check, Evaluation, Training, evaluate, predict, train, validate

__all__ = ["Check", "Evaluation", "Training", "evaluate", "predict", "train", "validate"]
