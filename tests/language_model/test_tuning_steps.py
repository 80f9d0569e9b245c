"""The examples of a step, and their layout in rows and passes: properties over many lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.language_model.tuning.steps import (
    Layout,
    batch_of,
    draw_steps,
    draw_steps_of_tokens,
    lay_out,
    learnt_tokens_n,
    pack,
    share,
)
from taskdiv_assets.language_model.tuning.training_examples import IGNORED, Encoded

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(np.array)


def examples_of(lengths) -> list[Encoded]:
    """Return examples of the given lengths with distinct tokens. The second half of each example is learnt."""
    made, next_token = [], 1
    for length in lengths:
        tokens = list(range(next_token, next_token + int(length)))
        next_token += int(length)
        half = int(length) // 2
        made.append(Encoded(tokens, [IGNORED] * half + tokens[half:], False))
    return made


class TestOrder:
    @given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 4), st.integers(0, 30), st.integers(0, 5))
    def test_every_epoch_has_every_example_once(self, examples_n, batch_size, epochs, floor, seed):
        steps = draw_steps(examples_n, batch_size, epochs, floor, seed)
        a_epoch_n = -(-examples_n // batch_size)
        assert len(steps) == max(epochs * a_epoch_n, floor)
        for epoch in range(len(steps) // a_epoch_n):
            seen = np.concatenate(steps[epoch * a_epoch_n : (epoch + 1) * a_epoch_n])
            assert sorted(seen) == list(range(examples_n))
        assert all(len(step) <= batch_size for step in steps)

    def test_a_floor_adds_steps_and_changes_none(self):
        assert [list(s) for s in draw_steps(20, 8, 2, 0, 3)] == [list(s) for s in draw_steps(20, 8, 2, 50, 3)[:6]]

    @given(LENGTHS, st.integers(1, 20), st.integers(1, 5_000), st.integers(0, 3))
    def test_a_number_of_tokens_is_reached_by_the_last_example(self, lengths, batch_size, tokens_n, seed):
        steps = draw_steps_of_tokens(lengths, batch_size, tokens_n, seed)
        order = np.concatenate(steps)
        assert lengths[order[:-1]].sum() < tokens_n <= lengths[order].sum()
        longer = draw_steps(len(lengths), batch_size, len(steps), 0, seed)
        assert all(list(own) == list(other) for own, other in zip(steps[:-1], longer, strict=False))
        assert list(steps[-1]) == list(longer[len(steps) - 1][: len(steps[-1])])

    def test_another_seed_another_order_and_another_epoch_too(self):
        first, second = np.concatenate(draw_steps(30, 8, 1, 0, 0)), np.concatenate(draw_steps(30, 8, 1, 0, 1))
        both = np.concatenate(draw_steps(30, 8, 2, 0, 0))
        assert list(first) != list(second)
        assert list(both[:30]) == list(first) and list(both[30:]) != list(first)


class TestShares:
    @given(LENGTHS, st.integers(1, 5))
    def test_processes_share_all_and_about_equally(self, lengths, processes_n):
        positions = np.arange(len(lengths))
        shares = [share(positions, lengths, process, processes_n) for process in range(processes_n)]
        assert sorted(np.concatenate(shares)) == list(positions)
        tokens = [int(lengths[part].sum()) for part in shares]
        assert max(tokens) - min(tokens) <= 2 * lengths.max()


class TestRows:
    @given(LENGTHS, st.integers(1, 200), st.none() | st.integers(60, 120))
    def test_every_example_lies_somewhere_once_within_the_limits(self, lengths, pass_tokens_n, row_tokens_n):
        positions = np.arange(len(lengths))
        passes = lay_out(positions, lengths, Layout(pass_tokens_n, row_tokens_n))
        assert sorted(position for rows in passes for row in rows for position in row) == list(positions)
        for rows in passes:
            fill = [int(lengths[list(row)].sum()) for row in rows]
            assert len(rows) == 1 or len(rows) * max(fill) <= pass_tokens_n
            assert row_tokens_n is None or max(fill) <= row_tokens_n

    @given(LENGTHS)
    def test_packing_needs_about_the_fewest_rows(self, lengths):
        rows = pack(np.arange(len(lengths)), lengths, 60)
        assert len(rows) <= 11 / 9 * -(-int(lengths.sum()) // 60) + len(lengths[lengths > 30]) + 1
        fill = [int(lengths[list(row)].sum()) for row in rows]
        assert sum(a + b <= 60 for i, a in enumerate(fill) for b in fill[i + 1 :]) == 0  # no two rows would fit in one

    @given(LENGTHS, st.booleans())
    def test_tokens_labels_and_positions_lie_as_they_should(self, lengths, is_packed):
        examples = examples_of(lengths)
        layout = Layout(300, 60 if is_packed else None)
        learnt = 0
        for rows in lay_out(np.arange(len(lengths)), lengths, layout):
            batch = batch_of(examples, rows, is_packed=is_packed, padding=0)
            for line, row in enumerate(rows):
                start = 0
                for position in row:
                    example = examples[position]
                    end = start + len(example.input_ids)
                    assert list(batch.input_ids[line, start:end]) == example.input_ids
                    assert batch.labels[line, start] == IGNORED  # nothing of its own stands before it
                    assert list(batch.labels[line, start + 1 : end]) == example.labels[1:]
                    if is_packed:
                        assert list(batch.position_ids[line, start:end]) == list(range(end - start))
                    start = end
                assert (batch.labels[line, start:] == IGNORED).all() and (batch.input_ids[line, start:] == 0).all()
            learnt += int((batch.labels != IGNORED).sum())
        assert learnt == learnt_tokens_n(examples, np.arange(len(lengths)))


def test_rows_of_equal_length_go_together():
    passes = lay_out(np.arange(4), np.array([50, 5, 49, 6]), Layout(100))
    assert [sorted(row[0] for row in rows) for rows in passes] == [[0, 2], [1, 3]]


@pytest.mark.parametrize("is_packed", [True, False])
def test_an_example_of_one_token_learns_nothing(is_packed):
    batch = batch_of([Encoded([7], [7], False)], [(0,)], is_packed=is_packed, padding=0)
    assert batch.labels.tolist() == [[IGNORED]]
