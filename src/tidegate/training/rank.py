"""One of several processes that train one network: what ``Processes`` starts for the ranks from 1 on."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from tidegate.training.fit import make_average, make_trainer, quiet_lightning
from tidegate.training.module import DivergenceError, NetworkModule
from tidegate.training.processes import make_strategy, shared_source
from tidegate.training.selection import Selection

__all__ = ["main"]


def main(job: Path, rank: int, world: int, port: int) -> None:
    """Train along, as rank 0 does, but for what it writes and shows."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # By the process that started this one, into a folder of its own.
    parts: dict[str, Any] = pickle.loads(job.read_bytes())
    settings, validation = parts["settings"], parts["validation"]
    network = parts["network"]
    if parts["held"] is not None:
        network.hold(parts["held"])
    average = make_average(network, settings)
    selection = Selection(settings, parts["folder"], parts["fingerprint"], average)
    if parts["state"] is not None:
        selection.load_state_dict(parts["state"])
    module = NetworkModule(
        network,
        shared_source(parts["train"], rank, world),
        None if validation is None else shared_source(validation, rank, world),
        settings,
    )
    callbacks = [*([] if average is None else [average]), *parts["callbacks"], selection]
    device = torch.device(settings.device)
    with quiet_lightning():
        strategy = make_strategy(rank, world, port, device)
        trainer = make_trainer(settings, callbacks, [], validated=validation is not None, strategy=strategy)
        os.write(1, b"ready\n")
        with contextlib.suppress(DivergenceError):  # rank 0 has found it too, and says so
            trainer.fit(module, ckpt_path=parts["resume_from"])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    """Wait for the end of the process that holds the other end of standard input."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
