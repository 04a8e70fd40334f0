"""How the cost of a sweep grows with members and with images."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.pairs import Figure, Options, in_turn, seconds_of
from benchmarks.work import TEMPERATURES, prepare, sweep

__all__ = ["measure"]


def measure(options: Options) -> Iterator[Figure]:
    """Measure 1, 29 and 290 members on a quarter of the images, and 29 on a quarter, a half and all of them."""
    work = prepare(options.images, options.device)
    count = len(work.images.labels)
    quarter, half = work.cut(max(1, count // 4)), work.cut(max(1, count // 2))

    def seconds(part, temperatures=TEMPERATURES, seeds=(0,)) -> float:
        return seconds_of(lambda: sweep(part, temperatures, seeds), options.device)

    seconds(quarter)
    one, many, most, halved, whole = in_turn(
        options.pairs,
        lambda: seconds(quarter, (4.0,)),
        lambda: seconds(quarter),
        lambda: seconds(quarter, seeds=range(10)),
        lambda: seconds(half),
        lambda: seconds(work),
    )
    told = f"{count // 4} images, one epoch"
    yield _figure("cost a member: 29 members / 1 member", many, one, 29, "1", told)
    yield _figure("cost a member: 290 members of 10 replicates / 29 of 1", most, many, 10, "1", told)
    yield _figure("cost an image: a half / a quarter of the images", halved, many, 2, "1", "29 members")
    yield _figure("cost an image: all / a quarter of the images", whole, many, 4, "1", f"29 members, {count} images")


def _figure(what, above, below, times, aim, told) -> Figure:
    ratios = tuple(a / b / times for a, b in zip(above, below, strict=True))
    return Figure("scaling", what, ratios, f"at most {aim}", told)
