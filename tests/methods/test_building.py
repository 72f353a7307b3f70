"Building: backbones with their tokenizer, what does not belong together, and whose draws depend on what."

import pytest
import torch

from medret_nb.data.files import DataError
from medret_nb.data.tokens import train_tokenizer
from medret_nb.methods.backbones import backbone_from_config, load_backbone
from medret_nb.methods.building import (
    backbone_settings,
    check_positions,
    check_vocabulary,
    load_backbones,
    new_word_vectors,
    tokenizer_of,
)


def test_the_tiny_pair_comes_with_its_tokenizer():
    found = load_backbones("tiny", "tiny", 96)
    assert found.tokenizer.get_vocab() == tokenizer_of("tiny").get_vocab()
    check_vocabulary(found.text, found.tokenizer)
    for kind in ("image", "text"):
        for name, value in load_backbone("tiny", kind).state_dict().items():
            assert torch.equal(getattr(found, kind).state_dict()[name], value)


def test_another_tokenizer_starts_new_word_vectors_and_nothing_else():
    tokenizer = train_tokenizer(["No effusion.", "A large heart."], 80)
    own, shipped = load_backbones("tiny", "tiny", 96, tokenizer, seed=2), load_backbones("tiny", "tiny", 96)
    vectors = own.text.get_input_embeddings().weight
    assert vectors.shape[0] == len(tokenizer) and vectors.std().item() == pytest.approx(0.02, rel=0.1)
    same = own.text.encoder.state_dict()
    assert all(torch.equal(same[name], value) for name, value in shipped.text.encoder.state_dict().items())


def test_new_word_vectors_follow_the_generator():
    drawn = []
    for seed in (1, 1, 2):
        backbone = load_backbone("tiny", "text")
        torch.manual_seed(seed)
        new_word_vectors(backbone, 70)
        drawn.append(backbone.get_input_embeddings().weight.detach())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", ["tiny", "tiny-random"])
def test_the_generator_is_left_where_the_seed_puts_it(name):
    torch.manual_seed(5)
    expected = torch.rand(3)
    load_backbones(name, name, 96, seed=5)
    assert torch.equal(torch.rand(3), expected)


def test_settings_build_the_backbone_again_without_its_place():
    backbone = load_backbone("tiny", "text")
    settings = backbone_settings(backbone)
    assert "_name_or_path" not in settings
    again = backbone_from_config(settings)
    assert {n: v.shape for n, v in again.state_dict().items()} == {n: v.shape for n, v in backbone.state_dict().items()}


def test_texts_too_long_and_words_unknown_are_refused():
    text = load_backbone("tiny", "text")
    check_positions(text, text.config.max_position_embeddings, "tiny")
    with pytest.raises(DataError, match="max_words: 1000 is more than the 192 positions of the text backbone 'tiny'"):
        check_positions(text, 1000, "tiny")
    text.config.vocab_size = 10
    with pytest.raises(DataError, match="word pieces, the text encoder knows 10: they do not belong together"):
        check_vocabulary(text, tokenizer_of("tiny"))
