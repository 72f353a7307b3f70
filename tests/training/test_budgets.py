"""Several budgets: the committed arms differ as they say and start alike, runs are shared, one table holds all."""

import pytest
import torch

from medret_nb.data.files import DataError, shipped_data
from medret_nb.training.arms import Arm, difference_in_words, read_arms, settings_apart
from medret_nb.training.budgets import check_budgets, compare_budgets, joined_table
from medret_nb.training.compare import Budget
from medret_nb.training.loop import TrainConfig
from medret_nb.training.operations import count_arm, count_operations, epochs_of_work, operations_file

ARMS = read_arms(shipped_data("results/board/arms.toml"))
ABLATIONS = [name for name, arm in ARMS.items() if arm.base]
SEVERAL = {"clip-findings", "medprobclip-one-section", "cxr_clip-one-section"}  # their texts change with them
SMALL = Budget(passes=2, protocols=("exact",), ks=(1, 5), training=TrainConfig(batch_size=8))


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_of_the_board_changes_one_setting(name):
    changed = settings_apart(ARMS[ARMS[name].base], ARMS[name])
    if name == "clip-tiny-vit":
        changed.pop("std", None)
    told = difference_in_words(ARMS, name)
    assert told.startswith("several: ") == (len(changed) > 1) == (name in SEVERAL), told


def level_names(method):
    "PECM's weights of each level, by the level's name in place of its number."
    for part in (method.image_prototypes, method.text_prototypes):
        for number, level in enumerate(method.level_names):
            yield part.queries[number], level
            yield part.maps[number].weight, level


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "clip-tiny-vit"])
def test_an_ablation_starts_as_its_base_does(name):
    base, arm = ARMS[ARMS[name].base].create(3), ARMS[name].create(3)
    first, second = dict(base.named_parameters()), dict(arm.named_parameters())
    shared = [n for n in second if n in first and first[n].shape == second[n].shape]
    if name == "pecm-one-level":
        shared = [n for n in shared if not n.startswith(("image_prototypes", "text_prototypes"))]
        fine = [weight for weight, level in level_names(base) if level == "fine"]
        assert all(torch.equal(one, two) for one, (two, _) in zip(fine, level_names(arm), strict=True))
    assert len(shared) > 50 and all(torch.equal(first[n], second[n]) for n in shared)


def test_a_base_must_be_another_arm(tmp_path):
    for base in ("nobody", "a"):
        (tmp_path / "arms.toml").write_text(f'[a]\nmethod = "clip"\nbase = "{base}"\n[b]\nmethod = "clip"\n')
        with pytest.raises(DataError, match=rf"arm a: base: '{base}' is no other arm"):
            read_arms(tmp_path / "arms.toml")


def test_operations_follow_what_a_step_does(small_phantom, tmp_path):
    train = small_phantom.split("train")
    one, two = (count_arm(Arm("clip", settings={"views": views}), train, 8).study for views in (1, 2))
    joint, frozen = (count_arm(Arm("rra_vl", settings={"stages": s}), train, 8).study for s in ("joint", "frozen"))
    assert one < two < 2 * one and frozen < joint
    arms = {"a": Arm("clip"), "b": Arm("clip", settings={"views": 2})}
    found = count_operations(arms, train, 8, tmp_path)
    assert epochs_of_work(arms, found, 8, 40) == {
        "a": 40,
        "b": round(40 / (found["b"].of_step(8) / found["a"].of_step(8))),
    }
    kept = operations_file(tmp_path).read_text().replace(str(found["a"].study), "1.0")
    operations_file(tmp_path).write_text(kept)
    assert count_operations(arms, train, 8, tmp_path)["a"].study == 1.0, "what is recorded holds"
    assert count_operations(arms, train, 4, tmp_path)["a"].study > 1.0, "and another batch is counted anew"


def test_budgets_share_runs_and_one_table_holds_all(small_phantom, tmp_path):
    arms = {"a": Arm("clip", settings={"dim": 8}), "b": Arm("clip", settings={"dim": 8, "views": 2}, base="a")}
    found = compare_budgets(arms, small_phantom, tmp_path, ("passes", "steps"), (0,), SMALL, 0, False)
    files = [tmp_path / name / "a/seed-0/cost.json" for name in ("passes", "steps")]
    assert files[0].read_bytes() == files[1].read_bytes() and not (files[1].parent / "checkpoints").exists()
    table = joined_table(found, "R@5")
    assert table.loc["b", "changes"] == "views: 1 -> 2" and table.loc[
        "b", ["passes epochs", "steps epochs"]
    ].tolist() == [1, 2]
    assert "of oracle" in table.loc["a", "steps R@5 image-to-text"] and (tmp_path / "budgets.csv").is_file()
    again = compare_budgets(arms, small_phantom, tmp_path, ("passes", "steps"), (0,), SMALL, 0, False)
    assert joined_table(again, "R@5").equals(table)
    with pytest.raises(DataError, match="budget: 'seconds' is none of passes, steps, operations"):
        check_budgets(["seconds"])
