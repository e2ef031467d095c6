"""The two checkpoints of a run: the best epoch and the last one, written whole or not at all, read without pickle."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import nn

from tidegate.atomic_files import is_abandoned, replace_by_copy, replacing
from tidegate.errors import TidegateError

__all__ = ["AtomicCheckpoints", "CheckpointFolder", "read_checkpoint"]


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint writer with a temporary file beside the target, fsync and rename."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint whole, or raise ``TidegateError`` and leave what was there."""
        path = Path(path)
        try:
            with replacing(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
            raise TidegateError(
                f"cannot write the checkpoint {path}: {error}; free some space or choose another output folder"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """:func:`read_checkpoint`."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of tensors and plain values, on the CPU.

    Raises:
        TidegateError: The file is missing, truncated, damaged in any bit, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch reads tensors without a look at their checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} in it is damaged")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TidegateError(
            f"cannot read the checkpoint {path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}; "
            "start the run again without resuming"
        ) from error


class CheckpointFolder:
    """``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt`` in the folder of a run.

    The last one is written first, and where it is the best so far it then becomes ``best.ckpt`` as well: whenever a run
    is killed, ``last.ckpt`` is whole and says which epoch is the best, and the weights of that are in one of the two.
    """

    def __init__(self, run_folder: Path) -> None:
        self.folder = Path(run_folder) / "checkpoints"
        self.best = self.folder / "best.ckpt"
        self.last = self.folder / "last.ckpt"

    def prepare(self, resume: bool) -> Path | None:
        """Make the folder; return the checkpoint to resume from, or remove what an earlier run left.

        Raises:
            TidegateError: The folder cannot be made or written.
        """
        for path in filter(is_abandoned, self.folder.glob(".*")):
            with contextlib.suppress(OSError):
                path.unlink()
        if resume and self.last.is_file():
            return self.last
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.last.unlink(missing_ok=True)
            self.best.unlink(missing_ok=True)
        except OSError as error:
            raise TidegateError(
                f"cannot write to the run folder {self.folder}: {error.strerror or error}; choose another output folder"
            ) from error
        return None

    def keep_best(self) -> None:
        """Let the last checkpoint be the best one as well.

        Raises:
            TidegateError: It cannot be written.
        """
        try:
            replace_by_copy(self.last, self.best)
        except OSError as error:
            raise TidegateError(
                f"cannot write the checkpoint {self.best}: {error}; free some space or choose another output folder"
            ) from error

    def resume(self, fingerprint: Mapping[str, Any], network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        """The state of the run and the checkpoint of its best epoch, once it is known to be the same run.

        Args:
            fingerprint: What must be as it was.
            network: Of the architecture that the checkpoint must have.

        Raises:
            TidegateError: It was made with other settings or data, or of another architecture; the message names them.
                Or a file is damaged or missing.
        """
        last = read_checkpoint(self.last)
        state = self._state(last, self.last)
        found = state["fingerprint"]
        different = [
            f"{name} was {found.get(name)!r} and is {fingerprint.get(name)!r}"
            for name in sorted(found.keys() | fingerprint.keys())
            if found.get(name) != fingerprint.get(name)
        ]
        if different:
            raise TidegateError(
                f"cannot resume from {self.last}: {'; '.join(different)}; use the settings and data of that run, "
                "or start again without resuming"
            )
        if different := _differences(last["state_dict"], network):
            raise TidegateError(
                f"cannot resume from {self.last}: it is of another architecture: {'; '.join(different[:4])}"
                f"{' and more' if len(different) > 4 else ''}; use the model of that run, or start again without "
                "resuming"
            )
        if state["best_epoch"] == len(state["history"]):
            self.keep_best()
            return state, last
        best = read_checkpoint(self.best)
        if (epoch := self._state(best, self.best)["best_epoch"]) != state["best_epoch"]:
            raise TidegateError(
                f"cannot resume from {self.last}: its best epoch is {state['best_epoch']}, and {self.best} is of epoch "
                f"{epoch}: the two are of different runs; start again without resuming"
            )
        return state, best

    def random_state(self) -> int | None:
        """The seed of the run whose last checkpoint is here, or None."""
        if not self.last.is_file():
            return None
        state = self._state(read_checkpoint(self.last), self.last)
        # Pre-training has a seed of its own, and the fingerprint of the run that it is for.
        return int(state["fingerprint"].get("random_state", state["random_state"]))

    @staticmethod
    def _state(checkpoint: Any, path: Path) -> dict[str, Any]:
        """What a checkpoint says of its run."""
        try:
            state = checkpoint["callbacks"]["tidegate"]
            wanted = {"history", "best_epoch", "best_score", "fingerprint", "random_state"}
            if not wanted <= state.keys() or not isinstance(checkpoint["state_dict"], dict):
                raise KeyError
        except (KeyError, TypeError, AttributeError):
            raise TidegateError(
                f"cannot resume from {path}: expected a checkpoint that tidegate wrote in training, found another file"
            ) from None
        return state


def _differences(weights: Mapping[str, Any], network: nn.Module) -> list[str]:
    """In what the weights of a checkpoint are not those of a network."""
    prefix = "network."
    found = {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in weights.items()}
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return [
        *(f"it has no {name}" for name in own if name not in found),
        *(f"it has {name} as well" for name in found if name not in own),
        *(
            f"its {name} has the shape {found[name]}, here it is {shape}"
            for name, shape in own.items()
            if name in found and found[name] != shape
        ),
    ]
