"""The orders of an engine with workers, shared out among workers of the test's own."""

import queue

from kdops.training.order import Done
from kdops.training.worker_pool import Event, Worker, WorkerPool
from tests.training.test_engine import order


class Instant(Worker):
    """A worker that answers at once, or that finds no room."""

    def __init__(self, events, has_room):
        super().__init__(events)
        self.has_room, self.begun = has_room, []

    def begin(self, order, attempt):
        self.handle = self.handle or object()
        self.order, self.attempt = order, attempt
        self.begun.append(order.digest)
        if self.has_room:
            self.events.put(Event(self, self.handle, {}, Done(order.digest, (), 1.0).to_bytes()))
        else:
            self.events.put(Event(self, self.handle, {"told": [0, 0, "no room"], "waits": True}))

    def end(self):
        self.handle = self.order = None
        return ""


def test_an_order_of_a_worker_without_room_is_carried_out_by_another():
    events = queue.SimpleQueue()
    there, lost = Instant(events, True), Instant(events, False)
    told = []
    orders = [order(digest=str(number)) for number in range(5)]
    found = list(WorkerPool([lost, there], events).run(iter(orders), lambda *given: told.append(given)))
    assert sorted(done.digest for done in found) == ["0", "1", "2", "3", "4"]
    assert {done.attempt for done in found} == {1}
    assert sorted(there.begun) == ["0", "1", "2", "3", "4"]
    assert {given[1:] for given in told} == {(0, 0, "no room")}
    assert lost.order is None
