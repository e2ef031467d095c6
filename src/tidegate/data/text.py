"""Preparing text and cutting it into tokens: words, characters, byte pairs, Chinese words."""

from __future__ import annotations

import html
import json
import logging
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from tidegate.data.vocabulary import UNKNOWN
from tidegate.errors import DataError, require

Tokenize = Callable[[str], list[str]]


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_HTML_ELEMENTS = _names(
    "a abbr acronym address applet area article aside audio b base basefont bdi bdo big blockquote body br button "
    "canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed "
    "fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html i iframe img "
    "input ins kbd label legend li link main map mark meta nav noframes noscript object ol optgroup option output p "
    "param picture pre progress q s samp script search section select small source span strike strong style sub "
    "summary sup svg table tbody td template textarea tfoot th thead time title tr track tt u ul var video wbr"
)
_INLINE_ELEMENTS = _names(
    "a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd mark q s samp small span strike strong sub sup "
    "tt u var wbr"
)
_HTML_TAG = re.compile(r"""</?([a-zA-Z][a-zA-Z0-9]*)(?=[\s/>])(?:[^<>"']|"[^"<]*"|'[^'<]*')*>""")
# What is dropped with all it holds, and how it ends. Each is looked for only before its last end, so that a text of
# nothing but openings costs no more than another.
_HTML_DROPPED = [
    (re.compile(rf"{opening}.*?{end}", re.DOTALL | re.IGNORECASE), re.compile(end, re.IGNORECASE))
    for opening, end in (("<!--", "-->"), (r"<script\b", r"</script\s*>"), (r"<style\b", r"</style\s*>"))
]
_HTML_DOCTYPE = re.compile(r"<!doctype\b[^<>]*>", re.IGNORECASE)
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x7f\ud800-\udfff]")
# Soft hyphens, zero-width blanks and marks of direction, which pages leave inside words.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def strip_html(text: str) -> str:
    """Remove the tags, comments, scripts and styles of HTML and resolve its entities.

    Only elements that HTML knows are tags, so ``<3``, ``a < b`` and ``<sarcasm>`` stay. A tag that breaks a line or a
    block leaves a blank, one inside a line (``<b>``) nothing. Plain patterns instead of the standard library's parser,
    which gives other results from one patch release to the next and drops what follows an unclosed ``<``.
    """
    if "<" in text:
        if "</s" in text or "</S" in text or "<!" in text:
            text = _drop_html(text)
        text = _HTML_TAG.sub(_replace_tag, text)
    return html.unescape(text) if "&" in text else text


def _drop_html(text: str) -> str:
    for pattern, end in _HTML_DROPPED:
        ends = [match.end() for match in end.finditer(text)]
        if ends:
            text = pattern.sub(" ", text[: ends[-1]]) + text[ends[-1] :]
    return _HTML_DOCTYPE.sub(" ", text)


def _replace_tag(match: re.Match[str]) -> str:
    name = match[1].lower()
    if name not in _HTML_ELEMENTS:
        return match[0]
    return "" if name in _INLINE_ELEMENTS else " "


def prepare(text: str, *, lowercase: bool, html: bool, normalization: str | None) -> str:
    """Text as the tokenisers take it: HTML stripped, Unicode normalised, in lower case.

    Control characters, NUL among them, become blanks, halves of surrogate pairs, which no file can hold, U+FFFD, and
    invisible marks such as the zero-width blank are left out.
    """
    if html:
        text = strip_html(text)
    if _NOT_TEXT.search(text):
        text = _NOT_TEXT.sub(lambda match: "\ufffd" if match[0] >= "\ud800" else " ", text)
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
        if normalization is not None:
            text = unicodedata.normalize(normalization, text)  # pyright: ignore[reportArgumentType]
    return text.lower() if lowercase else text


# Han and kana: scripts without spaces between words, whose characters carry meaning one by one.
CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)


@cache
def combining_marks() -> str:
    """The combining marks as a character class: ``\\w`` leaves out the vowel signs of many scripts."""
    codes = [code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


@cache
def _word_pattern() -> re.Pattern[str]:
    letter = rf"(?:[^\W_{CJK}]|[{combining_marks()}\u200c\u200d])"
    start = rf"[^\W_{CJK}]"
    # In ASCII text, by far the most common, a word is found without the long classes.
    word = rf"(?:[A-Za-z0-9]++(?:'[A-Za-z0-9]++)*+(?!'?[^\s\x00-\x7f])|{start}{letter}*+(?:'{start}{letter}*+)*+)"
    return re.compile(
        rf"\d++(?:[.,:/]\d++)++"  # 7/10, 3.5, 1,000
        rf"|(?:[A-Za-z]\.){{2,}}"  # u.s.
        rf"|{word}"
        rf"|[:;=]'?-?(?:[()\[\]|*\\]+|[dDpP](?!\w))|<3"  # :-) ;d <3
        rf"|\.\.\.|--"
        rf"|[\U0001f1e6-\U0001f1ff]{{2}}"  # a flag
        rf"|[^\w\s](?:[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff]|\u200d[^\w\s])*|_"  # one mark or emoji
        rf"|\w[{combining_marks()}]*",  # one Chinese or Japanese character
    )


def _tokenize_words(text: str) -> list[str]:
    if not text.isascii():
        text = text.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"')
    return _word_pattern().findall(text)


def _tokenize_characters(text: str) -> list[str]:
    return list(" ".join(text.split()))


@cache
def _jieba() -> Any:
    with warnings.catch_warnings():
        # Its source has escapes that newer Pythons warn of when they compile it.
        warnings.simplefilter("ignore")
        jieba = require("jieba", "words")
    jieba.setLogLevel(logging.WARNING)
    # Read here, since jieba's own start keeps a copy in the shared temporary folder and trusts what lies there.
    segmenter = jieba.Tokenizer()
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter


def _tokenize_chinese_words(text: str) -> list[str]:
    return [token for token in _jieba().lcut(text) if not token.isspace()]


TOKENIZERS: dict[str, Tokenize] = {
    "words": _tokenize_words,
    "characters": _tokenize_characters,
    "jieba": _tokenize_chinese_words,
}
"""The tokenisers without a state of their own. ``"bpe"`` has one, that `train_bpe` learns."""


_BLANK = "\u2581"
_BPE_PIECES = rf"{_BLANK}?(?:[\p{{L}}\p{{M}}\p{{N}}]|'(?=\p{{L}}))+|{_BLANK}?[^{_BLANK}\p{{L}}\p{{M}}\p{{N}}]|{_BLANK}"


def _mark_blanks(text: str) -> str:
    words = text.split()
    return _BLANK + _BLANK.join(words) if words else ""


def train_bpe(texts: Iterable[str], *, max_vocabulary: int, min_count: int) -> str:
    """Learn byte-pair merges of characters (Sennrich et al. 2016) and return them as the JSON of ``tokenizers``.

    A blank is written as ``\u2581`` at the head of the piece that follows it; no piece spans two words or a mark.

    Args:
        texts: Prepared texts.
        max_vocabulary: The largest number of pieces, ``<unk>`` included.
        min_count: Pairs that occur less often are not merged.
    """
    marked = [_mark_blanks(text) for text in texts]
    counts: Counter[str] = Counter()
    for text in marked:
        counts.update(text)
    # Chosen here, since the trainer breaks ties among rare characters by chance.
    alphabet = sorted(counts, key=lambda character: (-counts[character], character))[: max(max_vocabulary - 1, 1)]
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(  # pyright: ignore[reportAttributeAccessIssue]
        Regex(_BPE_PIECES), "isolated"
    )
    trainer = trainers.BpeTrainer(
        vocab_size=max_vocabulary,
        min_frequency=min_count,
        special_tokens=[UNKNOWN],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(marked, trainer, length=len(marked))
    return canonical_json(tokenizer.to_str())


def canonical_json(state: str) -> str:
    """The same JSON with its keys in order, so that equal states are equal texts."""
    return json.dumps(json.loads(state), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def load_bpe(state: str) -> tuple[Tokenize, list[str]]:
    """The tokeniser and the pieces, in the order of their ids, that `train_bpe` learned.

    Raises:
        DataError: The state is not one that the library ``tokenizers`` reads.
    """
    try:
        tokenizer = Tokenizer.from_str(state)
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"the state of the byte-pair tokeniser cannot be read: {error}") from None
    pieces = tokenizer.get_vocab()

    def tokenize(text: str) -> list[str]:
        return tokenizer.encode(_mark_blanks(text), add_special_tokens=False).tokens

    return tokenize, sorted(pieces, key=lambda piece: pieces[piece])
