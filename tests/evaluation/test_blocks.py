"""Blocks of scores and pairs of relevance: against loops, for both layouts of memory."""

import numpy as np
import pytest

from medret_nb.evaluation.blocks import Groups, blocks, count_above, lies_in_columns, relevant_pairs


def counted_by_loop(block, level):
    above = [sum(x > limit for x in row) for row, limit in zip(block, level)]
    equal = [sum(x == limit for x in row) for row, limit in zip(block, level)]
    return np.array([above, equal])


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (300, 5)])
@pytest.mark.parametrize("transposed", [False, True])
def test_counting_agrees_with_a_loop(shape, transposed):
    rng = np.random.default_rng(3)
    block = rng.integers(0, 4, shape).astype(np.float32)
    level = rng.integers(0, 4, shape[0]).astype(np.float32)
    block = np.asfortranarray(block) if transposed else block
    assert min(shape) == 1 or lies_in_columns(block) == transposed
    for cells in (7, 2**18):
        assert (count_above(block, level, cells) == counted_by_loop(block, level)).all()


def test_groups_give_the_pairs_of_the_matrix():
    queries = np.array([2, -1, 0, 2])
    gallery = np.array([0, 2, 5, 2, -1])
    matrix = (queries[:, None] == gallery) & (queries[:, None] >= 0)
    for relevant in ((queries, gallery), Groups(queries, gallery), matrix, lambda start, stop: matrix[start:stop]):
        rows, columns = relevant_pairs(relevant, 1, 4)
        made = np.zeros((3, 5), dtype=bool)
        made[rows, columns] = True
        assert (made == matrix[1:4]).all()


def test_blocks_cover_all_rows_once_and_refuse_what_does_not_fit():
    scores = np.arange(35.0).reshape(7, 5)
    seen = list(blocks(scores, scores > 3, cells=10))
    assert [(start, stop) for start, stop, _ in seen] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert (np.concatenate([block for *_, block in seen]) == scores).all()
    with pytest.raises(ValueError, match="do not match"):
        list(blocks(scores, np.ones((7, 4), dtype=bool)))
    with pytest.raises(ValueError, match="give an array or a pair of groups"):
        list(blocks(lambda start, stop: scores[start:stop], lambda start, stop: scores[start:stop]))
    scores[6, 2] = np.nan
    with pytest.raises(ValueError, match="NaN in the rows 6 to 7"):
        list(blocks(scores, np.ones((7, 5), dtype=bool), cells=10))
