"""Raw text to sentences of tokens that know where they stand: cut for tagging, nothing normalised, nothing lost."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from tidegate.data.text import CJK, combining_marks
from tidegate.errors import DataError, nearest

__all__ = ["TAGGING_TOKENIZERS", "Token", "cut_text", "split_sentences"]

TAGGING_TOKENIZERS = {
    "words": "words as treebanks cut them: clitics ('s, n't) and marks apart, Chinese characters one by one",
    "characters": "every character but white space",
    "blanks": "what stands between white space: the text is cut already",
}
_CLOSING = frozenset("\"'”’)]}»」』】）〕》〉")
_ENDS = frozenset("。！？｡!?…‼⁇⁈⁉।؟۔")
_ABBREVIATIONS = (
    "mr mrs ms dr prof sen rep gen col lt sgt capt gov st sr jr co corp inc ltd jan feb mar apr jun jul aug sep sept "
    "oct nov dec vs etc no vol fig dept univ bros"
)


class Token(NamedTuple):
    """A token, and the characters ``start`` to ``end`` (exclusive) of the text that it is, counted as Python counts."""

    text: str
    start: int
    end: int


@cache
def _words() -> re.Pattern[str]:
    letter = rf"(?:[^\W\d_{CJK}]|[{combining_marks()}\u200c\u200d])"
    plain = rf"[^\W_{CJK}]"
    rest = rf"(?:{plain}|[{combining_marks()}\u200c\u200d])"
    short = "|".join(_ABBREVIATIONS.split())
    return re.compile(
        rf"(?:https?://|www\.)\S+?(?=[.,;:!?)\]}}\"'”’]*(?:\s|$))"
        rf"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
        rf"|\d++(?:[.,:/-]\d++)*+[^\W\d_{CJK}]*+(?!\w)"
        rf"|(?:[^\W\d_{CJK}]\.){{2,}}"
        rf"|(?:(?i:{short})|[A-Z])\.(?=\s+\w)"
        rf"|(?i:n['’]t)(?!\w)|['’](?i:s|ll|re|ve|d|m)(?!\w)"
        rf"|{letter}+?(?=(?i:n['’]t)(?!\w))"
        rf"|{plain}{rest}*(?:[-&](?={plain}){rest}+|['’](?!(?i:s|ll|re|ve|d|m)(?!\w))(?={letter}){rest}+)*"
        rf"|\.\.+|--+|``|''"
        rf"|[\U0001f1e6-\U0001f1ff]{{2}}"
        rf"|[^\w\s](?:[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff{combining_marks()}]|\u200d[^\w\s])*"
        rf"|\S[{combining_marks()}]*"
    )


_CHARACTERS = re.compile(r"\S")
_BETWEEN_BLANKS = re.compile(r"\S+")


def cut_text(text: str, tokenizer: str = "words") -> list[Token]:
    """The tokens of a text: every character of it that is not white space stands in exactly one of them.

    Args:
        text: Any text; ``text[token.start : token.end] == token.text``.
        tokenizer: One of `TAGGING_TOKENIZERS`.

    Raises:
        DataError: There is no such tokenizer.
    """
    if tokenizer not in TAGGING_TOKENIZERS:
        raise DataError(
            f"tokenizer={tokenizer!r}: expected one of {', '.join(TAGGING_TOKENIZERS)}."
            f"{nearest(tokenizer, TAGGING_TOKENIZERS)}"
        )
    pattern = _words() if tokenizer == "words" else _CHARACTERS if tokenizer == "characters" else _BETWEEN_BLANKS
    return [Token(match[0], match.start(), match.end()) for match in pattern.finditer(text)]


def split_sentences(text: str, tokens: list[Token]) -> list[list[Token]]:
    """The sentences of a text: they end at line ends, after 。！？ and after . ! ? before a new beginning.

    Closing quotation marks and brackets belong to the sentence before them. A full stop ends one only before white
    space, and not before a small letter.

    Args:
        text: The text.
        tokens: Its tokens, from `cut_text`.
    """
    sentences: list[list[Token]] = []
    current: list[Token] = []
    ended = False
    for place, token in enumerate(tokens):
        if current:
            gap = text[current[-1].end : token.start]
            closing = ended and not gap and token.text in _CLOSING
            if "\n" in gap or "\r" in gap or (ended and not closing and _begins(gap, token.text, current)):
                sentences.append(current)
                current, ended = [], False
        current.append(token)
        following = tokens[place + 1 : place + 2]
        if not (ended and token.text in _CLOSING):
            ended = bool(following) and (token.text[-1] in _ENDS or token.text in (".", "..", "..."))
    return [*sentences, current] if current else sentences


def _begins(gap: str, word: str, before: list[Token]) -> bool:
    mark = next(token.text for token in reversed(before) if token.text not in _CLOSING)
    if mark[-1] in _ENDS and not mark.isascii():
        return True
    return bool(gap) and not word[0].islower()
