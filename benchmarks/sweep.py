"""The paper's sweep of 29 temperatures, one epoch: stacked models, plain loops and the matrix peak."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.loops import best_batch_size, kept, normalized, plain
from benchmarks.pairs import Figure, Options, in_turn, seconds_of
from benchmarks.peak import matrix_flops
from benchmarks.work import TEMPERATURES, Work, flops_of_forward, flops_of_student, prepare, sweep
from kdops.utils.hardware import allow_tf32

__all__ = ["furthest", "measure"]

BATCHES = (64, 128, 256, 512, 1024, 2048)
PLAIN = {"cpu": 512, "cuda": 4096}
"""Images of the plain loop, by device; it is scaled from these."""


def measure(options: Options) -> Iterator[Figure]:
    """Measure the sweep."""
    device, work = options.device, prepare(options.images, options.device)
    count, size = len(work.images.labels), work.recipe().batch_size
    pixels = normalized(work)

    def loop(batch_size: int, temperatures=TEMPERATURES) -> float:
        with allow_tf32(device):
            return seconds_of(lambda: kept(work, temperatures, batch_size, prepared=pixels), device)

    small = work.cut(min(PLAIN[device], count))

    def loop_with_teacher() -> float:
        scale = len(TEMPERATURES) * count / len(small.images.labels)
        with allow_tf32(device):
            return scale * seconds_of(lambda: plain(small, (4.0,), size), device)

    tuned = best_batch_size({one: min(loop(one, (4.0,)) for _ in range(2)) for one in BATCHES if one <= count})
    sweep(work, TEMPERATURES)
    evaluated = len(work.validation.labels)
    flops = len(TEMPERATURES) * (flops_of_student() * count + flops_of_forward() * evaluated)
    own, like, best, teacher, peak = in_turn(
        options.pairs,
        lambda: seconds_of(lambda: sweep(work), device),
        lambda: loop(size),
        lambda: loop(tuned),
        loop_with_teacher,
        lambda: flops / matrix_flops(device),
    )
    rate = f"{count * len(TEMPERATURES) / sorted(own)[len(own) // 2]:,.0f} student-images a second; {work.what}"
    yield _over("loop with kept source outputs, batch 256 like the stack's / stack", like, own, "3", rate)
    yield _over(f"the same at its fastest batch size, {tuned} / stack at {size}", best, own, "", "other losses")
    allowed = "what remains to be had: 1 is the peak"
    yield _over("loop with kept source outputs / the same products at the matrix peak", like, peak, "", allowed)
    part = f"the loop on {len(small.images.labels)} of {count} images and 1 of 29 temperatures, scaled"
    yield _over("plain loop, the teacher asked in every step / stack", teacher, own, "300", part)
    told = (
        f"{flops_of_student():,} operations an image: forward, weights' and hidden layer's gradients; "
        f"{flops_of_forward():,} an image of the evaluation"
    )
    yield _over("matrix peak / stack, evaluation and schedule included (share of the peak)", peak, own, "0.75", told)
    yield Figure("sweep", "largest difference of a training loss, relative", (furthest(options),), "1e-4")


def furthest(options: Options, count: int = 300) -> float:
    """Return the largest relative difference of a loss between the stack and the two loops, which start alike."""
    work: Work = prepare(count, options.device, logits=True)
    chosen, size = (1.0, 4.0, 29.0), 64
    own = [one.train_loss[0] for one in sweep(work, chosen, batch_size=size)]
    others = (kept(work, chosen, size), plain(work, chosen, size))
    return max(abs(a - b) / abs(a) for other in others for a, b in zip(own, other, strict=True))


def _over(what: str, above: tuple[float, ...], below: tuple[float, ...], aim: str, told: str) -> Figure:
    return Figure("sweep", what, tuple(a / b for a, b in zip(above, below, strict=True)), aim, told)
