"Tables of films: by number, ahead of the batches in a thread, on every device; a damaged film is noticed on each way."

import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medret_nb.data.files import DataError
from medret_nb.data.film_tables import FilmTable, copied_ahead, sent_numbers
from medret_nb.data.studies import StudySet


@pytest.fixture
def table(small_phantom):
    ids = small_phantom.images["image_id"].tolist()[::-1]
    return FilmTable(small_phantom.pixels(32), ids), small_phantom.pixels(32).take(ids)


@pytest.fixture
def damaged(small_phantom, tmp_path):
    "A set in whose cache one bit of film number 7 has turned; its ids."
    shutil.copytree(small_phantom.folder, tmp_path / "set", ignore=shutil.ignore_patterns("pixels-*"))
    studies = StudySet.load(tmp_path / "set")
    ids = studies.images["image_id"].tolist()
    studies.pixels(32)
    array = tmp_path / "set" / "pixels-32.npy"
    data = bytearray(array.read_bytes())
    data[-1024 * len(ids) + 1024 * 7 + 100] ^= 4
    array.write_bytes(data)
    return studies, ids


class Reader:
    "A stream that copies nowhere, and notes in which threads films were read."

    def __init__(self, pixels):
        self.pixels, self.threads = pixels, []

    def send(self, rows):
        self.threads.append(threading.current_thread())
        return torch.from_numpy(self.pixels.take_rows(rows))

    def receive(self, sent):
        return sent.result()


@pytest.mark.parametrize("share", [0, 0.5])
def test_films_by_number_one_batch_after_the_other(table, device, share):
    films, expected = table
    films.to(device, share)
    assert (films.held is not None) == (share > 0 and device.type == "cuda")
    asked = [("a", np.array([3, 3, 0])), ("b", np.array([1])), ("c", np.arange(10)), ("d", np.array([], np.int64))]
    for _ in range(2):
        for (name, numbers), (what, found) in zip(asked, films.following(iter(asked)), strict=True):
            assert name == what and found.device == device and found.dtype == torch.uint8
            assert np.array_equal(found.cpu(), expected[numbers])
            assert torch.equal(found, films.take(numbers))


def test_numbers_are_sent_in_one_piece(device):
    first, none, last = sent_numbers([np.array([5, 2**40]), np.array([], np.int32), np.array([1], np.int32)], device)
    assert first.device == device and first.tolist() == [5, 2**40] and len(none) == 0 and last.tolist() == [1]
    assert {x.dtype for x in (first, none, last)} == {torch.int64}


def test_ahead_of_the_batches_in_a_thread_and_in_order(table):
    films, expected = table
    reader, asked = Reader(films.pixels), []

    def batches():
        for i in range(6):
            asked.append(i)
            yield i, films.rows[[i, i + 1]]

    given = copied_ahead(reader, batches())
    assert asked == []
    for i, (what, found) in enumerate(given):
        assert what == i and np.array_equal(found, expected[[i, i + 1]])
        assert len(asked) == min(6, i + 3)  # two more are under way
    assert i == 5 and threading.main_thread() not in reader.threads


def test_an_iteration_that_ends_early_leaves_no_thread(table):
    films, _ = table
    before = threading.active_count()
    given = copied_ahead(Reader(films.pixels), ((i, films.rows[:2]) for i in range(100)))
    next(given)
    given.close()
    assert threading.active_count() == before


def test_what_goes_wrong_in_the_thread_is_raised(table):
    films, _ = table

    def fail(rows):
        raise DataError("torn")

    stream = SimpleNamespace(send=fail, receive=lambda sent: sent.result())
    with pytest.raises(DataError, match="torn"):
        next(copied_ahead(stream, [("a", films.rows[:1])]))


def test_a_damaged_film_is_noticed_when_it_is_first_taken(damaged, device):
    studies, ids = damaged
    films = FilmTable(studies.pixels(32), ids).to(device, 0)
    films.take(np.arange(7))
    with pytest.raises(DataError, match=ids[7]):
        list(films.following([("a", np.arange(5)), ("b", np.array([9, 7]))]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_damaged_film_does_not_get_onto_the_card_cuda(damaged):
    studies, ids = damaged
    with pytest.raises(DataError, match=ids[7]):
        FilmTable(studies.pixels(32), ids).to("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_films_copied_ahead_are_right_while_the_card_is_busy_cuda(table):
    films, expected = table
    films.to("cuda", 0)
    rng = np.random.default_rng(0)
    asked = [(i, rng.integers(0, len(films), 24)) for i in range(60)]
    sums, busy = [], torch.randn(2048, 2048, device="cuda")
    for _, found in films.following(asked):
        busy = torch.tanh(busy @ busy)  # the card is behind, so that memory given away too early would show
        sums.append(found.long().sum((1, 2)))
    for (_, numbers), total in zip(asked, sums, strict=True):
        assert np.array_equal(total.cpu(), expected[numbers].astype(np.int64).sum((1, 2)))
