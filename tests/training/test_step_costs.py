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


class Work(torch.nn.Module):
    "A method whose step is `times` products of (8, 32) and (32, 16), and nothing else that is counted."

    def __init__(self, times):
        super().__init__()
        self.layer = torch.nn.Linear(32, 16, bias=False)
        self.times = times

    def forward(self, batch):
        done = [self.layer(batch.films.clone()).square().sum() for _ in range(self.times)]
        return {"work": torch.stack(done).sum()}


class Films:
    "A batch of eight."

    films = torch.ones(8, 32)

    def __len__(self):
        return 8

    def to(self, device):
        return self


def test_known_work_is_found_and_twice_the_work_costs_twice():
    table = step_costs({"once": Work(1), "twice": Work(2), "thrice": Work(3)}, Films(), rounds=1)
    product = 2 * 8 * 32 * 16  # of the way there; back, as much for the weights, nothing for the films
    assert table["operations"].tolist() == [2 * product, 4 * product, 6 * product]
    kept = 4 * (8 * 32 + 8 * 16)  # bytes: the films, and what is squared
    assert (table["saved_mb"] * 2**20).tolist() == [kept, 2 * kept, 3 * kept]
    relative = relative_costs(table, "once")
    assert relative["operations"].tolist() == relative["saved_mb"].tolist() == [1, 2, 3]


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
