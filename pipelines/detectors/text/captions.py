"""Phrases as Grounding DINO reads them: captions of tokens, in which each phrase has its span.

A caption is `[CLS] phrase . phrase . [SEP]`. Each phrase is put into tokens on its own, so its span is known from the
start and no decoded text is ever searched for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from torch import Tensor, stack

from pipelines.errors import UsageError, WeightsError

VOCABULARY = "vocab.txt"
"""The name of the file, beside the weights."""
MAX_TOKENS = 256
"""Tokens in a caption: the width of the model's class head."""
SPECIAL_TOKENS = ("[CLS]", "[SEP]", ".", "?")
"""Tokens that end a phrase for the model: text attends to text between two of them."""
_UNKNOWN = "[UNK]"


@dataclass(frozen=True)
class Caption:
    """What one pass over an image looks for. phrases: places in the list given; spans: (start, stop) of each."""

    token_ids: tuple[int, ...]
    phrases: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def phrase_scores(self, token_scores: Tensor) -> Tensor:
        """... x tokens -> ... x phrases: the best score among the tokens of each span."""
        return stack([token_scores[..., start:stop].amax(-1) for start, stop in self.spans], -1)


class Vocabulary:
    """The word pieces of a vocab.txt, in lower case."""

    def __init__(self, path: Path) -> None:
        """special_ids: those of `SPECIAL_TOKENS`. Raises WeightsError when the file is no such vocabulary."""
        try:
            tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"{path} is no vocabulary: it cannot be read") from error
        ids = {token: id for id, token in enumerate(tokens)}
        if missing := [token for token in (*SPECIAL_TOKENS, _UNKNOWN) if token not in ids]:
            raise WeightsError(f"{path} is no vocabulary of BERT: it lacks {', '.join(missing)}")
        self.special_ids = [ids[token] for token in SPECIAL_TOKENS]
        self._unknown = ids[_UNKNOWN]
        self._tokenizer = BertWordPieceTokenizer(ids, lowercase=True)

    def tokens(self, phrase: str) -> list[int]:
        """A phrase's token ids. Full stops, question marks and brackets, which mean something to the model, are spaces.

        Raises UsageError when the vocabulary has no word of it, or it is too long for a caption.
        """
        ids: list[int] = self._tokenizer.encode(re.sub(r"[][.?]", " ", phrase), add_special_tokens=False).ids
        if all(id == self._unknown for id in ids):
            raise UsageError(f"the model knows no word of the phrase {phrase!r}: its vocabulary is English")
        if len(ids) > MAX_TOKENS - 3:
            raise UsageError(
                f"the phrase {phrase[:40]!r}... has {len(ids)} tokens, but the model reads {MAX_TOKENS - 3}"
            )
        return ids

    def captions(self, phrases: Sequence[str], *, alone: bool = False) -> list[Caption]:
        """As few captions as hold all phrases, in their order; alone: one caption for each phrase."""
        cls, sep, stop, _ = self.special_ids
        groups: list[list[tuple[int, list[int]]]] = []
        room = 0
        for place, phrase in enumerate(phrases):
            ids = self.tokens(phrase)
            if alone or len(ids) + 1 > room:
                groups.append([])
                room = MAX_TOKENS - 2
            groups[-1].append((place, ids))
            room -= len(ids) + 1
        captions = []
        for group in groups:
            token_ids, spans = [cls], []
            for _, ids in group:
                spans.append((len(token_ids), len(token_ids) + len(ids)))
                token_ids += [*ids, stop]
            captions.append(Caption((*token_ids, sep), tuple(place for place, _ in group), tuple(spans)))
        return captions
