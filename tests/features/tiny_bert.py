"""An encoder of the BERT family small enough for tests, its weights at random, written as transformers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ["the", "film", "was", "a", "good", "great", "lovely", "bad", "awful", "dull", "story", "of", "people", "cat"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_tiny_bert(folder: Path, *, masked: bool = True, **changes: Any) -> Path:
    """A folder with a two-layer BERT, with its masked-language head or without it."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {piece: place for place, piece in enumerate([*SPECIAL, *WORDS, "##s", ",", "."])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # pyright: ignore
    tokenizer.normalizer = normalizers.BertNormalizer()  # pyright: ignore
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    transformers.BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    settings = {
        "vocab_size": len(vocabulary),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        **changes,
    }
    config = transformers.BertConfig(**settings)
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(config) if masked else transformers.BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder
