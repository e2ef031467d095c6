"""The two checkpoints of a run: the best epoch and the last one, written whole or not at all, read without pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from tidegate.errors import TidegateError

__all__ = ["AtomicCheckpoints", "CheckpointFolder", "read_checkpoint"]


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint writer with a temporary file beside the target, fsync and rename."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint whole, or raise ``TidegateError`` and leave what was there."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
            raise TidegateError(
                f"cannot write the checkpoint {path}: {error}; free some space or choose another output folder"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """:func:`read_checkpoint`."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of tensors and plain values, on the CPU.

    Raises:
        TidegateError: The file is missing, truncated, or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, ValueError, KeyError) as error:
        raise TidegateError(
            f"cannot read the checkpoint {path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}; "
            "start the run again without resuming"
        ) from error


class CheckpointFolder:
    """``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt`` in the folder of a run."""

    def __init__(self, run_folder: Path) -> None:
        self.folder = Path(run_folder) / "checkpoints"
        self.best = self.folder / "best.ckpt"
        self.last = self.folder / "last.ckpt"

    def prepare(self, resume: bool) -> Path | None:
        """Make the folder; return the checkpoint to resume from, or remove what an earlier run left.

        Raises:
            TidegateError: The folder cannot be made or written.
        """
        if resume and self.last.is_file() and self.best.is_file():
            return self.last
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.best.unlink(missing_ok=True)
            self.last.unlink(missing_ok=True)
        except OSError as error:
            raise TidegateError(
                f"cannot write to the run folder {self.folder}: {error.strerror or error}; choose another output folder"
            ) from error
        return None

    def resumable_state(self, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
        """What the last epoch's checkpoint says of the run, once it is known to be the same run.

        Raises:
            TidegateError: It was made with other settings or data; the message names them.
        """
        state = read_checkpoint(self.last)["callbacks"]["tidegate"]
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
        return state

    def random_state(self) -> int | None:
        """The seed of the run whose last checkpoint is here, or None."""
        if not (self.last.is_file() and self.best.is_file()):
            return None
        return int(read_checkpoint(self.last)["callbacks"]["tidegate"]["random_state"])
