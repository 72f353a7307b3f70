"Counters: known answers, the formula in whole numbers, any shape and order, no collisions, uniform and unrelated."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.counters import derived_keys, key_of, keyed_bell, keyed_noise

GAMMA = 0x9E3779B97F4A7C15
WHOLE = st.integers(-(2**63), 2**63 - 1)


def splitmix(state):
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def derived(key, *what):
    for part in what:
        number = key_of(part) if isinstance(part, str) else part
        key = splitmix((splitmix((key + GAMMA) % 2**64) + number) % 2**64)
    return key % 2**64


def test_keys_depend_on_their_parts_alone():
    assert key_of(0, 1, "s") == key_of(0, 1, "s") and 0 <= key_of("x") < 2**63
    assert len({key_of(s, e, f"s{i}") for s in range(3) for e in range(3) for i in range(50)}) == 450


def test_known_answers(device):
    assert key_of(0, 3, "s12", 1) == 5790874870894883920
    keys = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63)], device=device)
    assert (keyed_noise(keys, 2) * 2**24).int().tolist() == [
        [10946269, 11764387],
        [6177195, 15830380],
        [6144522, 12428646],
        [6932953, 8356977],
        [8838034, 6036108],
    ]
    assert derived_keys(keys, "film", 1).tolist() == [
        -5588056013793466665,
        1233596252401161317,
        -6117992906620981177,
        2462385292929494035,
        -4747432669249273833,
    ]


@settings(max_examples=40, deadline=None)
@given(keys=st.lists(WHOLE, min_size=1, max_size=4), n=st.integers(1, 5))
def test_noise_is_splitmix_of_the_key(keys, n):
    start = [splitmix((key + GAMMA) % 2**64) for key in keys]
    expected = [[(splitmix((s + (i + 1) * GAMMA) % 2**64) >> 40) / 2**24 for i in range(n)] for s in start]
    assert keyed_noise(torch.tensor(keys), n).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(
    keys=st.lists(WHOLE, min_size=1, max_size=4),
    what=st.lists(st.one_of(st.text(max_size=5), st.integers(-(2**64), 2**65)), max_size=4),
)
def test_derived_keys_are_what_plain_integers_give(keys, what):
    found = derived_keys(torch.tensor(keys), *what).tolist()
    assert [key % 2**64 for key in found] == [derived(key, *what) for key in keys]


def test_noise_depends_on_its_own_key_alone_and_is_uniform():
    keys, order = torch.arange(4000), torch.randperm(4000)
    noise = keyed_noise(keys, 25)
    assert torch.equal(keyed_noise(keys[order], 25), noise[order])
    assert torch.equal(keyed_noise(keys[7:9], 10), noise[7:9, :10])
    assert noise.min() >= 0 and noise.max() < 1 and len(noise[:, 0].unique()) > 3990
    counts = torch.histc(noise, 20, 0, 1)
    chi_square = ((counts - 5000) ** 2 / 5000).sum().item()
    assert chi_square < 43.8  # 99.9 % point of chi-square with 19 degrees


def test_any_shape_gives_the_same_numbers():
    keys = torch.arange(-12, 12)
    square = keys.view(2, 3, 4)
    assert torch.equal(keyed_noise(square, 5), keyed_noise(keys, 5).view(2, 3, 4, 5))
    assert torch.equal(derived_keys(square, "a", 2), derived_keys(keys, "a", 2).view(2, 3, 4))
    assert torch.equal(derived_keys(keys[3], "film"), derived_keys(keys, "film")[3])
    assert keyed_noise(keys[:0], 4).shape == (0, 4) and derived_keys(keys[:0], "x").shape == (0,)
    assert torch.equal(derived_keys(keys), keys)


def test_parts_may_be_tensors_and_their_order_counts():
    keys, parts = torch.arange(4), torch.tensor([3, 1, 4, 1])
    each = [derived_keys(keys[i : i + 1], int(parts[i]), "film") for i in range(4)]
    assert torch.equal(derived_keys(keys, parts, "film"), torch.cat(each))
    wide = derived_keys(keys[:, None], "film", torch.arange(3))
    assert wide.shape == (4, 3)
    assert all(torch.equal(wide[:, v], derived_keys(keys, "film", v)) for v in range(3))
    assert not torch.equal(derived_keys(keys, 1, 2), derived_keys(keys, 2, 1))
    assert not torch.equal(derived_keys(keys, "a", "b"), derived_keys(keys, "b", "a"))
    assert not torch.equal(derived_keys(keys, "1"), derived_keys(keys, 1))


def test_a_million_derived_keys_are_different():
    assert derived_keys(torch.arange(1000)[:, None], torch.arange(1000)).unique().numel() == 10**6
    apart = torch.stack([derived_keys(torch.arange(100_000), f"purpose {i}") for i in range(10)])
    assert apart.unique().numel() == 10**6


def test_draws_for_two_purposes_are_unrelated_and_uniform():
    keys = torch.arange(40_000)
    draws = [keyed_noise(keys, 1)] + [keyed_noise(derived_keys(keys, what), 1) for what in ("film", "words", 0, 1)]
    related = torch.corrcoef(torch.cat(draws, 1).T) - torch.eye(5)
    assert related.abs().max() < 4.5 / 200  # 4.5 standard deviations of a correlation of 40,000
    for draw in draws:
        counts = torch.histc(draw, 20, 0, 1)
        assert ((counts - 2000) ** 2 / 2000).sum() < 43.8
    bits = derived_keys(keys, "film")[:, None] >> torch.arange(64) & 1
    assert (bits.float().mean(0) - 0.5).abs().max() < 4.5 * 0.5 / 200


def bell_in_words(key, n):
    start = derived(key, "bell")
    out = []
    for i in range(n):
        x = (start + splitmix((i + 1) * GAMMA % 2**64)) % 2**32
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
        out.append(sum(x.to_bytes(4, "big")) - 510)
    return out


@settings(max_examples=40, deadline=None)
@given(keys=st.lists(WHOLE, min_size=1, max_size=4), n=st.integers(1, 20))
def test_bell_noise_is_the_sum_of_four_bytes_of_its_hash(keys, n):
    found = keyed_bell(torch.tensor(keys), n).double() * 21845**0.5
    assert found.round().long().tolist() == [bell_in_words(key, n) for key in keys]
    torch.testing.assert_close(found, found.round(), atol=1e-4, rtol=0)
    assert torch.equal(keyed_bell(torch.tensor(keys).view(1, -1, 1), n)[0, :, 0], keyed_bell(torch.tensor(keys), n))


def test_bell_noise_has_the_moments_that_are_stated():
    noise = keyed_bell(torch.arange(2000), 1000).double()
    count = noise.numel()
    assert abs(noise.mean()) < 4.5 / count**0.5
    assert abs(noise.var() - 1) < 4.5 * (1.7 / count) ** 0.5  # the fourth moment is 2.7
    die = torch.ones(256, dtype=torch.float64)
    exact = torch.ones(1, dtype=torch.float64)
    for _ in range(4):
        exact = torch.nn.functional.conv1d(exact[None, None], die[None, None], padding=255)[0, 0]
    expected = exact / 256**4 * count
    seen = torch.bincount((noise * 21845**0.5).round().long().flatten() + 510, minlength=1021)
    often = expected > 20
    chi_square = ((seen[often] - expected[often]) ** 2 / expected[often]).sum()
    degrees = int(often.sum())
    assert chi_square < degrees + 4.5 * (2 * degrees) ** 0.5


def test_bell_noise_of_other_keys_and_other_pixels_is_unrelated():
    random = torch.randint(-(2**63), 2**63 - 1, (1000,), generator=torch.Generator().manual_seed(0))
    for keys in (torch.arange(1000), torch.arange(1000) << 32, random):
        noise = keyed_bell(keys, 400).double()
        for a, b in ((noise[:-1], noise[1:]), (noise[:, :-1], noise[:, 1:]), (noise[:, :-20], noise[:, 20:])):
            assert abs((a * b).mean()) < 4.5 / a.numel() ** 0.5
        assert (noise.mean(1) * 20).std() < 1.1 and (noise.mean(0) * 1000**0.5).std() < 1.15


def test_other_keys_are_refused():
    with pytest.raises(ValueError, match="keyed_noise: keys are torch.float32, must be int64"):
        keyed_noise(torch.zeros(3), 3)
    with pytest.raises(ValueError, match="int64"):
        keyed_bell(torch.zeros(3), 3)
    with pytest.raises(ValueError, match="derived_keys: keys are torch.int32, must be int64"):
        derived_keys(torch.zeros(3, dtype=torch.int32), "film")
    with pytest.raises(ValueError, match="int64"):
        derived_keys(torch.arange(3), torch.zeros(3))


def test_the_device_does_not_matter(device):
    keys = torch.cat([torch.arange(-500, 500), torch.randint(-(2**63), 2**63 - 1, (1000,))])
    there = keys.to(device)
    assert torch.equal(keyed_noise(there, 33).cpu(), keyed_noise(keys, 33))
    assert torch.equal(derived_keys(there, "film", 7).cpu(), derived_keys(keys, "film", 7))
    assert torch.equal(keyed_bell(there, 65).cpu(), keyed_bell(keys, 65))
