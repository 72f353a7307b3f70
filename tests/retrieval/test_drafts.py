"""Drafts: votes, quotes byte for byte, what contradicts, what repeats, and the cases in which nothing may be said."""

import numpy as np
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text, sentence_spans, split_sentences
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.retrieval.drafts import (
    Draft,
    Quote,
    draft_of,
    implies,
    misquotes,
    retrieved_sources,
    sentence_topics,
    sources_from,
    tower_vectors,
    vote_on,
    vote_shares,
)
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.points import Embeddings


def drafted(*reports, scores=None, **more):
    "The draft of reports a, b, c, ... that have equal votes, or these scores."
    names = [chr(97 + i) for i in range(len(reports))]
    made = sources_from(names, dict(zip(names, reports)), scores or [0.0] * len(reports))
    return draft_of(made, **more)


def texts_of(draft):
    return [quote.text for quote in draft.quotes]


def test_shares_are_the_softmax_of_the_scores():
    assert np.allclose(vote_shares([2.0, 1.0], 0.5), np.exp([4, 2]) / np.exp([4, 2]).sum())
    assert vote_shares([]).shape == (0,) and np.allclose(vote_shares([1e6, -1e6]), [1, 0])
    for wrong in ([np.nan, 1.0], [np.inf]):
        with pytest.raises(DataError, match="NaN or infinite"):
            vote_shares(wrong)
    with pytest.raises(DataError, match="temperature"):
        vote_shares([1.0], 0)


def test_every_quote_stands_where_it_says_whatever_the_report_looks_like():
    "Odd white space, list numbers, decimals, no full stop, other scripts: the words are those of the report."
    odd = [
        "1.  Small   right\tpleural effusion.\n\n2. Nodule of 1.5 cm.  Seen by Dr. Gray",
        "PLEURA: small right pleural\neffusion!  (3) No pneumothorax?",
        "Small right pleural effusion.Sénégal 肺 clear\r\nNo pneumothorax.",
    ]
    made = drafted(*odd, least=0.0)
    assert made.quotes and not misquotes(made)
    for quote in made.quotes:
        assert odd["abc".index(quote.study_id)][quote.start : quote.end] == quote.text
    changed = Draft([*made.quotes, Quote("a", 0, 5, "Large", 1.0), Quote("z", 0, 1, "x", 1.0)], made.sources)
    assert [quote.text for quote in misquotes(changed)] == ["Large", "x"]


def test_spans_are_the_sentences(small_phantom):
    "Cut by place or cut as texts: the same sentences."
    for text in section_text(small_phantom, "both"):
        spans = [" ".join(text[start:end].split()) for start, end in sentence_spans(text)]
        assert spans == split_sentences(text)


def test_what_is_asserted_and_denied_is_settled_by_the_vote():
    yes = "Small right pleural effusion."
    no = "No pleural effusion."
    assert texts_of(drafted(yes, yes, no)) == [yes] and texts_of(drafted(no, yes, no)) == [no]
    tied = drafted(yes, no, least=0.4)
    assert texts_of(tied) == [] and any("neither is quoted" in note for note in tied.notes)
    sure = drafted(yes, no, no, scores=[2.0, 0.0, 0.0])
    assert texts_of(sure) == [yes], "the nearest is surer than both others"
    assert any("denials are not quoted" in note for note in sure.notes)


def test_a_sentence_is_quoted_whole_or_not_at_all():
    "It is right about one thing and outvoted about another: it stays out, and a narrower one is taken."
    both = "No pleural effusion or pneumothorax."
    made = drafted(both, "Right pneumothorax. No effusion.", "Right pneumothorax. No effusion.")
    assert texts_of(made) == ["Right pneumothorax.", "No effusion."]


def test_wide_denials_oppose_what_they_cover_and_only_there():
    "Clear lungs deny a consolidation; a clear right lung denies none on the left."
    left = "Left lower lobe consolidation."
    assert texts_of(drafted(left, "The lungs are clear.", "The lungs are clear.")) == ["The lungs are clear."]
    made = drafted(left, left, "The right lung is clear. " + left)
    assert left in texts_of(made)
    assert implies(("pleural effusion", "right", "there"), ("pleural effusion", "", "maybe"))
    assert not implies(("pleural effusion", "", "there"), ("pleural effusion", "right", "there"))
    assert implies(("lung opacity", "", "absent"), ("consolidation", "left", "absent"))
    assert not implies(("lung opacity", "right", "absent"), ("consolidation", "left", "absent"))


def test_nothing_is_said_twice():
    made = drafted("Small right effusion. There is an effusion. Possible right effusion.", "A right effusion.")
    assert len(made.quotes) == 1 and made.quotes[0].also
    assert texts_of(drafted(*["Heart size is normal. Heart normal."] * 3)) == ["Heart size is normal."]


def test_sentences_about_another_patients_past_come_last_or_not_at_all():
    new = "New right pneumothorax."
    plain = "There is a right pneumothorax."
    assert texts_of(drafted(new, plain)) == [plain]
    alone = drafted(new, new)
    assert texts_of(alone) == [new] and alone.quotes[0].personal and "earlier film" in alone.lines()[0]
    told = "The finding was conveyed to the physician."
    assert texts_of(drafted(f"{plain} {told}", f"{plain} {told}")) == [plain]


def test_nobody_one_and_many_alike():
    nobody = draft_of([])
    assert nobody.text == "" and nobody.notes == ["no case was found: there is nothing to quote"]
    one = drafted("Small left effusion. No pneumothorax.")
    assert one.text == "Small left effusion. No pneumothorax." and "one case alone" in one.notes[0]
    same = drafted(*["Small left effusion. No pneumothorax."] * 4)
    assert same.text == one.text and "all 4 reports say the same" in same.notes
    assert {quote.vote for quote in same.quotes} == {1.0}
    unlike = drafted("Left effusion.", "Right pneumothorax.", "Cardiomegaly.")
    assert unlike.text == "" and "no sentence has enough of the vote: nothing is quoted" in unlike.notes


def test_reports_that_no_rule_reads_are_quoted_by_their_words():
    "Another language: no fact is read, the same words count as the same."
    made = drafted("Das Herz ist normal groß. Kein Erguss.", "das Herz ist normal groß", "Erguss rechts.")
    assert texts_of(made) == ["Das Herz ist normal groß."] and made.quotes[0].also == ("b",)
    free = drafted("Right effusion.", "right effusion", reader=lambda sentence: [])
    assert texts_of(free) == ["Right effusion."] and free.quotes[0].says[0][2] == "said"


def test_vectors_join_what_words_do_not_but_never_two_sides():
    sentences = ["CT of the right is advised.", "A CT on the right is advised.", "A CT on the left is advised."]
    alike = np.ones((3, 4))
    assert sentence_topics(sentences, alike) == [0, 0, 1] and sentence_topics(sentences) == [0, 1, 2]
    assert sentence_topics(sentences[:2], np.eye(2)) == [0, 1]


def test_the_runs_own_text_tower_embeds_each_sentence_once():
    method = CLIP.create(CLIPConfig(dim=8))
    look_up = tower_vectors(method)
    first = look_up(["CT is advised.", "___", "CT is advised."])
    assert first.shape == (3, 8) and (first[0] == first[2]).all() and not first[1].any()
    made = drafted("CT is advised.", "A CT is advised.", vectors=look_up)
    assert not misquotes(made)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(least=1.5), "least"),
        (dict(least=-0.1), "least"),
        (dict(most=0), "most"),
    ],
)
def test_wrong_settings_are_one_line(change, words):
    with pytest.raises(DataError, match=words):
        drafted("Clear.", **change)


def test_wrong_sources_are_one_line():
    with pytest.raises(DataError, match="twice"):
        sources_from(["a", "a"], {"a": "Clear."}, [1, 1])
    with pytest.raises(DataError, match="no report of b"):
        sources_from(["a", "b"], {"a": "Clear."}, [1, 1])
    with pytest.raises(DataError, match="NaN"):
        sources_from(["a"], {"a": "Clear."}, [np.nan])
    assert sources_from(["a"], {"a": " \n"}, [1.0]) == []


def test_a_vote_for_a_side_is_not_one_for_the_other():
    told = [[("pleural effusion", "right", "there")], [("pleural effusion", "left", "there")]]
    vote = vote_on(("pleural effusion", "right", "there"), told, [0.7, 0.3])
    assert (vote.support, vote.asserted, vote.denied) == (0.7, 1.0, 0.0)


def test_at_most_so_many_sentences():
    assert len(drafted("Heart normal. No effusion. No pneumothorax. Rib fracture.", most=2).quotes) == 2


def test_sources_are_what_the_search_finds(small_phantom):
    "Reports or films as the gallery, with a restriction, and none at all."
    method = CLIP.create(CLIPConfig(dim=8))
    points = embed(method, small_phantom, progress=False, tell=False)
    texts = dict(zip(small_phantom.studies["study_id"], section_text(small_phantom, "both")))
    film = points["image"].select([0])
    for side in points.values():
        (found,) = retrieved_sources(film, side, texts, 5)
        assert len(found) == 5 and np.isclose(sum(source.weight for source in found), 1)
        assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
        assert all(texts[source.study_id] == source.text for source in found)
    other = points["text"].study_ids != film.study_ids[0]
    (found,) = retrieved_sources(film, points["text"], texts, 10_000, where=other)
    assert len(found) == other.sum() and film.study_ids[0] not in {source.study_id for source in found}
    assert retrieved_sources(film, points["text"], texts, 5, where=np.zeros(len(other), bool)) == [[]]


def test_two_films_of_a_study_are_one_source():
    mu = np.eye(3, dtype=np.float32)
    gallery = Embeddings(
        np.array(["f1", "f2", "f3"], object), np.array(["a", "a", "b"], object), mu, None, {"similarity": "cosine"}
    )
    (found,) = retrieved_sources(gallery.select([0]), gallery, {"a": "Clear.", "b": "Effusion."}, 3)
    assert [source.study_id for source in found] == ["a", "b"]


def test_a_draft_as_names_and_values():
    import json

    made = drafted("Small right effusion.", "Small right effusion.")
    record = json.loads(json.dumps(made.record()))
    assert record["text"] == "Small right effusion." and record["quotes"][0]["start"] == 0
    hostile = drafted("<b>\x1b[31mRight effusion</b>.")
    assert "\x1b" not in "\n".join(hostile.lines()) and hostile.quotes[0].text == "<b>\x1b[31mRight effusion</b>."
