"The agreement of all methods: saving and loading, refusals, scores of pairs, hub functions."

import dataclasses

import numpy as np
import pytest
import torch

from medret_nb.data.files import DataError, read_json, write_json
from medret_nb.data.reports import section_text
from medret_nb.data.tokens import train_tokenizer
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.cxr_clip import CXRCLIP, CXRCLIPConfig
from medret_nb.methods.method import Embedding, Method, MethodConfig, policy_of_inference, widened
from medret_nb.methods.table import METHODS, load_method
from medret_nb.retrieval.embeddings import embed, embed_texts
from medret_nb.training.loop import validate


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "clip"
    CLIP.create(CLIPConfig(dim=24, policy="impression"), seed=3).save_pretrained(folder)
    return folder


def test_what_was_saved_comes_back(run):
    first, second = CLIP.create(CLIPConfig(dim=24, policy="impression"), seed=3).eval(), load_method(run)
    assert second.config.policy == "impression" and not second.training
    texts, pixels = ["No effusion.", "Small left pneumothorax."], torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8)
    scores = [
        m.score(m.encode_image(m.prepare_pixels(pixels)), m.encode_text(*m.prepare_text(texts)))
        for m in (first, second)
    ]
    assert torch.equal(*scores)
    assert sorted(p.name for p in run.iterdir())[:2] == ["config.json", "model.safetensors"]


def test_no_file_is_a_pickle(run):
    assert all(p.suffix in (".json", ".safetensors") for p in run.iterdir())


def test_the_seed_decides_the_heads_and_leaves_the_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two, other = (CLIP.create(seed=s).image_head.weight for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


def test_encoders_start_from_the_shipped_weights():
    a, b = CLIP.create(seed=1), CLIP.create(seed=2)
    for x, y in zip(a.image_encoder.parameters(), b.image_encoder.parameters()):
        assert torch.equal(x, y)


def test_another_vocabulary_starts_new_word_vectors():
    tokenizer = train_tokenizer(["No effusion.", "A large heart."], 80)
    method = CLIP.create(tokenizer=tokenizer)
    assert method.text_encoder.backbone.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert method.config.text_backbone["vocab_size"] == len(tokenizer)


@pytest.mark.parametrize(
    "break_it,message",
    [
        (lambda f: write_json({**read_json(f / "config.json"), "method": "pecm"}, f / "config.json"), "pecm"),
        (lambda f: write_json({**read_json(f / "config.json"), "colour": 1}, f / "config.json"), "colour"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"nonsense"), "model.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: write_json({**read_json(f / "config.json"), "dim": 7}, f / "config.json"), "model.safetensors"),
    ],
)
def test_a_broken_run_is_one_clear_line(tmp_path, break_it, message):
    CLIP.create(CLIPConfig(dim=8)).save_pretrained(tmp_path)
    break_it(tmp_path)
    with pytest.raises(DataError) as caught:
        CLIP.from_pretrained(tmp_path)
    assert message in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_settings_that_make_no_sense_are_named():
    for wrong, name in ((dict(policy="findngs"), "policy"), (dict(dim=0), "dim"), (dict(size=-1), "size")):
        with pytest.raises(DataError, match=name):
            MethodConfig(**wrong)
    with pytest.raises(DataError, match="max_words"):
        CLIP.create(CLIPConfig(max_words=10_000))


def test_rerank_is_the_identity_by_default():
    method = CLIP.create().eval()
    queries, gallery = Embedding(torch.randn(3, 5)), Embedding(torch.randn(7, 5))
    shortlist = torch.tensor([[0, 6], [3, 3], [5, 1]])
    scores, confidence = method.rerank(queries, gallery, shortlist)
    assert torch.equal(scores, method.score(queries, gallery).gather(1, shortlist)) and torch.equal(
        confidence, scores.max(1).values
    )


def test_the_logit_scale_is_bounded():
    method = CLIP.create()
    with torch.no_grad():
        method.log_scale.fill_(50.0)
    assert method.logit_scale.item() == method.config.max_scale


@pytest.mark.parametrize("name", METHODS)
def test_every_method_fulfils_the_agreement(name):
    cls = METHODS[name]
    assert cls.name == name and issubclass(cls, Method) and cls.similarity in ("cosine", "csd", "mls")
    for function in ("encode_image", "encode_text", "encode_batch", "objective"):
        assert function in {k for c in cls.__mro__[:-1] if c is not Method for k in vars(c)}
    assert dataclasses.is_dataclass(cls.Config) and issubclass(cls.Config, MethodConfig)


def test_half_precision_is_widened_before_the_loss():
    given = {
        "mu": torch.ones(2, dtype=torch.bfloat16),
        "score": torch.ones(2, dtype=torch.float64),
        "at": torch.arange(2),
    }
    found = widened(given)
    assert [value.dtype for value in found.values()] == [torch.float32, torch.float64, torch.int64]
    assert found["score"] is given["score"] and found["at"] is given["at"]


def test_a_cloud_has_two_halves_and_a_point_has_none():
    mu, logvar = torch.randn(2, 3), torch.randn(2, 3)
    assert Embedding(mu, logvar).cloud == (mu, logvar)
    with pytest.raises(ValueError, match="points"):
        _ = Embedding(mu).cloud
    twice = Embedding(mu, logvar, {"words": mu}).map(lambda x: 2 * x)
    assert torch.equal(twice.logvar, 2 * logvar) and torch.equal(twice.local["words"], 2 * mu) and len(twice) == 2


def test_a_method_without_functions_says_which():
    method = CLIP.create()
    for function, given in (("encode_image", (None,)), ("encode_text", (None, None)), ("encode_batch", (None,))):
        with pytest.raises(TypeError, match=f"clip: {function} is not defined"):
            getattr(Method, function)(method, *given)


@pytest.mark.parametrize(
    "settings, sections, wanted",
    [
        ({}, 1, "both"),
        ({"policy": "impression"}, 1, "impression"),
        ({}, 2, "findings"),
        ({"policy": "impression"}, 2, "findings"),
        ({"inference_policy": "both"}, 2, "both"),
    ],
)
def test_what_is_embedded_is_by_default_what_the_method_trains_on(settings, sections, wanted):
    assert policy_of_inference(MethodConfig(**settings), sections) == wanted


def test_the_policy_of_inference_is_a_setting_of_its_own(small_phantom, tmp_path):
    "Saved with the method, used by `embed` and by the epochs' choice; films are not embedded again for it."
    cxr = CXRCLIP.create(CXRCLIPConfig(dim=8), seed=0)
    assert cxr.config.policy == "both" and cxr.config.inference_policy == "findings"
    cxr.save_pretrained(tmp_path)
    methods = {"findings": load_method(tmp_path), "impression": load_method(tmp_path, "impression")}
    found = {p: embed(m, small_phantom, "test", progress=False) for p, m in methods.items()}
    assert {p: f["text"].meta["policy"] for p, f in found.items()} == {p: p for p in methods}
    texts = dict(zip(small_phantom.studies["study_id"], section_text(small_phantom, "findings"), strict=True))
    said = embed_texts(methods["findings"], [texts[study] for study in found["findings"]["text"].study_ids])
    np.testing.assert_allclose(said.mu, found["findings"]["text"].mu, atol=1e-5)
    films = [f["image"].meta["fingerprint"] for f in found.values()]
    marks = [f["text"].meta["fingerprint"] for f in found.values()]
    assert films[0] == films[1] and marks[0] != marks[1]
    validations = [validate(method, small_phantom, "train") for method in methods.values()]
    assert validations[0] != validations[1]
    with pytest.raises(DataError, match="inference_policy: 'all' is none of trained, findings"):
        load_method(tmp_path, "all")
