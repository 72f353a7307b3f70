"MCR: its terms against a reading study by study, what masks hide, the order of mapping and pooling, and its switches."

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medret_nb.data.batches import BatchMaker
from medret_nb.data.counters import keyed_noise
from medret_nb.data.files import DataError
from medret_nb.losses.contrastive import softmax_matching
from medret_nb.methods.mcr import (
    MCR,
    Aggregator,
    Guesser,
    MCRConfig,
    Painter,
    check_maskable,
    cost_per_place,
    feature_map,
    guessing_costs,
    masked_inputs,
    painting_costs,
)
from medret_nb.methods.table import load_method
from medret_nb.phantom.phantom import make_phantom
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.scoring import score_matrix
from medret_nb.retrieval.search import build_index


def fresh(seed=0, **settings):
    "A new method whose queries are not zero, so that its attention is not a plain mean."
    method = MCR.create(MCRConfig(**settings), seed=seed).eval()
    torch.manual_seed(seed)
    for head in (method.image_head, method.text_head):
        if head.query is not None:
            nn.init.normal_(head.query, std=3.0)
    return method


def batch_of(studies, method, rows=range(8), epoch=0):
    return BatchMaker.for_method(studies, method, seed=2, augmentation=0).batch(rows, epoch)


def pooled_by_hand(head, features):
    if head.order == "abm":
        weight = (features @ head.query / features.shape[1] ** 0.5).softmax(0)
        return F.normalize(head.map((weight[:, None] * features).sum(0)), dim=0)
    mapped = head.map(features)
    weight = (mapped @ head.query / mapped.shape[1] ** 0.5).softmax(0)
    return F.normalize((weight[:, None] * mapped).sum(0), dim=0)


def study_by_study(method, batch):
    "The three terms, read off the definition for one study after the other."
    c, images, texts, painted, guessed = method.config, [], [], [], []
    for i in range(len(batch)):
        film, key = batch.pixels[i, 0], batch.key[i, 0]
        order = keyed_noise(key, 64).argsort()
        kept = order[: 64 - round(64 * c.hidden_patches)].sort().values
        patches = method.image_encoder(film[None], kept[None])[1]
        images.append(pooled_by_hand(method.image_head, patches[0]))
        drawn = method.painter(patches, kept[None])[0]
        for n in sorted(set(range(64)) - set(kept.tolist())):
            y, x = 8 * (n // 8), 8 * (n % 8)
            target = film[0, y : y + 8, x : x + 8].flatten()
            painted.append(((drawn[n] - (target - target.mean()) / (target.var() + 1e-6).sqrt()) ** 2).mean())
        there = batch.mask[i, 0]
        tokens, words = batch.tokens[i, 0][there], batch.word_ids[i, 0][there]
        count = int(words.max()) + 1
        gone = keyed_noise(~key, count).argsort()[: max(1, round(count * c.hidden_words))].tolist()
        hidden = torch.tensor([w in gone for w in words.tolist()])
        vectors = method.text_encoder(
            tokens.masked_fill(hidden, method.tokenizer.mask_token_id)[None],
            torch.ones(1, len(tokens), dtype=torch.bool),
        )[1]
        texts.append(pooled_by_hand(method.text_head, vectors[0]))
        table = method.text_encoder.backbone.get_input_embeddings().weight
        logits = method.guesser(vectors, table, patches.mean(1))[0]
        guessed += [-logits[w].log_softmax(0)[tokens[w]] for w in hidden.nonzero().flatten()]
    same = (batch.text_group[:, None] == batch.text_group).float()
    contrast = softmax_matching(method.logit_scale * torch.stack(images) @ torch.stack(texts).T, same)
    return {
        "contrast": contrast,
        "pixels": c.pixel_weight * torch.stack(painted).mean(),
        "words": c.word_weight * torch.stack(guessed).mean(),
    }


@pytest.mark.parametrize(
    "settings",
    [{}, dict(order="abm", hidden_patches=0.75, hidden_words=0.5, film_helps=True, pixel_weight=0.3, word_weight=2.0)],
)
def test_the_terms_are_those_of_a_reading_study_by_study(small_phantom, settings):
    method = fresh(**settings)
    batch = batch_of(small_phantom, method)
    with torch.no_grad():
        ours, expected = method(batch), study_by_study(method, batch)
    assert list(ours) == ["contrast", "pixels", "words"]
    for name, value in ours.items():
        assert value.item() == pytest.approx(expected[name].item(), abs=1e-5), name


def test_what_is_hidden_cannot_reach_the_contrast(small_phantom):
    one, two = fresh(), fresh(inputs="two")
    batch = batch_of(small_phantom, one)
    keep, gone, tokens, silent = one.hide(batch)
    changed = dataclasses.replace(batch, pixels=batch.pixels.clone(), tokens=batch.tokens.clone())
    patches = changed.pixels[:, 0, 0].unfold(1, 8, 8).unfold(2, 8, 8)  # views (B, 8, 8, 8, 8) of the same memory
    patches[gone.view(-1, 8, 8)] += torch.randn(int(gone.sum()), 8, 8)
    changed.tokens[:, 0][silent] = 7
    with torch.no_grad():
        assert torch.equal(one(batch)["contrast"], one(changed)["contrast"])
        for name in ("pixels", "words"):
            assert not torch.equal(one(batch)[name], one(changed)[name])
        assert not torch.allclose(two(batch)["contrast"], two(changed)["contrast"])


def test_a_study_is_masked_alike_in_any_batch_and_otherwise_in_another_epoch(small_phantom):
    method = fresh()
    together, alone, later = (
        batch_of(small_phantom, method, rows, epoch) for rows, epoch in (([0, 1, 2, 3, 4], 1), ([3], 1), ([3], 2))
    )
    width = alone.tokens.shape[-1]
    for one, all_ in zip(method.hide(alone), method.hide(together)):
        assert torch.equal(one[0], all_[3, :width] if one.shape[1] == width else all_[3])
    assert not torch.equal(method.hide(alone)[0], method.hide(later)[0]) and not torch.equal(
        method.hide(alone)[3], method.hide(later)[3]
    )
    with torch.no_grad():
        shuffled = method(batch_of(small_phantom, method, [4, 2, 0, 3, 1], 1))
        for name, value in method(together).items():
            assert value.item() == pytest.approx(shuffled[name].item(), abs=1e-5)


def test_patches_and_words_are_drawn_apart(small_phantom):
    key = torch.arange(500)
    assert abs(np.corrcoef(keyed_noise(key, 1)[:, 0], keyed_noise(~key, 1)[:, 0])[0, 1]) < 0.15


def test_inference_sees_everything(small_phantom):
    method = fresh()
    batch = batch_of(small_phantom, method)
    other = dataclasses.replace(batch, key=batch.key + 1)
    with torch.no_grad():
        assert not torch.equal(method.encode_batch(batch)["image"], method.encode_batch(other)["image"])
        whole = method.encode_image(batch.pixels[:, 0]).mu
        assert torch.allclose(whole, fresh(inputs="two").encode_batch(batch)["image"], atol=1e-6)
        nothing_hidden = fresh(hidden_patches=0.0, hidden_words=0.0)
        assert torch.allclose(whole, nothing_hidden.encode_batch(batch)["image"], atol=1e-5)
        terms = nothing_hidden(batch)
        assert terms["pixels"] == 0 and terms["words"] == 0
        assert terms["contrast"].item() == pytest.approx(
            fresh(inputs="two", hidden_patches=0.0, hidden_words=0.0)(batch)["contrast"].item(), abs=1e-5
        )


def weights_of(first, second):
    "Give two aggregators the same map."
    second.map.load_state_dict(first.map.state_dict())
    return first, second


@pytest.mark.parametrize(
    "mapping,pooling,equal",
    [("linear", "mean", True), ("mlp", "mean", False), ("linear", "attention", False), ("mlp", "attention", False)],
)
def test_the_order_matters_only_where_it_can(mapping, pooling, equal):
    torch.manual_seed(0)
    mba, abm = weights_of(*(Aggregator(12, 6, order, mapping, pooling) for order in ("mba", "abm")))
    for head in (mba, abm):
        if pooling == "attention":
            nn.init.normal_(head.query, std=3.0)
    features, mask = torch.randn(5, 9, 12), torch.arange(9) < torch.tensor([9, 4, 1, 7, 6])[:, None]
    apart = (mba(features, mask) - abm(features, mask))[mask.sum(1) > 1].abs().max()
    assert apart < 1e-6 if equal else apart > 0.02
    if mapping == "linear" and pooling == "attention":
        with torch.no_grad():
            abm.query.copy_(
                mba.map.weight.T @ mba.query * (12 / 6) ** 0.5
            )  # the query seen from the other side of the map
        assert torch.allclose(mba(features, mask), abm(features, mask), atol=1e-6)


def test_attention_starts_as_the_mean():
    torch.manual_seed(0)
    head, mean = weights_of(Aggregator(12, 6), Aggregator(12, 6, pooling="mean"))
    features = torch.randn(3, 9, 12)
    assert torch.allclose(head(features), mean(features), atol=1e-6)


def test_padding_is_not_pooled(small_phantom):
    method = fresh()
    tokens, mask = method.prepare_text(["No effusion.", "Small left pneumothorax and a large right pleural effusion."])
    alone = method.prepare_text(["No effusion."])
    with torch.no_grad():
        assert torch.allclose(method.encode_text(tokens, mask).mu[:1], method.encode_text(*alone).mu, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(inputs="two"),
        dict(order="abm", pooling="mean", mapping="linear"),
        dict(pixel_weight=0.0),
        dict(word_weight=0.0),
        dict(film_helps=True, decoder_layers=2),
    ],
)
def test_every_switch_trains_every_parameter(small_phantom, settings):
    method = MCR.create(MCRConfig(**settings))
    terms = method(batch_of(small_phantom, method))
    sum(terms.values()).backward()
    assert list(terms) == [
        "contrast",
        *["pixels"] * method.config.pixel_weight.__bool__(),
        *["words"] * method.config.word_weight.__bool__(),
    ]
    assert [
        name for name, p in method.named_parameters() if p.requires_grad and p.grad is None
    ] == []  # else training on several processes stops


def test_the_film_helps_to_guess_only_when_asked(small_phantom):
    helped, alone = fresh(film_helps=True), fresh()
    batch = batch_of(small_phantom, helped)
    dark = dataclasses.replace(batch, pixels=torch.zeros_like(batch.pixels))
    with torch.no_grad():
        assert not torch.allclose(helped(batch)["words"], helped(dark)["words"])
        assert torch.equal(alone(batch)["words"], alone(dark)["words"])


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """A study of each of 32 patients: two films of one patient who has nothing new are nearly the same film."""
    out = tmp_path_factory.mktemp("phantom") / "patients"
    return make_phantom({"train": 32}, seed=5, size=64, out=out, one_study_per_patient=True, progress=False)


@pytest.mark.parametrize(
    "settings, steps",
    [
        ({"hidden_patches": 0.25, "hidden_words": 0.15}, 120),  # the more is hidden, the longer it takes
        pytest.param({}, 300, marks=pytest.mark.slow),
    ],
)
def test_it_learns_32_patients_by_heart(patients, settings, steps):
    torch.manual_seed(0)
    method = MCR.create(MCRConfig(**settings))
    maker = BatchMaker.for_method(patients, method, augmentation=0)
    optimiser = torch.optim.AdamW(method.parameters(), lr=5e-4)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    method.train()
    for epoch in range(steps):
        terms = method(maker.batch(range(32), epoch))
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
        falling.step()
    method.eval()
    batch = maker.batch(range(32))
    with torch.no_grad():
        scores = method.score(
            method.encode_image(batch.pixels[:, 0]), method.encode_text(batch.tokens[:, 0], batch.mask[:, 0])
        )
    groups = batch.text_group.numpy()
    assert np.mean(groups[scores.argmax(1).numpy()] == groups) > 0.95
    assert terms["words"] / method.config.word_weight < 5  # guessing blindly costs 7


def test_saved_loaded_and_searched_the_scores_are_the_same(small_phantom, tmp_path):
    method = fresh(seed=4, hidden_patches=0.75)
    method.save_pretrained(tmp_path / "run")
    loaded = load_method(tmp_path / "run")
    assert loaded.config.hidden_patches == 0.75 and isinstance(loaded, MCR)
    mine, theirs = (embed(m, small_phantom, "test", progress=False) for m in (method, loaded))
    scores = [score_matrix(part["image"], part["text"]) for part in (mine, theirs)]
    assert np.array_equal(*scores)
    hits = build_index(theirs["text"]).search(theirs["image"], 3)
    assert np.allclose(hits.scores, np.sort(scores[0], axis=1)[:, ::-1][:, :3], rtol=1e-4, atol=1e-4)


def test_forward_and_score_on_the_meta_device(small_phantom):
    method = MCR.create(MCRConfig(film_helps=True))
    batch = batch_of(small_phantom, method, range(4))
    method, batch = method.to("meta"), batch.to("meta")
    assert {v.device.type for v in method(batch).values()} == {"meta"}
    images, texts = method.encode_image(batch.pixels[:, 0]), method.encode_text(batch.tokens[:, 0], batch.mask[:, 0])
    assert method.score(images, texts).shape == (4, 4) and images.local["patches"].shape == (4, 8, 8, 128)


def test_what_cannot_work_is_refused_in_one_line():
    with pytest.raises(DataError, match="resnet"):
        MCR.create(image="tiny")
    with pytest.raises(DataError, match="size: 60"):
        MCR.create(MCRConfig(size=60))
    for wrong in (
        dict(inputs="three"),
        dict(order="bma"),
        dict(mapping="cubic"),
        dict(pooling="max"),
        dict(hidden_patches=1.0),
        dict(hidden_words=1.5),
        dict(pixel_weight=-1.0),
        dict(word_weight=-1.0),
        dict(decoder_width=30),
    ):
        with pytest.raises(DataError, match=next(iter(wrong))):
            MCRConfig(**wrong)


def test_maps_are_their_formulas():
    torch.manual_seed(0)
    h = torch.randn(3, 5)
    linear, mlp = feature_map(5, 4, "linear"), feature_map(5, 4, "mlp")
    first, _, last = mlp
    for n in range(3):
        assert torch.allclose(linear(h)[n], linear.weight @ h[n], atol=1e-6)
        inner = F.gelu(first.weight @ h[n] + first.bias)
        assert torch.allclose(mlp(h)[n], last.weight @ inner, atol=1e-6)
    assert linear.bias is None and last.bias is None


def test_costs_are_divided_over_the_whole_batch():
    costs, counts = torch.tensor([4.0, 6.0, 0.0]), torch.tensor([1, 3, 0])
    assert cost_per_place(costs, counts, 0.5).item() == pytest.approx(0.5 * (4 + 6) / (1 + 3))
    assert cost_per_place(torch.zeros(2), torch.zeros(2, dtype=torch.long), 0.5) == 0


def test_painting_costs_are_their_formula():
    torch.manual_seed(0)
    painted, pixels = torch.randn(2, 4, 9), torch.randn(2, 1, 6, 6)
    gone = torch.tensor([[True, False, True, False], [False] * 4])
    found = painting_costs(painted, pixels, gone, 3)
    for i in range(2):
        total = 0.0
        for n in range(4):
            y, x = 3 * (n // 2), 3 * (n % 2)
            patch = pixels[i, 0, y : y + 3, x : x + 3].flatten()
            texture = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            total += float(gone[i, n]) * sum((painted[i, n, p] - texture[p]) ** 2 for p in range(9)).item() / 9
        assert found["pixels"][i].item() == pytest.approx(total, abs=1e-5)
    assert found["pixels_count"].tolist() == [2, 0]


def test_guessing_costs_are_their_formula():
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    silent = torch.tensor([[True, False, True, True, False], [False] * 5])
    found = guessing_costs(logits, tokens, silent)
    for i in range(2):
        total = -sum(logits[i, w].log_softmax(0)[tokens[i, w]].item() for w in range(5) if silent[i, w])
        assert found["words"][i].item() == pytest.approx(total, abs=1e-5)
    assert found["words_count"].tolist() == [3, 0]


def test_masks_follow_each_studys_key(small_phantom):
    method = fresh(hidden_patches=0.25, hidden_words=0.4)
    batch = batch_of(small_phantom, method)
    keep, gone, tokens, silent = masked_inputs(batch, 64, method.config, method.tokenizer.mask_token_id)
    for i in range(len(batch)):
        key, words = batch.key[i, 0], batch.word_ids[i, 0].tolist()
        order = sorted(range(64), key=keyed_noise(key, 64).tolist().__getitem__)
        assert keep[i].tolist() == sorted(order[:48]) and gone[i].nonzero().flatten().tolist() == sorted(order[48:])
        count = max(words) + 1
        noise = keyed_noise(~key, tokens.shape[1])[:count].tolist()
        hidden = sorted(range(count), key=noise.__getitem__)[: max(1, round(0.4 * count))]
        assert silent[i].tolist() == [word in hidden for word in words]
        expected = batch.tokens[i, 0].masked_fill(silent[i], method.tokenizer.mask_token_id)
        assert torch.equal(tokens[i], expected)


def test_painter_and_guesser_fill_every_place():
    torch.manual_seed(0)
    painter, keep = Painter(6, 4, 9, inner=8, layers=0), torch.tensor([[2, 0, 3]])
    patches = torch.randn(1, 3, 6)
    found = painter(patches, keep)[0]
    for n in range(4):
        own = keep[0].tolist().index(n) if n in keep else None
        token = painter.hidden if own is None else painter.enter(patches[0, own])
        assert torch.allclose(found[n], painter.leave(token + painter.places[n]), atol=1e-6)
    guesser, table, film = Guesser(6, 11, film_width=3), torch.randn(11, 6), torch.randn(1, 3)
    words = torch.randn(1, 5, 6)
    logits = guesser(words, table, film)
    for w in range(5):
        changed = guesser.change(words[0, w] + guesser.film.weight @ film[0])
        for v in range(11):
            assert logits[0, w, v].item() == pytest.approx((changed @ table[v] + guesser.bias[v]).item(), abs=1e-4)


def test_a_tokenizer_without_a_mask_is_refused():
    method = MCR.create()
    check_maskable(method.image_encoder, 64, method.tokenizer)
    with pytest.raises(DataError, match="no mask token"):
        check_maskable(method.image_encoder, 64, type("Tokenizer", (), {"mask_token_id": None}))
