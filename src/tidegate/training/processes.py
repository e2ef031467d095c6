"""Several processes that train one network side by side on this machine: this one is rank 0 and starts the others.

The others get the network, the data and the settings in a file, and run ``tidegate.training.rank``. They are in
sessions of their own, so that Ctrl-C reaches this process alone; when it ends, however it ends, they end with it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

from tidegate.errors import TidegateError

__all__ = ["Processes", "check_devices", "make_strategy", "shared_source"]

_READY = b"ready\n"
_START_SECONDS, _END_SECONDS = 600.0, 30.0
# How long a process waits for another one, which may be writing a checkpoint.
_PATIENCE = timedelta(minutes=30)


def check_devices(devices: Any, device: str) -> None:
    """Refuse a number of processes that cannot be.

    Raises:
        ValueError: It is no whole number of at least 1, there are fewer GPUs, or the device names one of them.
    """
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ValueError(f"devices must be a whole number of at least 1; found {devices!r}")
    if devices == 1:
        return
    if not torch.distributed.is_available():
        raise ValueError(f"devices={devices} needs torch.distributed, which this build of torch has not; use devices=1")
    found = torch.device(device)
    if found.type == "cuda":
        if found.index is not None:
            raise ValueError(f'device={device!r} names one GPU, and devices={devices} takes several; use device="cuda"')
        if devices > torch.cuda.device_count():
            raise ValueError(
                f"devices={devices} needs as many GPUs, and there are {torch.cuda.device_count()} here; use fewer, or "
                'device="cpu"'
            )


def shared_source(source: Any, rank: int, world: int) -> Any:
    """The part of each batch of a source that one of several processes takes.

    Raises:
        ValueError: The source has no such parts.
    """
    if not hasattr(source, "share"):
        raise ValueError(
            f"devices={world}: {type(source).__name__} cannot be divided among processes; train with devices=1"
        )
    return source.share(rank, world)


class OneMachine(ClusterEnvironment):
    """Which of the processes on this machine this is, as Lightning asks for it."""

    def __init__(self, rank: int, world: int, port: int) -> None:
        super().__init__()
        self.rank, self.world, self.port = rank, world, port

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning need not start any."""
        return True

    @property
    def main_address(self) -> str:
        """Where rank 0 is."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Where rank 0 listens."""
        return self.port

    @staticmethod
    def detect() -> bool:
        """Never chosen by itself."""
        return False

    def world_size(self) -> int:
        """How many processes there are."""
        return self.world

    def set_world_size(self, size: int) -> None:
        """Lightning says what it knows from here."""

    def global_rank(self) -> int:
        """Which of them this is."""
        return self.rank

    def set_global_rank(self, rank: int) -> None:
        """Lightning says what it knows from here."""

    def local_rank(self) -> int:
        """The same, on one machine."""
        return self.rank

    def node_rank(self) -> int:
        """The only machine."""
        return 0


def make_strategy(rank: int, world: int, port: int, device: torch.device) -> DDPStrategy:
    """Lightning's data-parallel training, over gloo on CPUs and NCCL on GPUs."""
    return DDPStrategy(
        cluster_environment=OneMachine(rank, world, port),
        process_group_backend="nccl" if device.type == "cuda" else "gloo",
        timeout=_PATIENCE,
        # Parts of a network may rest for some epochs, or have no row of a batch. Buckets that are never rebuilt
        # let a resumed run add up in the same order.
        find_unused_parameters=True,
        broadcast_buffers=False,
    )


class Processes:
    """The ranks from 1 on.

    Args:
        job: What :func:`tidegate.training.rank.main` does, as arguments of its own.
        world: How many processes there are, with this one.
        device: What they train on.

    Attributes:
        port: Where rank 0 listens.

    Raises:
        ValueError: A part of the job, as a callback, cannot be sent to another process.
    """

    def __init__(self, job: dict[str, Any], world: int, device: torch.device) -> None:
        self.world, self.port = world, _free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="tidegate-")
        self._children: list[subprocess.Popen[bytes]] = []
        self._job = Path(self._folder.name) / "job"
        self._threads = max(1, torch.get_num_threads() // world) if device.type == "cpu" else torch.get_num_threads()
        try:
            content: bytes = _pickler().dumps(job)
        except Exception as error:  # whatever a user's object raises
            self._folder.cleanup()
            raise ValueError(
                f"devices={world}: a part of the training cannot be sent to another process: {error}; train with "
                "devices=1, or leave out the callback that it is"
            ) from error
        self._job.write_bytes(content)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the others; they end when the block does, by themselves or not.

        Raises:
            TidegateError: One of them failed; the message says which, and its last words.
        """
        threads, hook = torch.get_num_threads(), sys.excepthook
        known = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")}
        try:
            torch.set_num_threads(self._threads)
            for rank in range(1, self.world):
                self._children.append(self._start(rank))
            self._await_ready()
            try:
                yield
            except RuntimeError as error:  # of a connection that broke, by a process that is still about to end
                self._await_end(any_one=True)
                self._blame(error)
                raise
            self._await_end()
        finally:
            self._end()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            for name, value in known.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            torch.set_num_threads(threads)
            sys.excepthook = hook  # torch.distributed has put its own before it
            self._folder.cleanup()

    def _start(self, rank: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tidegate.training.rank", str(self._job), str(rank)]
        command += [str(self.world), str(self.port)]
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(self._threads)}
        environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        with open(self._words(rank), "wb") as words:
            # Standard input is the line by which a process sees that this one is gone.
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                env=environment,
                start_new_session=True,
            )

    def _words(self, rank: int) -> Path:
        return Path(self._folder.name) / f"rank-{rank}"

    def _await_ready(self) -> None:
        waiting = {child.stdout.fileno(): child for child in self._children if child.stdout is not None}
        limit = time.monotonic() + _START_SECONDS
        while waiting:
            readable = select.select(list(waiting), [], [], 1.0)[0]
            for descriptor in readable:
                if os.read(descriptor, len(_READY)) != _READY:
                    waiting[descriptor].wait(_END_SECONDS)
                    self._blame(None)
                del waiting[descriptor]
            if time.monotonic() > limit:
                raise TidegateError(f"a process of {self.world} did not start within {_START_SECONDS:.0f} s")

    def _blame(self, error: BaseException | None) -> None:
        """Raise what ended a process, if one did not end well."""
        for rank, child in enumerate(self._children, start=1):
            code = child.poll()
            if code:
                lines = self._words(rank).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                how = f"was ended by signal {-code}" if code < 0 else f"failed with exit status {code}"
                said = f": {lines[-1].removeprefix(f'[rank{rank}]: ')}" if lines else ""
                raise TidegateError(
                    f"process {rank + 1} of {self.world} {how}{said}. The others were ended; the finished epochs are "
                    "kept where the run has a folder: go on by resuming it"
                ) from error

    def _await_end(self, any_one: bool = False) -> None:
        """Wait a while for the end of all processes, or of the first."""
        limit = time.monotonic() + _END_SECONDS
        while time.monotonic() < limit:
            ended = [child.poll() is not None for child in self._children]
            if all(ended) or (any_one and any(ended)):
                return
            time.sleep(0.02)

    def _end(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def _pickler() -> Any:
    """What pickles objects of a script or a notebook too: joblib, which scikit-learn needs, has or requires it."""
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return importlib.import_module("joblib.externals.cloudpickle")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
