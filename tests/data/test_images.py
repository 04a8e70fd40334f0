"""Image files of any kind and from anyone."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kdops.config.datasets import parse_dataset
from kdops.data import dataset as data
from kdops.data.images import FORMATS, MOST_PIXELS, ImageError, read_image

GRAY, COLOR = (1, 8, 6), (3, 8, 6)


def gray(height=8, width=6):
    return np.arange(height * width, dtype=np.uint8).reshape(height, width) * (255 // (height * width))


def claiming(path, width, height):
    """Write a PNG of a few bytes that claims a size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    return path


def test_what_fits_is_taken_as_it_is(tmp_path):
    Image.fromarray(gray()).save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png", GRAY)
    np.testing.assert_array_equal(picture.pixels, gray()[None])
    assert (picture.changed, picture.pixels.dtype) == (False, np.uint8)
    color = np.stack([gray(), gray() // 2, 255 - gray()], axis=2)
    Image.fromarray(color).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png", COLOR).pixels, color.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I", "I;16"])
@pytest.mark.parametrize("shape", [GRAY, COLOR], ids=["gray", "color"])
def test_any_mode_and_size_becomes_what_the_model_takes(tmp_path, mode, shape):
    values = np.kron(np.array([[0, 255], [255, 0]], dtype=np.uint8), np.ones((16, 12), np.uint8))
    image = Image.fromarray(values.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(values).convert(mode)
    path = tmp_path / "a.tiff"
    image.save(path)
    picture = read_image(path, shape)
    assert picture.pixels.shape == shape
    assert picture.changed
    # Corners are far from the edges that resizing smooths.
    for place, wanted in (((0, 0), 0), ((0, -1), 255), ((-1, 0), 255), ((-1, -1), 0)):
        assert np.abs(picture.pixels[(slice(None), *place)].astype(int) - wanted).max() <= 1, place


def test_a_dark_image_of_sixteen_bits_stays_dark(tmp_path):
    Image.fromarray(np.full((8, 6), 200, np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", GRAY).pixels.max() == 1


def test_a_file_is_read_as_it_is_in_training(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for number in range(5):
        for name in ("a", "b"):
            (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(random.integers(0, 256, (90, 110, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[274] = 6  # turned by a quarter, which neither of both looks at
            image.save(tmp_path / "pets" / name / f"{number}.jpg", exif=exif)
        wide = Image.fromarray(random.integers(0, 65536, (50, 70), dtype=np.uint16))
        wide.save(tmp_path / "pets" / "b" / f"{number}.png")
    origin = parse_dataset({"dataset": f"imagefolder:{tmp_path / 'pets'}", "image_size": "16x12"})
    trained_on = {image.tobytes() for image in data.load(origin).images}
    for path in (tmp_path / "pets").rglob("*.*"):
        assert read_image(path, (3, 16, 12)).pixels.tobytes() in trained_on


def held(turn, kind, path):
    """Store a picture, dark but for its upper left, as a camera does that was held otherwise; return it upright."""
    upright = Image.new("RGB", (24, 16))
    upright.paste((255, 80, 0), (0, 0, 8, 6))
    # What undoes the turn that the orientation asks for.
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    exif = Image.Exif()
    exif[274] = turn
    lying = upright.transpose(Image.Transpose(back[turn])) if turn in back else upright
    lying.save(
        path, kind, exif=exif, **{"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    )
    return np.asarray(upright).transpose(2, 0, 1).astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_is_upright_where_that_is_asked_for_and_lies_as_it_is_elsewhere(tmp_path, turn, kind):
    wanted = held(turn, kind, tmp_path / "photo")
    tolerance = 40 if kind == "JPEG" else 0
    photo = read_image(tmp_path / "photo", (3, 16, 24), upright=True)
    assert np.abs(photo.pixels - wanted).max() <= tolerance
    assert photo.was.endswith(", turned") == photo.changed == (turn != 1 and kind != "TIFF")
    # Pillow turns a TIFF by itself.
    lies = np.abs(read_image(tmp_path / "photo", (3, 16, 24)).pixels - wanted).max() <= tolerance
    assert lies == (turn == 1 or kind == "TIFF")


def test_an_orientation_that_cannot_be_read_turns_nothing(tmp_path):
    held(1, "PNG", tmp_path / "photo.png")
    plain = read_image(tmp_path / "photo.png", (3, 16, 24)).pixels
    for number, exif in enumerate((b"Exif\0\0MM\0*\0\0\0\xff", b"Exif\0\0nonsense", b"")):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(plain.transpose(1, 2, 0)).save(path, quality=100, subsampling=0, exif=exif)
        np.testing.assert_array_equal(read_image(path, COLOR, True).pixels, read_image(path, COLOR).pixels)


def move_exif_to_the_end(path):
    """Write the chunk eXIf of a PNG behind its pixels, where the format allows it too."""
    content, start = path.read_bytes(), 8
    chunks = []
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        chunks.append(content[start:end])
        start = end
    moved = [one for one in chunks if one[4:8] == b"eXIf"]
    assert len(moved) == 1
    path.write_bytes(content[:8] + b"".join([one for one in chunks[:-1] if one not in moved] + moved + chunks[-1:]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_turned_photos_of_a_folder_are_counted_or_turned(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(1, 9):
            photo = tmp_path / "pets" / name / f"{number}.{kind.lower()}"
            held(number, kind, photo)
            if kind == "PNG":
                move_exif_to_the_end(photo)
    given = {"dataset": f"imagefolder:{tmp_path / 'pets'}"}
    for _ in ("decoded", "from the cache"):
        lying = data.load(parse_dataset({**given, "image_size": "16x24"}))
        assert "14 are turned by their EXIF data" in lying.notes
        assert "upright" not in lying.metadata
        # All have one size once they are upright.
        photos = data.load(parse_dataset({**given, "upright": "true"}))
        assert (photos.shape, photos.metadata["upright"]) == ((3, 16, 24), True)
        assert "EXIF" not in photos.notes
        assert (photos.images[:, 0, 1:4, 1:6] > 180).all()
        assert (photos.images[:, 0, 8:, 10:] < 60).all()


def test_what_is_no_image_is_told(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "none.png").write_bytes(b"")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in {
        "half.png": "cannot be read as an image",
        "text.png": "is no image of a known kind",
        "none.png": "is no image of a known kind",
        "script.eps": "is no image of a known kind",
        "pipe.png": "is no file",
        ".": "is no file",
        "nowhere.png": "there is no such file",
    }.items():
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name, GRAY)


@pytest.mark.parametrize("size", [(60_000, 60_000), (8_200, 8_200), (MOST_PIXELS + 1, 1)])
def test_a_file_that_claims_to_be_huge_is_not_decoded(tmp_path, size):
    with pytest.raises(ImageError, match="pixels"):
        read_image(claiming(tmp_path / "bomb.png", *size), GRAY)


def test_damaged_files_never_do_worse_than_being_refused(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "a"
    values = random.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    refused = 0
    for kind in FORMATS:
        Image.fromarray(values).save(path, format=kind)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):
            damaged = content.copy()
            damaged[random.integers(0, len(content), 3)] = random.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes()[: random.integers(1, len(content) + 1)])
            try:
                assert read_image(path, COLOR).pixels.shape == COLOR
            except ImageError:
                refused += 1
    assert refused > 50
