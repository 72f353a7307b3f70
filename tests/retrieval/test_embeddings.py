"`embed` does what one film at a time would, does not repeat work, and names what it cannot embed."

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from medret_nb.data.files import DataError
from medret_nb.data.images import letterbox, read_image
from medret_nb.data.reports import section_text
from medret_nb.data.studies import choose_image
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.retrieval import embeddings, points
from medret_nb.retrieval.embeddings import embed, embed_films, embed_gallery, embed_texts, method_hash


class Toy(torch.nn.Module):
    "A method with random linear maps, dropout and logvar; it counts the films and texts that it is given."

    similarity, name = "csd", "toy"

    def __init__(self, dim=6, seed=0, size=16):
        super().__init__()
        self.config = SimpleNamespace(size=size, inference_policy="both", data="somewhere")
        generator = torch.Generator().manual_seed(seed)
        self.film = torch.nn.Parameter(torch.randn(size * size, dim, generator=generator) / size)
        self.word = torch.nn.Parameter(torch.randn(101, dim, generator=generator))
        self.dropout = torch.nn.Dropout(0.5)
        self.logit_scale = torch.tensor(5.0)
        self.shift = None
        self.films = self.texts = 0

    def prepare_pixels(self, pixels):
        return torch.as_tensor(pixels).float()[:, None] / 255

    def prepare_text(self, texts):
        self.texts += len(texts)
        rows = [[sum(map(ord, w)) % 101 for w in t.split()][:40] for t in texts]
        tokens = torch.zeros(len(rows), 40, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        return tokens, torch.arange(40) < torch.tensor([[len(r)] for r in rows])

    def encode_image(self, pixels, boxes=None):
        self.films += len(pixels)
        mu = self.dropout(pixels.flatten(1)) @ self.film
        return SimpleNamespace(mu=mu, logvar=-mu.abs())

    def encode_text(self, tokens, mask):
        mu = (self.word[tokens] * mask[..., None]).sum(1)
        return SimpleNamespace(mu=mu, logvar=-mu.abs())


def test_embed_equals_one_at_a_time(small_phantom):
    method = Toy().train()
    found = embed(method, small_phantom, "test", batch=5, progress=False)
    assert method.training  # the mode is restored
    method.eval()
    part = small_phantom.split("test")
    texts = dict(zip(part.studies.study_id, section_text(part, "both")))
    films, reports = found["image"], found["text"]
    chosen = choose_image(part.images).set_index("study_id")
    assert (
        films.study_ids.tolist() == reports.study_ids.tolist() == reports.ids.tolist() == part.studies.study_id.tolist()
    )
    paths = dict(zip(small_phantom.images.image_id, small_phantom.image_paths()))
    with torch.no_grad():
        for i, study in enumerate(films.study_ids):
            assert films.ids[i] == chosen.image_id[study]
            pixels = letterbox(read_image(paths[films.ids[i]]), 16)[0]
            np.testing.assert_allclose(
                films.mu[i], method.encode_image(method.prepare_pixels(pixels[None])).mu[0], rtol=1e-5, atol=1e-5
            )
            out = method.encode_text(*method.prepare_text([texts[study]]))
            np.testing.assert_allclose(reports.mu[i], out.mu[0], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(reports.logvar[i], out.logvar[0], rtol=1e-5, atol=1e-5)
    assert {k: films.meta[k] for k in ("similarity", "logit_scale", "modality", "split", "method")} == {
        "similarity": "csd",
        "logit_scale": 5.0,
        "modality": "image",
        "split": "test",
        "method": "toy",
    }
    assert reports.meta["policy"] == "both" and "policy" not in films.meta
    assert "shift" not in films.meta and films.meta["fingerprint"] != reports.meta["fingerprint"]


def test_identical_texts_have_identical_points():
    texts = [f"finding {i % 7} of the chest" for i in range(50)]
    there = embed_texts(Toy(), texts, batch=3)
    for i, text in enumerate(texts):
        assert there.mu[i].tobytes() == there.mu[texts.index(text)].tobytes()
    assert there.ids[0] == "text 1"


def test_left_out_studies_are_counted(small_phantom, tmp_path, capsys):
    studies = small_phantom.select(small_phantom.studies.study_id[:8])
    names = studies.studies.study_id.tolist()
    for column in ("findings", "impression", "note"):
        studies.studies.loc[2, column] = ""
    studies.images = studies.images[studies.images.study_id != names[4]].reset_index(drop=True)
    found = embed(Toy(), studies, None, progress=False)
    assert (
        found["image"].study_ids.tolist()
        == found["text"].study_ids.tolist()
        == [n for i, n in enumerate(names) if i not in (2, 4)]
    )
    assert "2 of 8 studies are left out: 1 without a readable image, 1 without a text" in capsys.readouterr().out
    embed(Toy(), studies, None, progress=False, tell=False)
    assert not capsys.readouterr().out
    assert found["text"].meta["split"] == "all"
    studies.images = studies.images.iloc[:0]
    with pytest.raises(DataError, match="nothing to embed"):
        embed(Toy(), studies, None, progress=False)


def half_empty(small_phantom):
    "Eight studies: number 2 has no text, number 4 no film."
    studies = small_phantom.select(small_phantom.studies.study_id[:8])
    for column in ("findings", "impression", "note"):
        studies.studies.loc[2, column] = ""
    names = studies.studies.study_id.tolist()
    studies.images = studies.images[studies.images.study_id != names[4]].reset_index(drop=True)
    return studies, names


def test_a_gallery_takes_films_without_text_and_texts_without_film(small_phantom, tmp_path):
    studies, names = half_empty(small_phantom)
    method = Toy()
    films = embed_gallery(method, studies, "image", progress=False, out=tmp_path)
    texts = embed_gallery(method, studies, "text", progress=False, out=tmp_path)
    assert sorted(films.study_ids) == sorted(names[:4] + names[5:]) and method.films == 7
    assert sorted(texts.study_ids) == sorted(names[:2] + names[3:])
    assert films.meta["modality"] == "image" and texts.meta["modality"] == "text"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all-gallery-image.parquet", "all-gallery-text.parquet"]
    pair = embed(method, studies, progress=False)
    for side, gallery in (("image", films), ("text", texts)):  # the same points as where both sides are there
        rows = [gallery.ids.tolist().index(name) for name in pair[side].ids]
        np.testing.assert_allclose(gallery.mu[rows], pair[side].mu, rtol=1e-5, atol=1e-6)


def test_a_gallery_on_the_disk_is_used_again_while_it_holds(small_phantom, tmp_path):
    studies, names = half_empty(small_phantom)
    made = {side: embed_gallery(Toy(), studies, side, progress=False, out=tmp_path) for side in ("image", "text")}
    again = Toy()
    for side, before in made.items():
        found = embed_gallery(again, studies, side, progress=False, out=tmp_path)
        assert found.ids.tolist() == before.ids.tolist() and (found.mu == before.mu).all()
    assert again.films == again.texts == 0
    fewer = studies.select(names[:5])
    assert len(embed_gallery(again, fewer, "image", progress=False, out=tmp_path)) == 4 == again.films
    assert len(embed_gallery(Toy(seed=1), fewer, "text", progress=False, out=tmp_path)) == 4


def test_an_empty_gallery_is_one_clear_line(small_phantom):
    studies, names = half_empty(small_phantom)
    silent, filmless = studies.select(names[2:3]), studies.select(names[4:5])
    for side, part, says in (("image", filmless, "readable film"), ("text", silent, "text")):
        with pytest.raises(DataError, match=f"nothing to search: no study of all has a {says}") as caught:
            embed_gallery(Toy(), part, side, progress=False)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="nope"):
        embed_gallery(Toy(), studies, "text", "nope", progress=False)


def test_every_image(small_phantom):
    found = embed(Toy(), small_phantom, "val", every_image=True, progress=False)
    part = small_phantom.split("val")
    assert sorted(found["image"].ids) == sorted(part.images.image_id) and len(found["text"]) == len(part)


def test_work_on_the_disk_is_not_repeated_and_a_changed_model_is(small_phantom, tmp_path):
    first = Toy()
    a = embed(first, small_phantom, "test", out=tmp_path, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["test-image.parquet", "test-text.parquet"]
    second = Toy()
    second.config.data = "elsewhere"
    b = embed(second, small_phantom, "test", out=tmp_path, progress=False)
    assert second.films == second.texts == 0 and all((a[m].mu == b[m].mu).all() and a[m].meta == b[m].meta for m in a)
    (tmp_path / "test-text.parquet").write_bytes(b"cut off")  # as after a crash of another program
    embed(second, small_phantom, "test", out=tmp_path, progress=False)
    assert second.films == 0 and second.texts > 0
    third = Toy()
    with torch.no_grad():
        third.film[0, 0] += 1e-6
    embed(third, small_phantom, "test", out=tmp_path, progress=False)
    assert third.films == len(a["image"])
    fourth = Toy()
    embed(fourth, small_phantom, "test", out=tmp_path, progress=False, every_image=True)
    assert fourth.films > 0


def test_method_hash_sees_every_weight():
    base = method_hash(Toy())
    assert base == method_hash(Toy()) != method_hash(Toy(seed=1))
    half = Toy().to(torch.bfloat16)
    assert method_hash(half) != base
    scalar = Toy()
    scalar.register_buffer("temperature", torch.tensor(1.0))
    assert method_hash(scalar) != base


def test_nan_of_a_method_is_named(small_phantom):
    method = Toy()
    with torch.no_grad():
        method.film.fill_(float("nan"))
    with pytest.raises(DataError, match="mu holds NaN"):
        embed(method, small_phantom, "test", progress=False)


def test_bad_split_batch_and_text(small_phantom):
    with pytest.raises(DataError, match="nosuch"):
        embed(Toy(), small_phantom, "nosuch")
    with pytest.raises(ValueError, match="batch"):
        embed(Toy(), small_phantom, "test", batch=0)
    for texts in ([], ["fine", " .. "]):
        with pytest.raises(DataError, match="texts"):
            embed_texts(Toy(), texts)
    with pytest.raises(DataError, match="films"):
        embed_films(Toy(), [])


def test_new_films_by_path_and_by_array(small_phantom, tmp_path):
    method = Toy()
    paths = small_phantom.image_paths()[:3]
    by_path, by_array = (
        embed_films(method, paths, batch=2),
        embed_films(method, [read_image(p) for p in paths], ids=list("abc")),
    )
    np.testing.assert_allclose(by_path.mu, by_array.mu, rtol=1e-5, atol=1e-5)
    assert by_path.ids[0] == str(paths[0]) and by_array.ids.tolist() == ["a", "b", "c"]
    (tmp_path / "broken.png").write_bytes(b"no film")
    with pytest.raises(DataError, match="broken.png"):
        embed_films(method, [tmp_path / "broken.png"])


def test_half_precision_methods_give_float32():
    class Half(Toy):
        def encode_text(self, tokens, mask):
            out = super().encode_text(tokens, mask)
            return SimpleNamespace(mu=out.mu.bfloat16(), logvar=None)

    there = embed_texts(Half(), ["a text", "b text"])
    assert there.mu.dtype == np.float32 and there.logvar is None


def test_the_container_can_be_imported_from_here_too():
    assert embeddings.Embeddings is points.Embeddings and embeddings.SIMILARITIES is points.SIMILARITIES


def test_another_tokenizer_is_another_method(small_phantom, tmp_path):
    "One file of the run is changed: its points are made anew, and what was measured says so."
    method = CLIP.create(CLIPConfig(dim=8, size=16, max_words=16))
    first = embed(method, small_phantom, "test", out=tmp_path, progress=False)["text"]
    method.tokenizer.padding_side = "left"
    assert embed(method, small_phantom, "test", out=tmp_path, progress=False)["text"].meta != first.meta
    method.tokenizer.padding_side = "right"
    changed = json.loads(method.tokenizer.backend_tokenizer.to_str())
    vocabulary = changed["model"]["vocab"]
    right, left = vocabulary["right"], vocabulary["left"]
    vocabulary["right"], vocabulary["left"] = left, right
    method.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(changed)), **method.tokenizer.special_tokens_map
    )
    second = embed(method, small_phantom, "test", out=tmp_path, progress=False)["text"]
    assert second.meta["fingerprint"] != first.meta["fingerprint"] and not np.array_equal(second.mu, first.mu)


def test_other_code_makes_the_points_anew(small_phantom, tmp_path, monkeypatch):
    embed(Toy(), small_phantom, "test", out=tmp_path, progress=False)
    again = Toy()
    embed(again, small_phantom, "test", out=tmp_path, progress=False)
    assert again.films == again.texts == 0
    monkeypatch.setattr(embeddings, "package_hash", lambda *folders: "another version")
    embed(again, small_phantom, "test", out=tmp_path, progress=False)
    assert again.films and again.texts


def test_no_flipped_bit_is_taken_for_a_point(small_phantom, tmp_path, capsys):
    method = Toy()
    right = embed(method, small_phantom, "test", out=tmp_path, progress=False)["image"]
    file = tmp_path / "test-image.parquet"
    whole, rng, refused = file.read_bytes(), np.random.default_rng(0), 0
    for _ in range(80):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        file.write_bytes(data)
        method.films = 0
        found = embed(method, small_phantom, "test", out=tmp_path, progress=False)["image"]
        refused += bool(method.films)
        assert np.array_equal(found.mu, right.mu) and np.array_equal(found.logvar, right.logvar)
        assert found.meta == right.meta and found.study_ids.tolist() == right.study_ids.tolist()
    assert refused > 40
    assert "embedded again" in capsys.readouterr().err
