"""Workers leave torch's number of threads as it was, in every thread that uses them."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from idsr_cli.features.workers import Workers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def in_a_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(30)
    return found[0]


def inside() -> tuple[int, int, int]:
    """Pieces at once, and torch's number within the block, in the calling thread and in the pool."""
    with Workers(CPU) as workers:
        (there,) = set(workers.map(lambda _: torch.get_num_threads(), range(40)))
        return workers.threads, torch.get_num_threads(), there


def test_one_thread_inside_and_all_outside() -> None:
    for _ in range(3):
        assert inside() == (3, 1, 1)
        assert torch.get_num_threads() == 3
        assert in_a_thread(torch.get_num_threads) == 3


def test_threads_that_begin_within_a_block_of_another_use_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with Workers(CPU) as workers:
        workers.map(lambda _: None, range(40))
        assert in_a_thread(inside) == (3, 1, 1)
        assert in_a_thread(lambda: (inside(), torch.get_num_threads())) == ((3, 1, 1), 3)
        assert in_a_thread(torch.get_num_threads) == 3  # a thread that only runs a network
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_a_thread_that_holds_one_gets_all_back() -> None:
    def caught_with_one() -> tuple[Any, int]:
        torch.get_num_threads()
        torch.set_num_threads(1)  # as if it had begun in a block of another thread
        in_a_thread(lambda: torch.set_num_threads(3))
        return inside(), torch.get_num_threads()

    assert in_a_thread(caught_with_one) == ((3, 1, 1), 3)


def test_blocks_that_overlap() -> None:
    opened, closing = threading.Event(), threading.Event()

    def other() -> tuple[int, int]:
        with Workers(CPU) as workers:
            opened.set()
            closing.wait(30)
            threads = workers.threads
        return threads, torch.get_num_threads()

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(other()))
    with Workers(CPU) as workers:
        thread.start()
        opened.wait(30)
        assert workers.threads == 3
    assert inside() == (3, 1, 1)  # while the other block is open
    closing.set()
    thread.join(30)
    assert found == [(3, 3)]
    assert torch.get_num_threads() == 3
    torch.set_num_threads(2)
    assert inside() == (2, 1, 1)
    assert in_a_thread(inside) == (2, 1, 1)


def test_errors_close_a_block() -> None:
    with pytest.raises(ZeroDivisionError), Workers(CPU) as workers:
        workers.map(lambda i: 1 / i, [1, 0])
    assert torch.get_num_threads() == 3
    torch.set_num_threads(2)
    assert inside() == (2, 1, 1)
