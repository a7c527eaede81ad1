"""From what people write to phrases, categories, captions and spans of tokens."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_text import LETTERS, WORDS, write_vocabulary

from pipelines.categories import COCO
from pipelines.detectors.text.captions import MAX_TOKENS, Vocabulary
from pipelines.detectors.text.phrases import Phrase, parse_phrases
from pipelines.errors import DataError, UsageError, WeightsError
from pipelines.types import Category


def texts(phrases: tuple[Phrase, ...]) -> list[str]:
    return [phrase.text for phrase in phrases]


def named(phrases: tuple[Phrase, ...]) -> dict[str, tuple[int, str, float | None]]:
    return {phrase.text: (phrase.category.id, phrase.category.name, phrase.threshold) for phrase in phrases}


class TestWhatPeopleWrite:
    @pytest.mark.parametrize(
        "written",
        [
            ["cat . red car"],
            ["cat. red car."],
            ["cat,red  car"],
            ["cat", "red car"],
            [" cat .", ", red\tcar . cat . CAT"],
        ],
    )
    def test_separators(self, written: list[str]) -> None:
        assert texts(parse_phrases(written)) == ["cat", "red car"]

    def test_a_file_of_phrases(self, tmp_path: Path) -> None:
        path = tmp_path / "phrases.TXT"
        path.write_text("\ufeffcat\r\nred car, bus\n\n", encoding="utf-8")
        assert texts(parse_phrases([str(path), "hat"])) == ["cat", "red car", "bus", "hat"]

    @pytest.mark.parametrize("content", [None, b"\xff\xfe"])
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, content: bytes | None) -> None:
        if content:
            (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(UsageError, match=r"a\.txt cannot be read: (No such file|it is not UTF-8)"):
            parse_phrases([str(tmp_path / "a.txt")])

    @pytest.mark.parametrize("written", [[], [""], [" . , "]])
    def test_nothing(self, written: list[str]) -> None:
        with pytest.raises(UsageError, match="nothing to look for"):
            parse_phrases(written)

    @given(st.lists(st.text(), max_size=4))
    def test_any_text_gives_clean_phrases_or_a_line(self, written: list[str]) -> None:
        written = [text for text in written if not text.lower().endswith(".txt")]
        if not any(part.strip() for text in written for part in re.split("[.,]", text)):
            with pytest.raises(UsageError, match="nothing to look for"):
                parse_phrases(written)
            return
        phrases = parse_phrases(written)
        for phrase in phrases:
            assert phrase.text == " ".join(phrase.text.split()) and not set(".,\n") & set(phrase.text)
        assert len({text.casefold() for text in texts(phrases)}) == len(phrases)


class TestCategories:
    def test_phrases_are_their_own_and_numbered(self) -> None:
        assert named(parse_phrases(["red car . cat"])) == {"red car": (1, "red car", None), "cat": (2, "cat", None)}

    def test_cocos_names_have_cocos_ids(self) -> None:
        assert named(parse_phrases(["dog . person"])) == {"dog": (18, "dog", None), "person": (1, "person", None)}
        every = parse_phrases([" . ".join(category.name for category in COCO)])
        assert [phrase.category for phrase in every] == list(COCO)

    def test_pairs(self) -> None:
        found = parse_phrases(ontology="person in red=worker, hard  hat = helmet@0.4,man=worker")
        assert named(found) == {
            "person in red": (1, "worker", None),
            "hard hat": (2, "helmet", 0.4),
            "man": (1, "worker", None),
        }

    def test_text_joins_the_table(self) -> None:
        assert texts(parse_phrases(["HARD HAT . cat"], "hard hat=helmet")) == ["hard hat", "cat"]

    def test_toml(self, tmp_path: Path) -> None:
        path = tmp_path / "ontology.toml"
        path.write_text(
            '"man" = "worker"\n"St. Bernard, wet" = "dog"\n["person in red"]\ncategory = "worker"\nid = 2\n'
            '["hard hat"]\nthreshold = 0.4\nid = 7\n["cat"]\n'
        )
        assert named(parse_phrases(ontology=str(path))) == {
            "man": (2, "worker", None),
            "St. Bernard, wet": (1, "dog", None),
            "person in red": (2, "worker", None),
            "hard hat": (7, "hard hat", 0.4),
            "cat": (3, "cat", None),
        }

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("cat", "is not an ontology in TOML: Expected '='"),
            ("cat = 3", "must be a category, or a table of category, id, threshold"),
            ("[cat]\nname = 'a'", "must be a category, or a table"),
            ("[cat]\nid = true", "the id of 'cat' is True"),
            ("[cat]\nthreshold = '1'", "the threshold of 'cat' is '1'"),
            ("[cat]\nthreshold = 2", "the threshold of 'cat' is 2, but must be from 0 to 1"),
            ("[cat]\nid = 1\n[dog]\nid = 1", "two categories of the ontology have the same id"),
            ("[cat]\nid = 1\n[kitten]\ncategory = 'cat'\nid = 2", "the category 'cat' has two ids, 1 and 2"),
            ("' ' = 'cat'", "lacks one of the two"),
        ],
    )
    def test_toml_that_cannot_be_right(self, tmp_path: Path, content: str, reason: str) -> None:
        (tmp_path / "a.toml").write_text(content)
        with pytest.raises((UsageError, DataError), match=reason):
            parse_phrases(ontology=str(tmp_path / "a.toml"))

    @pytest.mark.parametrize("pair", ["cat", "cat=pet@x", "cat=pet@"])
    def test_pairs_that_cannot_be_right(self, pair: str) -> None:
        with pytest.raises(UsageError, match="is no phrase=category"):
            parse_phrases(ontology=pair)

    @pytest.mark.parametrize("pair", ["=pet", "cat=", "cat=pet@1.5", "cat=pet@nan"])
    def test_pairs_that_lack_something(self, pair: str) -> None:
        with pytest.raises(UsageError, match=r"lacks one of the two|but must be from 0 to 1"):
            parse_phrases(ontology=pair)

    @given(
        st.dictionaries(st.text("abc ", min_size=1), st.tuples(st.sampled_from("wxyz"), st.integers(1, 9) | st.none()))
    )
    def test_one_id_for_one_name(self, wishes: dict[str, tuple[str, int | None]]) -> None:
        from pipelines.detectors.text.phrases import _number, _Wish

        written = [_Wish(text, name, id) for text, (name, id) in wishes.items()]
        pairs = {(name, id) for name, id in wishes.values() if id}
        if len(dict(pairs)) < len(pairs) or len({id for _, id in pairs}) < len(pairs):
            with pytest.raises(UsageError, match=r"has two ids|have the same id"):
                _number(written)
            return
        found = _number(written)
        assert found.keys() == {name for name, _ in wishes.values()}
        assert len({category.id for category in found.values()}) == len(found)
        for name, id in wishes.values():
            assert found[name] == Category(found[name].id, name) and id in (None, found[name].id)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return Vocabulary(write_vocabulary(tmp_path_factory.mktemp("vocabulary")))


KNOWN = st.text(LETTERS.replace("/", ""), min_size=1, max_size=12)
"""Words that the small vocabulary can spell: most are split into pieces."""
PHRASES = st.lists(st.lists(st.sampled_from(WORDS[:20]) | KNOWN, min_size=1, max_size=6).map(" ".join), min_size=1)


class TestSpans:
    def test_by_hand(self, vocabulary: Vocabulary) -> None:
        (caption,) = vocabulary.captions(["car", "red car", "cats"])
        car, red, cat = (vocabulary.tokens(word)[0] for word in ("car", "red", "cat"))
        plural = vocabulary.tokens("cats")[1]
        cls, sep, stop, _ = vocabulary.special_ids
        assert caption.token_ids == (cls, car, stop, red, car, stop, cat, plural, stop, sep)
        assert caption.spans == ((1, 2), (3, 5), (6, 8))

    def test_scores_go_to_the_phrase_of_the_span(self, vocabulary: Vocabulary) -> None:
        """ "car" is in both phrases: only the position of the token tells which is meant."""
        (caption,) = vocabulary.captions(["car", "red car", "cats"])
        scores = torch.zeros(5, MAX_TOKENS)
        for row, token in enumerate([1, 4, 7, 2, 9]):  # car; car of red car; ##s; a full stop; [SEP]
            scores[row, token] = 0.9
        expected = [[0.9, 0, 0], [0, 0.9, 0], [0, 0, 0.9], [0, 0, 0], [0, 0, 0]]
        np.testing.assert_allclose(caption.phrase_scores(scores), expected)

    @given(PHRASES, st.booleans())
    def test_spans_hold_exactly_the_phrases_tokens(
        self, vocabulary: Vocabulary, phrases: list[str], alone: bool
    ) -> None:
        captions = vocabulary.captions(phrases, alone=alone)
        assert [place for caption in captions for place in caption.phrases] == list(range(len(phrases)))
        if alone:
            assert all(len(caption.phrases) == 1 for caption in captions)
        cls, sep, stop, _ = vocabulary.special_ids
        for caption in captions:
            ids = caption.token_ids
            assert len(ids) <= MAX_TOKENS and ids[0] == cls and ids[-1] == sep
            end = 1
            for place, span in zip(caption.phrases, caption.spans, strict=True):
                assert span[0] == end and ids[span[1]] == stop
                assert list(ids[slice(*span)]) == vocabulary.tokens(phrases[place])
                end = span[1] + 1
            assert end == len(ids) - 1

    @given(PHRASES)
    def test_a_caption_is_what_the_whole_text_gives(self, vocabulary: Vocabulary, phrases: list[str]) -> None:
        """Phrases put into tokens one by one are the tokens of `phrase . phrase .`, as the models were trained on."""
        for caption in vocabulary.captions(phrases):
            text = " ".join(f"{phrases[place]} ." for place in caption.phrases)
            assert list(caption.token_ids) == vocabulary._tokenizer.encode(text).ids

    @given(PHRASES, st.integers(0, 2**32 - 1))
    def test_scores_of_many_passes(self, vocabulary: Vocabulary, phrases: list[str], seed: int) -> None:
        """What is merged is, for each phrase, the best score of its own tokens, whichever the pass."""
        captions = vocabulary.captions(phrases * 40)
        rng = np.random.default_rng(seed)
        for caption in captions:
            scores = rng.random((2, MAX_TOKENS), np.float32)
            found = caption.phrase_scores(torch.from_numpy(scores)).numpy()
            for column, (start, stop) in enumerate(caption.spans):
                np.testing.assert_array_equal(found[:, column], scores[:, start:stop].max(axis=1))

    def test_200_phrases_take_several_passes_and_none_is_lost(self, vocabulary: Vocabulary) -> None:
        phrases = [f"{a} {b} {c}" for a in WORDS[:10] for b in WORDS[10:14] for c in WORDS[14:19]]
        assert len(phrases) == 200
        captions = vocabulary.captions(phrases)
        assert len(captions) == 4  # 63 phrases of 4 tokens fit between [CLS] and [SEP]
        assert [place for caption in captions for place in caption.phrases] == list(range(200))
        assert all(len(caption.token_ids) <= MAX_TOKENS for caption in captions)

    @pytest.mark.parametrize("repeated", ["car car", "cat cat cat"])
    def test_repeated_words(self, vocabulary: Vocabulary, repeated: str) -> None:
        (caption,) = vocabulary.captions([repeated, "car"])
        assert len(repeated.split()) == caption.spans[0][1] - caption.spans[0][0]

    def test_unicode(self, vocabulary: Vocabulary) -> None:
        assert vocabulary.tokens("É") == vocabulary.tokens("e\u0301") == vocabulary.tokens("e")
        assert len(vocabulary.tokens("猫犬")) == 2
        assert len(vocabulary.tokens("猫 🚗")) == 2  # one of the two is unknown

    @pytest.mark.parametrize("phrase", ["🚗", "\u200b", "。", "Ω Ж", "..."])
    def test_a_phrase_without_a_known_word(self, vocabulary: Vocabulary, phrase: str) -> None:
        with pytest.raises(UsageError, match="knows no word of the phrase"):
            vocabulary.captions(["cat", phrase])

    def test_signs_that_would_end_a_phrase(self, vocabulary: Vocabulary) -> None:
        assert vocabulary.tokens("what? a.b [MASK]") == vocabulary.tokens("what  a b  mask ")

    def test_a_phrase_too_long_is_refused_not_cut(self, vocabulary: Vocabulary) -> None:
        longest = " ".join(["cat"] * (MAX_TOKENS - 3))
        assert len(vocabulary.captions([longest])[0].token_ids) == MAX_TOKENS
        with pytest.raises(UsageError, match="has 254 tokens, but the model reads 253"):
            vocabulary.captions(["cat", f"{longest} cat"])

    @given(st.text())
    def test_any_phrase_has_tokens_or_a_line(self, vocabulary: Vocabulary, phrase: str) -> None:
        try:
            ids = vocabulary.tokens(phrase)
        except UsageError as error:
            assert "knows no word of the phrase" in str(error)
            return
        assert ids and not {*vocabulary.special_ids} & {*ids}

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"cat\ndog\n", None])
    def test_files_that_are_no_vocabulary(self, tmp_path: Path, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / "vocab.txt").write_bytes(content)
        with pytest.raises(WeightsError, match=r"vocab\.txt is no vocabulary"):
            Vocabulary(tmp_path / "vocab.txt")
