"""Trials of a search: how often each is looked at."""

from kdops.search.trials import LOOKS, look_every


def test_a_trial_is_looked_at_ten_times_at_most():
    for epochs in range(1, 200):
        looks = sum(epoch % look_every(epochs) == 0 for epoch in range(1, epochs + 1))
        assert min(epochs, LOOKS // 2) <= looks <= LOOKS == 10
        assert looks == epochs or epochs > LOOKS
