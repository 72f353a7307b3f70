"Finished two-tower models: transformers' own vectors and logits, in any company, saved as a run, never trained."

import json

import pytest
import torch
from families import two_towers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from medret_nb.data.files import DataError, write_json
from medret_nb.data.tokens import tokenize
from medret_nb.methods.families import NORMALISATIONS
from medret_nb.methods.hub import (
    TWO_TOWERS,
    HubConfig,
    HubTwoTower,
    check_two_towers,
    limits_of,
    patch_vectors,
    read_texts,
    word_vectors,
)
from medret_nb.methods.table import METHODS, load_method

TEXTS = ["No effusion.", "The heart is enlarged, small left pneumothorax. No effusion is seen. " * 3, "heart"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    "By kind: transformers' model, and ours from the same folder."
    found = {}
    for kind in TWO_TOWERS:
        folder = tmp_path_factory.mktemp(kind)
        network = two_towers(kind, folder)
        found[kind] = network, HubTwoTower.from_hub(folder), folder
    return found


def theirs_of(network, method, films):
    "What transformers is given for films uint8 (N, S, S) and TEXTS, by its own documentation."
    mean, std = NORMALISATIONS["clip" if network.config.model_type == "clip" else "half"]
    colours = films[:, None].expand(-1, 3, -1, -1) / 255 - torch.tensor(mean)[:, None, None]
    pixels = {"pixel_values": colours / torch.tensor(std)[:, None, None]}
    tok = method.tokenizer
    padding = True if network.config.model_type == "clip" else "max_length"
    words = tok(TEXTS, padding=padding, truncation=True, max_length=16, return_tensors="pt")
    texts = {"input_ids": words["input_ids"]}
    if network.config.model_type == "clip":
        texts["attention_mask"] = words["attention_mask"]
    if network.config.model_type == "siglip2":
        cells = pixels["pixel_values"].unfold(2, 8, 8).unfold(3, 8, 8)  # (N, 3, 4, 4, 8, 8)
        pixels["pixel_values"] = cells.permute(0, 2, 3, 4, 5, 1).reshape(len(films), 16, -1)
        pixels["pixel_attention_mask"] = torch.ones(len(films), 16, dtype=torch.long)
        pixels["spatial_shapes"] = torch.tensor([[4, 4]] * len(films))
    return pixels, texts


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_vectors_and_logits_are_transformers_own(pairs, kind):
    network, method, _ = pairs[kind]
    films = torch.randint(0, 256, (4, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pixels, texts = theirs_of(network, method, films)
    with torch.no_grad():
        image = method.encode_image(method.prepare_pixels(films))
        text = method.encode_text(*method.prepare_text(TEXTS))
        wanted = network(**pixels, **texts)
        seen = network.get_image_features(**pixels).pooler_output
        said = network.get_text_features(**texts).pooler_output
        logits = method.score(image, text)
    assert torch.allclose(image.mu, F.normalize(seen, dim=-1), atol=1e-5)
    assert torch.allclose(text.mu, F.normalize(said, dim=-1), atol=1e-5)
    assert torch.allclose(logits, wanted.logits_per_image, atol=1e-4, rtol=1e-5)
    assert (method.shift is None) == (kind == "clip")
    assert text.mu.std(0).max() > 1e-3 and image.mu.std(0).max() > 1e-3  # not the same for all


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_size_limits_and_scale_are_the_models_own(pairs, kind):
    config = pairs[kind][1].config
    assert (config.size, config.max_words, config.dim) == (32, 16, 24 if kind == "clip" else 32)
    assert bool(config.normalisation) == (kind == "clip") and config.method == "hub"
    assert limits_of(config.two_towers) == {"dim": config.dim, "max_words": 16}


@settings(max_examples=12, deadline=None)
@given(kind=st.sampled_from(TWO_TOWERS), order=st.permutations(range(3)), seed=st.integers(0, 9))
def test_an_item_does_not_depend_on_its_company(pairs, kind, order, seed):
    method = pairs[kind][1]
    films = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        image = method.encode_image(method.prepare_pixels(films[list(order)])).mu
        text = method.encode_text(*method.prepare_text([TEXTS[i] for i in order])).mu
        for row, i in enumerate(order):
            assert torch.allclose(
                image[row], method.encode_image(method.prepare_pixels(films[i : i + 1])).mu[0], atol=1e-5
            )
            assert torch.allclose(text[row], method.encode_text(*method.prepare_text([TEXTS[i]])).mu[0], atol=1e-5)


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_a_patch_and_a_word_alone_are_what_the_head_makes_of_them(pairs, kind):
    "One patch, one word: the vector of a film or text that holds nothing else behind the encoder."
    network, method, _ = pairs[kind]
    films = torch.rand(2, 1, 32, 32)
    tokens, mask, _ = tokenize(method.tokenizer, TEXTS, 16)
    with torch.no_grad():
        patches = method.encode_image(films).local["patches"]
        local = method.encode_text(tokens, mask).local
        assert patches.shape == (2, 4, 4, method.config.dim) and local["words"].shape == (3, 16, method.config.dim)
        assert torch.equal(local["words_mask"], mask)
        hidden = torch.randn(1, 17 if kind == "clip" else 16, 32)
        found = patch_vectors(network, hidden)[0, 2, 1]
        one = hidden[:, [9 + (kind == "clip")]]
        vision = network.vision_model
        wanted = network.visual_projection(vision.post_layernorm(one[:, 0])) if kind == "clip" else vision.head(one)
        assert torch.allclose(found, wanted[0], atol=1e-5)
        text = read_texts(network, tokens, mask, 16, method.tokenizer.pad_token_id)
        words = word_vectors(network, text.last_hidden_state)
        ends = mask.sum(1) - 1 if kind == "clip" else torch.full((3,), 15)
        assert torch.allclose(words[torch.arange(3), ends], text.pooler_output, atol=1e-5)


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_it_is_saved_as_a_run_and_comes_back(pairs, kind, tmp_path):
    method = pairs[kind][1]
    method.save_pretrained(tmp_path)
    again = load_method(tmp_path)
    assert type(again) is HubTwoTower and not again.training and "hub" not in METHODS
    films = method.prepare_pixels(torch.randint(0, 256, (2, 32, 32), dtype=torch.uint8))
    with torch.no_grad():
        assert torch.equal(again.encode_image(films).mu, method.encode_image(films).mu)
        words = again.prepare_text(TEXTS)
        assert torch.equal(again.encode_text(*words).mu, method.encode_text(*method.prepare_text(TEXTS)).mu)


def test_code_in_its_folder_never_runs(pairs, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *said: asked.append(said) or "y")
    two_towers("clip", tmp_path)
    (tmp_path / "mod.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('ran')\n")
    held = json.loads((tmp_path / "config.json").read_text())
    named = {"AutoModel": f"{tmp_path}--mod.Evil", "AutoConfig": f"{tmp_path}--mod.Evil"}
    held["vision_config"]["auto_map"] = named
    write_json({**held, "auto_map": named}, tmp_path / "config.json")
    method = HubTwoTower.from_hub(tmp_path)
    assert "auto_map" not in json.dumps(method.config.two_towers)
    assert not asked and not (tmp_path / "ran").exists()


def test_it_is_neither_made_nor_trained(pairs):
    method = pairs["clip"][1]
    with pytest.raises(DataError, match="only embeds"):
        method.encode_batch(None)
    with pytest.raises(DataError, match="not made anew"):
        HubTwoTower.create()


def test_what_is_no_two_tower_model_is_one_line(tmp_path):
    BertModel(BertConfig(vocab_size=30, hidden_size=8, num_attention_heads=1, intermediate_size=8)).save_pretrained(
        tmp_path
    )
    for source in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError) as caught:
            HubTwoTower.from_hub(source)
        assert str(source) in str(caught.value) and "\n" not in str(caught.value)
    good = {"model_type": "siglip", "vision_config": {}, "text_config": {}}
    check_two_towers(good, "x")
    for wrong in (
        None,
        {},
        {"model_type": "blip"},
        {"model_type": "clip"},
        {**good, "text_config": 3},
        {**good, "vision_config": {"vision_use_head": False}},
    ):
        with pytest.raises(DataError, match="^x: "):
            check_two_towers(wrong, "x")
    with pytest.raises(DataError, match="two_towers"):
        HubTwoTower(HubConfig(), None)
