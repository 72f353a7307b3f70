"What a step costs: saved bytes by hand, masked inputs against whole ones, the method itself left as it was."

import numpy as np
import pytest
import torch

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import shipped_data
from medret_nb.data.studies import StudySet
from medret_nb.methods.mcr import MCR, MCRConfig
from medret_nb.training.step_costs import relative_costs, saved_in, step_cost_cases, step_costs


def arm(inputs, hidden=0.5):
    "MCR with one or two inputs."
    return MCR.create(MCRConfig(inputs=inputs, hidden_patches=hidden), seed=0)


def test_saved_bytes_by_hand():
    layer = torch.nn.Linear(6, 3)
    x = torch.zeros(5, 6, requires_grad=True)
    assert saved_in(lambda: layer(x), layer) == 5 * 6 * 4
    assert saved_in(lambda: torch.tanh(x).view(-1), layer) == 5 * 6 * 4


def test_one_masked_input_is_cheaper_than_two(device):
    clinic = StudySet.load(shipped_data("phantom-small"))
    arms = {f"{i} {h}": arm(i, h).to(device) for i, h in (("one", 0.5), ("two", 0.5), ("one", 0.75))}
    maker = BatchMaker.for_method(clinic.split("train"), arms["one 0.5"])
    table = step_costs(arms, maker.batch(range(6)), rounds=1)
    relative = relative_costs(table, "two 0.5")
    assert (relative.loc["one 0.5", ["operations", "saved_mb"]] < 0.9).all()
    assert relative.loc["one 0.75", "operations"] < relative.loc["one 0.5", "operations"]
    assert (table["seconds"] > 0).all()
    assert table["peak_mb"].notna().all() == (device.type == "cuda")
    with pytest.raises(ValueError, match="to"):
        relative_costs(table, "three")


def test_cases_leave_the_method_alone():
    clinic = StudySet.load(shipped_data("phantom-small"))
    method = arm("one")
    before = {name: value.clone() for name, value in method.state_dict().items()}
    cases = step_cost_cases(method, clinic, batch=6, batches=2)
    assert len(cases) == 2 and cases["case"].is_unique
    assert np.allclose(cases["value"], -np.log2(cases["cost"]))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    with pytest.raises(ValueError, match="of"):
        step_cost_cases(method, clinic, of="money")
