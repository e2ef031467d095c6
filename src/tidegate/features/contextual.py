"""Vectors of words in their context, by an encoder of the BERT family through transformers, from files alone."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from tidegate.atomic_files import replacing
from tidegate.errors import DataError, require

__all__ = ["ContextualEncoder", "ContextualStates", "MaskedWord", "cached_states", "fill_mask", "locate_encoder"]

_PIECES_AT_ONCE = 4096
Progress = Callable[[int, int], None]
# The map of the first state that some encoders have; many files lack it, and it plays no part in states.
_UNUSED = "pooler."


@dataclass(frozen=True)
class ContextualStates:
    """The states of texts, row after row.

    Attributes:
        values: ``[N, D]`` float16, perhaps mapped from a file.
        lengths: ``[texts]`` int64; their sum is N.
    """

    values: np.ndarray
    lengths: np.ndarray

    def rows(self) -> list[np.ndarray]:
        """The numbers of each text's rows in `values`."""
        ends = np.cumsum(self.lengths)
        return [np.arange(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]


@dataclass(frozen=True)
class MaskedWord:
    """What may stand in the place of a mask: a piece, its probability, and the text with it."""

    piece: str
    probability: float
    text: str


class ContextualEncoder:
    """A pre-trained encoder and its tokeniser.

    Attributes:
        config: The model's configuration, as JSON holds it.
        tokenizer: The state of its tokeniser, of the library ``tokenizers``.
        model: The network.
        layer: Whose output is taken: 0 the embeddings, 1 the first layer, -1 the last.
    """

    def __init__(self, config: dict[str, Any], tokenizer: str, model: nn.Module, layer: int = -1) -> None:
        self.config, self.tokenizer, self.model, self.layer = config, tokenizer, model.eval(), layer
        depth = int(config["num_hidden_layers"])
        if not -depth - 1 <= layer <= depth:
            raise DataError(f"layer={layer}: the encoder has {depth} layers; expected {-depth - 1} to {depth}")
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @classmethod
    def load(cls, name: str | os.PathLike[str], layer: int = -1) -> Self:
        """The encoder in a folder, or of an installed package; nothing is fetched from anywhere.

        Raises:
            DataError: There is none, or it cannot be read.
            MissingExtraError: transformers is not installed.
        """
        folder = locate_encoder(name)
        with _quiet() as transformers, _readable(folder):
            model, loading = transformers.AutoModel.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
            if missing := _missing(loading):
                raise DataError(f"{folder}: the files of this encoder lack {missing[0]}; copy or download them again")
            return cls(model.config.to_dict(), _tokenizer_state(transformers, folder), model, layer)

    @classmethod
    def build(cls, config: dict[str, Any], tokenizer: str, layer: int = -1) -> Self:
        """An encoder of a configuration, its weights at random; a bundle brings its own.

        Raises:
            MissingExtraError: transformers is not installed.
        """
        with _quiet() as transformers:
            settings = transformers.AutoConfig.for_model(**config)
            return cls(config, tokenizer, transformers.AutoModel.from_config(settings), layer)

    @property
    def size(self) -> int:
        """D, the numbers of a state."""
        return int(self.config["hidden_size"])

    @property
    def longest(self) -> int:
        """The most pieces of a text that the encoder reads, its special ones included."""
        return int(self.config.get("max_position_embeddings", 512))

    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The ids of each text's pieces with the special ones around them, cut to `max_tokens`, and the whole lengths.

        Raises:
            DataError: `max_tokens` is more than the encoder reads.
        """
        if max_tokens > self.longest:
            raise DataError(f"max_tokens={max_tokens}: this encoder reads at most {self.longest}")
        found = self._tokenizer.encode_batch(list(texts))
        lengths = np.array([len(item.ids) for item in found], dtype=np.int64)
        rows = []
        for item in found:
            ids = np.array(item.ids, dtype=np.int64)
            if len(ids) > max_tokens:
                # The last one is special, and stays.
                ids = np.concatenate([ids[: max_tokens - 1], ids[-1:]])
            rows.append(ids)
        return rows, lengths

    def states(
        self, ids: Sequence[np.ndarray], device: str = "cpu", progress: Progress | None = None
    ) -> ContextualStates:
        """The states of texts, computed without gradients in batches of like lengths.

        Args:
            ids: The ids of each text, as `encode` gives them.
            device: Where they are computed.
            progress: Called after each batch with how many pieces are read, and of how many.
        """
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        values = np.empty((int(lengths.sum()), self.size), dtype=np.float16)
        order = np.argsort(lengths, kind="stable")
        model = self.model.to(device).eval()
        with torch.inference_mode():
            begin = done = 0
            while begin < len(order):
                end = begin + 1
                while end < len(order) and (end + 1 - begin) * lengths[order[end]] <= _PIECES_AT_ONCE:
                    end += 1
                rows = order[begin:end]
                padded, mask = _padded([ids[row] for row in rows])
                found = read_states(model, padded.to(device), mask.to(device), self.layer).cpu().numpy()
                for place, row in enumerate(rows):
                    values[starts[row] : starts[row] + lengths[row]] = found[place, : lengths[row]]
                begin, done = end, done + int(lengths[rows].sum())
                if progress is not None:
                    progress(done, len(values))
        return ContextualStates(values, lengths)

    def digest(self) -> str:
        """The SHA-256 of weights, tokeniser and layer, by which cached states know their encoder."""
        digest = hashlib.sha256(f"{self.layer}\n{self.tokenizer}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            if name.startswith(_UNUSED):
                continue
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def read_states(model: nn.Module, ids: Tensor, mask: Tensor, layer: int) -> Tensor:
    """The outputs ``[B, T, D]`` of a layer for ids ``[B, T]`` and a mask of what is no padding."""
    output = model(input_ids=ids, attention_mask=mask, output_hidden_states=layer != -1)
    return output.last_hidden_state if layer == -1 else output.hidden_states[layer]


def cached_states(
    encoder: ContextualEncoder,
    ids: Sequence[np.ndarray],
    folder: str | os.PathLike[str] | None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> ContextualStates:
    """The states of texts, from a file in `folder` where the same encoder has read the same texts before.

    The file is named by the SHA-256 of encoder and texts, and mapped. Without a folder nothing is kept.

    Raises:
        DataError: The folder cannot be written.
    """
    if folder is None:
        return encoder.states(ids, device, progress)
    digest = hashlib.sha256(encoder.digest().encode())
    for row in ids:
        digest.update(len(row).to_bytes(8, "little") + np.asarray(row, dtype="<i8").tobytes())
    path = Path(folder) / f"{digest.hexdigest()}.npy"
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    if not path.is_file():
        states = encoder.states(ids, device, progress)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.save(file, states.values)
        except OSError as error:
            raise DataError(f"{path}: the states could not be kept: {error.strerror or error}") from None
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: the kept states are damaged ({error}); remove the file") from None
    if values.shape != (int(lengths.sum()), encoder.size):
        raise DataError(f"{path}: the kept states have the shape {values.shape}; remove the file")
    return ContextualStates(values, lengths)


def fill_mask(name: str | os.PathLike[str], text: str, count: int = 5) -> list[MaskedWord]:
    """What may stand at the mask in a text, the most probable first, by the encoder's masked-language head.

    Args:
        name: A folder, or an installed package.
        text: A text with one mask, written as the encoder's own (``[MASK]``, ``<mask>``) or as ``___``.
        count: How many.

    Raises:
        DataError: There is no encoder, it has no such head, or the text has not one mask.
        MissingExtraError: transformers is not installed.
    """
    folder = locate_encoder(name)
    with _quiet() as transformers, _readable(folder):
        model, loading = transformers.AutoModelForMaskedLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = Tokenizer.from_str(_tokenizer_state(transformers, folder))
        special = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    # Weights of the head that the files lack would be drawn at random; the embeddings may serve as its last layer.
    if missing := _missing(loading):
        raise DataError(
            f"{folder}: this encoder has no masked-language head (its files lack {missing[0]}); give one that was "
            "trained to fill masks"
        )
    mask, mask_id = special.mask_token, special.mask_token_id
    if mask is None:
        raise DataError(f"{folder}: the tokeniser of this encoder has no mask")
    given = text.replace("___", mask)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = tokenizer.encode(given).ids
    if ids.count(mask_id) != 1:
        raise DataError(f"the text must have one mask, {mask} or ___; found {ids.count(mask_id)} in {text[:60]!r}")
    if len(ids) > model.config.max_position_embeddings:
        raise DataError(
            f"the text has {len(ids)} pieces; this encoder reads at most {model.config.max_position_embeddings}"
        )
    with torch.inference_mode():
        logits = model.eval()(input_ids=torch.tensor([ids])).logits[0, ids.index(mask_id)]
    shares, places = logits.softmax(-1).topk(min(count, len(logits)))
    found = []
    for share, place in zip(shares.tolist(), places.tolist(), strict=True):
        filled = [place if piece == mask_id else piece for piece in ids]
        found.append(
            MaskedWord(special.convert_ids_to_tokens(place), share, special.decode(filled, skip_special_tokens=True))
        )
    return found


def locate_encoder(name: str | os.PathLike[str]) -> Path:
    """The folder of an encoder: `name` itself, or the one inside the installed package of that name.

    Raises:
        DataError: There is no such folder or package, or no ``config.json`` in it.
    """
    folder = Path(name)
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return folder
        raise DataError(f"{folder}: expected an encoder's folder, found no config.json in it")
    module = os.fspath(name).replace("-", "_")
    found = None
    if module.isidentifier():
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            found = None
    if found is None or not found.submodule_search_locations:
        raise DataError(f"{name}: there is no such folder, and no such package is installed")
    for root in found.submodule_search_locations:
        for config in sorted(Path(root).rglob("config.json"), key=lambda path: len(path.parts)):
            state = json.loads(config.read_text(encoding="utf-8"))
            if isinstance(state, dict) and "model_type" in state:
                return config.parent
    raise DataError(f"{name}: the package holds no encoder (a config.json with a model_type)")


def _missing(loading: Any) -> list[str]:
    """Weights that the files lack, which transformers then draws at random."""
    names = loading["missing_keys"]
    return sorted(name for name in names if "position_ids" not in name and _UNUSED not in name)


def _tokenizer_state(transformers: Any, folder: Path) -> str:
    path = folder / "tokenizer.json"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.to_str()


def _padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.from_numpy(row)
        mask[place, : len(row)] = 1
    return ids, mask


@contextmanager
def _quiet() -> Iterator[Any]:
    """transformers without its bars and advice."""
    transformers = require("transformers", "bert")
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder}: this encoder cannot be read: {str(error).splitlines()[0]}") from None
