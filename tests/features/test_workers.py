"""Workers do the pieces in as many threads as there should be, and let errors out."""

import threading

import cv2
import pytest
import torch

from idsr_cli.features.workers import Workers
from idsr_cli.runtime.threads import thread_count


def test_as_many_threads_as_set() -> None:
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert thread_count() == count
            assert Workers().threads == count
    finally:
        torch.set_num_threads(before)


def test_pieces_run_at_once_and_results_are_in_order() -> None:
    barrier = threading.Barrier(3, timeout=30)  # passed only if three pieces wait at the same time

    def piece(number: int) -> int:
        barrier.wait()
        return number * number

    with Workers(3) as workers:
        assert workers.map(piece, range(9)) == [number * number for number in range(9)]


def test_one_thread_is_the_calling_one() -> None:
    with Workers(1) as workers:
        assert workers.map(lambda _: threading.get_ident(), range(3)) == [threading.get_ident()] * 3
        assert workers.start(threading.get_ident)() == threading.get_ident()


def test_a_started_function_runs_beside_the_caller() -> None:
    waiting = threading.Event()
    with Workers(2) as workers:
        result = workers.start(lambda: waiting.wait(30))
        waiting.set()
        assert result()


def test_errors_come_out_and_close_the_pool() -> None:
    with pytest.raises(ZeroDivisionError), Workers(2) as workers:
        workers.map(lambda i: 1 / i, [1, 0])
    assert workers.map(lambda i: i, [1]) == [1]  # the pool is gone


def test_after_an_error_no_piece_is_begun() -> None:
    begun = []

    def piece(number: int) -> None:
        begun.append(number)
        raise ValueError(str(number))

    with pytest.raises(ValueError, match=r"[01]"), Workers(2) as workers:
        workers.map(piece, range(1000))
    assert len(begun) <= 2


def test_a_thread_that_is_busy_is_not_waited_for() -> None:
    """DG builds its second pyramid in the pool while the caller scans the first."""
    done = threading.Event()
    with Workers(2) as workers:
        result = workers.start(lambda: done.wait(30))
        assert workers.map(lambda number: -number, range(5)) == [0, -1, -2, -3, -4]
        done.set()
        assert result()


def test_threads_of_torch_and_opencv_are_left_alone() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    with Workers(3) as workers:
        assert set(workers.map(lambda _: torch.get_num_threads(), range(9))) == {before[0]}
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before
