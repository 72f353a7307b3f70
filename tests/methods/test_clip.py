"CLIP: its objective is InfoNCE of its embeddings, it learns a few pairs by heart, and runs on the meta device."

import numpy as np
import pytest
import torch

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.losses.contrastive import info_nce
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.towers import graded_relevance


def test_the_objective_is_info_nce_of_the_embeddings(small_phantom):
    method = CLIP.create().eval()
    batch = BatchMaker.for_method(small_phantom, method, augmentation=0).batch(range(12))
    images, texts = method.encode_image(batch.pixels[:, 0]), method.encode_text(batch.tokens[:, 0], batch.mask[:, 0])
    expected = info_nce(images.mu, texts.mu, method.logit_scale, batch.text_group)
    assert torch.allclose(method(batch)["contrast"], expected)
    assert torch.allclose(images.mu.norm(dim=1), torch.ones(12)) and torch.allclose(
        texts.mu.norm(dim=1), torch.ones(12)
    )


def test_group_texts_is_a_switch(small_phantom):
    grouped, alone = (
        CLIP.create(CLIPConfig(group_texts=True), seed=1).eval(),
        CLIP.create(CLIPConfig(group_texts=False), seed=1).eval(),
    )
    batch = BatchMaker.for_method(small_phantom, grouped, augmentation=0).batch(range(12))
    batch.text_group[:] = torch.arange(12)
    assert torch.allclose(grouped(batch)["contrast"], alone(batch)["contrast"])
    batch.text_group[:2] = 0
    assert not torch.allclose(grouped(batch)["contrast"], alone(batch)["contrast"])


@pytest.mark.parametrize("group_texts", [True, False])
def test_graded_targets_are_a_switch(small_phantom, group_texts):
    "CLIP that is told the labels: the control for methods that know them."
    method = CLIP.create(
        CLIPConfig(targets="graded", graded=0.4, sharpness=3.0, group_texts=group_texts), seed=1
    ).eval()
    batch = BatchMaker.for_method(small_phantom, method, augmentation=0).batch(range(12))
    batch.text_group[:2] = 0
    encoded = method.encode_batch(batch)
    groups = batch.text_group if group_texts else torch.arange(12)
    wanted = graded_relevance(batch.labels, groups, 0.4, 3.0)
    scores = method.logit_scale * encoded["image"] @ encoded["text"].T
    there = -(wanted * scores.log_softmax(1)).sum(1).mean()
    back = -(wanted.T / wanted.sum(0)[:, None] * scores.T.log_softmax(1)).sum(1).mean()
    assert torch.allclose(method(batch)["contrast"], (there + back) / 2, atol=1e-5)
    method.config.targets = "own"
    assert "labels" not in method.encode_batch(batch)
    method.config.graded = 0.0
    plain = method(batch)["contrast"]
    method.config.targets = "graded"
    assert torch.allclose(method(batch)["contrast"], plain, atol=1e-5)
    with pytest.raises(DataError, match="targets"):
        CLIPConfig(targets="labels")


def test_it_learns_32_studies_by_heart(small_phantom):
    torch.manual_seed(0)
    method = CLIP.create()
    batch = BatchMaker.for_method(small_phantom, method, augmentation=0).batch(range(32))
    optimiser = torch.optim.AdamW(method.parameters(), lr=5e-4)
    method.train()
    for _ in range(60):
        loss = sum(method(batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    method.eval()
    with torch.no_grad():
        scores = method.score(
            method.encode_image(batch.pixels[:, 0]), method.encode_text(batch.tokens[:, 0], batch.mask[:, 0])
        )
    groups = batch.text_group.numpy()
    assert np.mean(groups[scores.argmax(1).numpy()] == groups) > 0.95


def test_loss_forward_and_score_on_the_meta_device(small_phantom):
    method = CLIP.create()
    batch = BatchMaker.for_method(small_phantom, method, augmentation=0).batch(range(4))
    method, batch = method.to("meta"), batch.to("meta")
    terms = method(batch)
    assert {v.device.type for v in terms.values()} == {"meta"}
    images, texts = method.encode_image(batch.pixels[:, 0]), method.encode_text(batch.tokens[:, 0], batch.mask[:, 0])
    assert method.score(images, texts).shape == (4, 4)


def test_the_order_of_a_batch_does_not_matter(small_phantom):
    method = CLIP.create().eval()
    maker = BatchMaker.for_method(small_phantom, method, augmentation=0)
    assert method(maker.batch([0, 1, 2, 3, 4]))["contrast"].item() == pytest.approx(
        method(maker.batch([4, 2, 0, 1, 3]))["contrast"].item(), abs=1e-5
    )


def test_two_films_are_the_control_of_methods_that_see_two(small_phantom):
    "Each film of a study is contrasted with its text, and the loss is the mean."
    method = CLIP.create(CLIPConfig(views=2, group_texts=False), seed=0).eval()
    batch = BatchMaker.for_method(small_phantom, method, augmentation=0).batch(range(12))
    assert batch.pixels.shape[1] == 2 and not torch.equal(batch.pixels[:, 0], batch.pixels[:, 1])
    text = method.encode_text(batch.tokens[:, 0], batch.mask[:, 0]).mu
    each = [info_nce(method.encode_image(batch.pixels[:, v]).mu, text, method.logit_scale) for v in range(2)]
    assert method(batch)["contrast"].item() == pytest.approx((each[0] + each[1]).item() / 2, abs=1e-5)
    assert method.config.inference_policy == "both"
    with pytest.raises(DataError, match="views: 3"):
        CLIPConfig(views=3)
