"Films and texts through a model: the same points wherever it lies, and nobody waits for each batch."

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend_card import pretended_card

from medret_nb.data.files import DataError
from medret_nb.methods.table import METHODS
from medret_nb.retrieval.embeddings import embed, embed_films, embed_texts
from medret_nb.retrieval.encoding import Collected, encoded_items, encoded_texts, sent_to, usual_batch


def small(name):
    return METHODS[name].create(METHODS[name].Config(dim=16), seed=2).eval()


def same(there, here, tolerance=2e-5):
    for side in here:
        np.testing.assert_allclose(there[side].mu, here[side].mu, atol=tolerance)
        if here[side].logvar is not None:
            np.testing.assert_allclose(there[side].logvar, here[side].logvar, atol=tolerance)
        assert set(there[side].local) == set(here[side].local)
        for key, values in here[side].local.items():
            np.testing.assert_allclose(there[side].local[key], values, atol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_embeds_on_a_card_as_on_the_processor(name, small_phantom):
    method = small(name)
    here = embed(method, small_phantom, "test", progress=False)
    with pretended_card() as card:
        method.to(card.device)
        card.waits.clear()
        there = embed(method, small_phantom, "test", batch=3, progress=False, marked=False)
        # the sentences of RRA-VL cannot be told apart without looking at the tokens: `sentence_rows` says so
        waits = {place: count for place, count in card.waits.items() if "methods/towers.py" not in place}
        assert sum(waits.values()) <= 12, f"it waits for batches: {waits}"
        same(there, here)
        film = small_phantom.pixels(64).array[0]
        np.testing.assert_allclose(embed_films(method, [film]).mu, here_of(name, film), atol=2e-5)


def here_of(name, film):
    return embed_films(small(name), [film]).mu


@pytest.mark.parametrize("name", METHODS)
def test_a_method_embeds_equally_on_every_device(name, small_phantom, device):
    method = small(name)
    here = embed(method, small_phantom, "test", progress=False)
    there = embed(method.to(device), small_phantom, "test", progress=False)
    same(there, here, 2e-3 if device.type == "cuda" else 0)  # convolutions of a card may round to ten bits


def test_equal_texts_have_equal_points_on_every_device(device):
    texts = [f"finding {i % 7} of the chest, {'unchanged ' * (i % 7)}" for i in range(50)]
    found = embed_texts(small("medprobclip").to(device), texts, batch=3)
    for i, text in enumerate(texts):
        assert found.mu[i].tobytes() == found.mu[texts.index(text)].tobytes()


def test_results_come_back_together(device, monkeypatch):
    monkeypatch.setattr("medret_nb.retrieval.encoding._WAITING_BYTES", 100)
    rng = np.random.default_rng(0)
    mu = rng.standard_normal((23, 5)).astype(np.float32)
    seen = rng.random((23, 2)) < 0.5
    collected = Collected(23)
    for start in range(0, 23, 4):
        part = slice(start, start + 4)
        collected.add({"mu": torch.from_numpy(mu[part]).to(device), "mask": torch.from_numpy(seen[part]).to(device)})
    found = collected.done()
    assert (found["mu"] == mu).all() and (found["mask"] == seen).all() and found["mask"].dtype == bool


def test_shapes_that_change_are_refused():
    collected = Collected(4)
    collected.add({"words": torch.zeros(2, 3, 5)})
    with pytest.raises(DataError, match=r"words: the method gives \(3, 5\) for some items and \(4, 5\) for others"):
        collected.add({"words": torch.zeros(2, 4, 5)})


def test_half_precision_comes_back_in_single():
    collected = Collected(2)
    collected.add({"mu": torch.full((2, 1), 0.1, dtype=torch.bfloat16)})
    assert collected.done()["mu"].dtype == np.float32


def test_an_error_leaves_the_mode_as_it_was():
    method = torch.nn.Linear(1, 1)
    method.config = SimpleNamespace(size=8)
    with pytest.raises(KeyError):
        encoded_items(method.train(), [1, 2], lambda part: {}[part[0]])
    assert method.training


def test_short_texts_are_encoded_beside_short_ones():
    batches = []

    class Toy(torch.nn.Module):
        config = SimpleNamespace(size=8)

        def prepare_text(self, texts):
            batches.append(texts)
            return torch.tensor([[len(text)] for text in texts]), torch.ones(len(texts), 1)

        def encode_text(self, tokens, mask):
            return SimpleNamespace(mu=tokens.float(), logvar=None, local={})

    found = encoded_texts(Toy(), ["ccc", "a", "bb", "a", "dddd"], batch=2)
    assert batches == [["a", "bb"], ["ccc", "dddd"]] and found["mu"].ravel().tolist() == [3, 1, 2, 1, 4]


def test_how_many_at_a_time():
    method = torch.nn.Linear(1, 1)
    for size, expected in ((64, 512), (224, 512), (448, 128), (2000, 64)):
        method.config = SimpleNamespace(size=size)
        assert usual_batch(method) == 64
        with pretended_card() as card:
            there = torch.nn.Linear(1, 1).to(card.device)
            there.config = method.config
            assert usual_batch(there) == expected


def test_what_is_sent_arrives(device):
    for values in (np.arange(5), torch.arange(5)):
        there = sent_to(values, device)
        assert there.device.type == device.type and there.tolist() == [0, 1, 2, 3, 4]
