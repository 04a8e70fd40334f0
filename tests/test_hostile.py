"""Files and names that mean harm: refused in bounded memory and time, or shown as the text that they are."""

from __future__ import annotations

import csv
import io
import os
import resource
import subprocess
import sys
import time
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdops.config.datasets import parse_dataset
from kdops.data import dataset as data
from kdops.data.images import ImageError, read_image
from kdops.data.tabular import table_file
from kdops.errors import UsageError
from tests.cli.test_bad_inputs import pictures, png

ROOT = Path(__file__).resolve().parent.parent
GRAY, COLOR = (1, 8, 8), (3, 8, 8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def load(dataset: str, **options: str):
    return data.load(parse_dataset({"dataset": dataset, **options}))


def refusal(dataset: str, **options: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(dataset, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def text_bomb() -> bytes:
    """Make a PNG with a comment of 100 MB, packed into 100 kB."""
    whole = png(8, 8)
    content = b"Comment\0\0" + zlib.compress(b"a" * 100_000_000)
    body = b"zTXt" + content
    chunk = len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return whole[:33] + chunk + whole[33:]


def tiff_claiming(width: int, height: int) -> bytes:
    """Make a TIFF that says it is giant."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, format="TIFF")
    content = bytearray(stream.getvalue())
    start = int.from_bytes(content[4:8], "little")
    for entry in range(int.from_bytes(content[start : start + 2], "little")):
        place = start + 2 + 12 * entry
        tag = int.from_bytes(content[place : place + 2], "little")
        if tag in (256, 257):
            content[place + 2 : place + 4] = (4).to_bytes(2, "little")
            content[place + 8 : place + 12] = (width if tag == 256 else height).to_bytes(4, "little")
    return bytes(content)


BOMBS = {
    "pixels": png(65_000, 65_000),
    "one row": png(2**27, 1),
    "text": text_bomb(),
    "tiff": tiff_claiming(2**20, 2**20),
    "gif": b"GIF89a\xff\xff\xff\xff\x80\0\0" + b"\0\0\0\xff\xff\xff" + b",\0\0\0\0\xff\xff\xff\xff\0\x08\xff\0;",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_in_bounded_memory(kind, tmp_path):
    """In a process of its own, which may take 1.5 GB for the libraries and all: what the bomb wants is far more."""
    (tmp_path / "bomb.png").write_bytes(BOMBS[kind])
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from kdops.data.images import ImageError, read_image\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))\n"
        "try: read_image(Path('bomb.png'), (3, 8, 8))\n"
        "except ImageError as error: print('refused:', error)\n"
        # The most that it took since it is what it is; ru_maxrss begins with that of the process which forked it.
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    *told, peak = done.stdout.splitlines()
    assert told[0].startswith("refused: ")
    assert int(peak) < 600_000, "kilobytes"


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "RGBa", "La"]


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_any_mode_is_read_or_refused(mode, tmp_path):
    picture = Image.new(mode, (9, 7))
    read = 0
    for suffix in ("png", "tiff", "jpg", "gif", "bmp", "webp", "ppm"):
        path = tmp_path / f"a.{suffix}"
        try:
            picture.save(path)
        except (OSError, KeyError, ValueError):
            continue  # this format has no such mode
        try:
            assert read_image(path, COLOR).pixels.shape == COLOR
            assert read_image(path, GRAY).pixels.dtype == np.uint8
            read += 1
        except ImageError:
            continue  # refused in a sentence
    assert read or mode in ("PA", "HSV", "RGBa", "La")


def test_of_an_animation_the_first_image_counts_and_nothing_is_turned(tmp_path):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (250, 10, 20)]
    for name in ("a.gif", "a.webp", "a.png", "a.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert read_image(tmp_path / name, COLOR).pixels[0].mean() > 200
    wide = Image.new("L", (8, 4))
    wide.putpixel((7, 0), 255)
    exif = wide.getexif()
    exif[0x0112] = 6  # a quarter turn
    wide.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png", (1, 4, 8)).pixels[0, 0, 7] == 255


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "pipe", tmp_path / "loop", tmp_path, Path("/dev/zero"), Path("/dev/stdin"), Path("a\0b")):
        with pytest.raises(ImageError) as caught:
            read_image(path, GRAY)
        assert str(caught.value).isprintable()


def test_links_lead_neither_round_in_a_circle_nor_through_the_machine(tmp_path):
    pets = tmp_path / "pets"
    pictures(pets, a=[8] * 6, b=[8] * 6)
    (pets / "a/all").symlink_to("/")
    (pets / "a/up").symlink_to("..")
    (pets / "b/round").symlink_to("../b")
    started = time.monotonic()
    assert np.bincount(load(f"imagefolder:{pets}").labels).tolist() == [6, 6]
    assert time.monotonic() - started < 100
    (pets / "a/itself.png").symlink_to("itself.png")
    assert "a/itself.png" in refusal(f"imagefolder:{pets}")


def test_a_table_of_endless_lines_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """The files are sparse: a gigabyte that takes no room on the disk."""
    monkeypatch.setattr(table_file, "GROWTH", 0)
    for name, start in (("first", b""), ("later", b"a,label\n1,x\n"), ("quoted", b'a,label\n"')):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(start)
        os.truncate(path, 2**30)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.monotonic()
        assert "dataset=" in refusal(f"csv:{path}")
        assert time.monotonic() - started < 100
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


def test_a_table_that_memory_has_no_room_for_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,label\n1,x\n")
    os.truncate(path, psutil.virtual_memory().available // 10)
    assert "times as much memory" in refusal(f"csv:{path}")


def test_a_table_of_a_hundred_thousand_columns_is_refused_at_once(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{number}" for number in range(100_000)) + "\n")
    started = time.monotonic()
    assert f"{table_file.MOST_COLUMNS:,} are allowed" in refusal(f"csv:{path}")
    assert time.monotonic() - started < 60


cells = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "1", "2.5", "nan", "inf", "-1e999", "=1+1", '"', '""', "'", "\r", "\n", "\x00", "\ufeff", "?"]
    ),
)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=8).map(
            lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")
        ),
        st.lists(st.tuples(cells, cells, st.sampled_from(["x", "y"])), min_size=8, max_size=30).map(
            lambda rows: _written([("a", "b", "label"), *rows])
        ),
    )
)
@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_bytes_are_a_table_or_the_callers_mistake(tmp_path, content):
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    try:
        found = load(f"csv:{path}")
    except UsageError as error:
        told = str(error)
    else:
        assert found.images.shape[0] == len(found.labels) > 0
        assert all(name.isprintable() for name in found.classes)
        return
    assert told.isprintable(), ascii(told)


def _written(rows) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode("utf-8", "replace")


NAMES = ("<img src=x onerror=alert(1)>", "**bold** [a](javascript:alert(1)) | `b`", '=HYPERLINK("http://x")')


class Tags(HTMLParser):
    """Collects the tags and the attributes of a page."""

    def __init__(self):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_names_that_are_markup_are_shown_as_text(store, tmp_path, monkeypatch):
    """Classes and a column are called what a page, a terminal or a spreadsheet would obey."""
    random = np.random.default_rng(0)
    rows = [("length", "<script>", "label")]
    rows += [(f"{kind + random.random():.3f}", NAMES[(number + kind) % 3], NAMES[kind]) for number in range(20)
             for kind in range(3)]  # fmt: skip
    table = tmp_path / "<b>pets.csv"
    table.write_bytes(_written(rows))
    run = store.run("students", dataset=f"csv:{table}", seeds=1, epochs=1, temperatures="1")
    assert run.info.run_name.startswith("students b-pets ")

    from kdops.reporting.report import write_report
    from kdops.tracking.stored_study import read_study

    page = Tags()
    written = {path.name: path for path in map(Path, write_report(read_study(store.client, run.info.run_id), tmp_path))}
    page.feed(written["report.html"].read_text())
    assert not page.tags & {"script", "b", "img onerror", "iframe"}
    assert not page.attributes & {"onerror", "onclick", "href"}
    for text in (
        written["report.md"].read_text(),
        run.data.tags["mlflow.note.content"],
        *(v.description for v in store.client.search_model_versions("name LIKE 'kdops-%'")),
    ):
        outside = text.replace("\\<", "").replace("\\[", "")
        assert "<img" not in outside
        assert "<script" not in outside
        assert "[a](javascript" not in outside
    results = store.artifact(run, "results.csv").read_text().splitlines()
    assert len(results) > 2
    for row in csv.reader(results):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not cell.startswith("-") or float(cell) < 0
