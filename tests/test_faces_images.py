"""Every common kind of image and video: correct pixels, or one clear reason."""

import io
import re
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from faces_tools import video
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from duchenne.media.display import sides
from duchenne.media.frame_names import numbered
from duchenne.media.frames import read_frames
from duchenne.media.images import ImageError, read_image

RED, BLUE = (200, 30, 30), (30, 30, 200)


def halves(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    """Left half red, right half blue."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2], pixels[:, size[0] // 2 :] = RED, BLUE
    image = Image.fromarray(pixels)
    return image.quantize(4) if mode == "P" else image.convert(mode)


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "name", "tolerance"),
    [("RGB", "a.png", 0), ("RGB", "a.JPG", 8), ("CMYK", "a.jpg", 8), ("P", "a.png", 0), ("RGBA", "a.webp", 12)],
)
def test_colour_modes_become_rgb(tmp_path, mode, name, tolerance):
    image = read_image(saved(halves(mode), tmp_path / name))
    assert image.shape == (24, 40, 3)
    assert image.dtype == np.uint8
    for side, colour in ((image[:, :16], RED), (image[:, 32:], BLUE)):
        assert np.abs(side.astype(int) - colour).max() <= tolerance


def test_grey_modes_become_rgb(tmp_path):
    grey = read_image(saved(halves("L"), tmp_path / "l.png"))
    assert np.array_equal(grey, read_image(saved(halves("LA"), tmp_path / "la.png")))
    assert (np.ptp(grey, axis=2) == 0).all()
    assert set(read_image(saved(halves("1"), tmp_path / "one.png")).ravel().tolist()) <= {0, 255}


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_of_wide_pixels_the_bits_in_use_are_scaled(tmp_path, name, channels, bits):
    """The pictures of a 12-bit camera in files of 16 bits are neither black nor clipped."""
    white = 2**bits - 1
    values = np.array([[0, white // 5], [white // 2, white]], np.uint16)
    wide = np.repeat(values[..., None], channels, axis=2)
    if channels > 1:
        wide[..., 0] = 0  # blue
    if channels == 4:
        wide[..., 3] = 65535  # opaque
    cv2.imwrite(str(tmp_path / name), wide)
    image = read_image(tmp_path / name)
    np.testing.assert_allclose(image[..., 0], values * (255 / white), atol=0.6)
    assert np.array_equal(image[..., 2], image[..., 0] if channels == 1 else np.zeros((2, 2)))
    assert np.array_equal(read_image(io.BytesIO((tmp_path / name).read_bytes())), image)


def test_wide_pictures_are_upright_and_transparent_too(tmp_path):
    wide = np.zeros((2, 3, 4), np.uint16)
    wide[0, 0] = 0, 0, 4095, 65535  # red
    cv2.imwrite(str(tmp_path / "a.png"), wide)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    data = (tmp_path / "a.png").read_bytes()
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    (tmp_path / "a.png").write_bytes(
        data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    )
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 2, 3)
    assert image[0, 1].tolist() == [255, 0, 0]
    assert (image[1:] == 255).all()


def test_the_frames_of_a_clip_have_one_white(tmp_path):
    for number, value in ((1, 700), (2, 4000), (4, 900)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 4), value, np.uint16))
    (tmp_path / "3.png").write_bytes(b"")
    frames = {number: frame for number, frame in read_frames(tmp_path, "frames", 100) if number != 3}
    assert {number: int(frame[0, 0, 0]) for number, frame in frames.items()} == {1: 44, 2: 249, 4: 56}


def test_transparency_is_laid_on_white(tmp_path):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (read_image(saved(clear, tmp_path / "rgba.png")) == 255).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30])
    assert (read_image(saved(palette, tmp_path / "p.png", transparency=0)) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    turns = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    upright = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    stored = Image.fromarray(upright)
    for turn in turns[orientation]:  # how a camera stores what EXIF says to undo
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_image(saved(stored, tmp_path / "a.png", exif=exif)), upright)


def test_bytes_are_read_like_files(tmp_path):
    path = saved(halves(), tmp_path / "a.png")
    assert np.array_equal(read_image(io.BytesIO(path.read_bytes())), read_image(path))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_file_is_an_error_and_not_half_a_picture(tmp_path, name):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = saved(noise, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"cannot be read: .*truncated"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<html>404</html>", "is a web page, not an image: download the file itself"),
        (b"\xff\xd8\xff", "is not an image"),
        (b"\0\0\0\x18ftypheic", "is a HEIC picture.*"),
        (b"\0\0\0\x18ftypisom", "is a video, not an image"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer, not an image: run `git lfs pull` to get the file itself",
        ),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"^{reason}$"):
        read_image(path)


def test_a_missing_file_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "gone.png")


def test_the_reason_names_no_path_of_this_machine(tmp_path):
    errors = [next(read_frames(tmp_path / f"gone.{kind}", kind, 100))[1] for kind in ("image", "frames", "video")]
    assert all(isinstance(error, ImageError) and "No such file or directory" in str(error) for error in errors)
    assert not any(str(tmp_path) in str(error) for error in errors)


def test_floating_point_pixels_are_refused_because_their_white_is_unknown(tmp_path):
    with pytest.raises(ImageError, match="floating-point"):
        read_image(saved(Image.fromarray(np.ones((4, 4), np.float32)), tmp_path / "a.tif"))


@pytest.mark.parametrize(("place", "value"), [(29, 0), (31, 1)])
def test_damaged_exif_is_an_image_error(place, value):
    """Pillow raises a struct.error and a TypeError for these."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "jpeg", exif=exif)
    data = bytearray(file.getvalue())
    data[data.index(b"Exif") + place] = value
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(io.BytesIO(bytes(data)))


@pytest.mark.parametrize(("side", "limit"), [(30_000, 100), (4_000, 10)])
def test_bombs_are_refused_from_their_header(tmp_path, side, limit):
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = part(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"  # without pixels: decoding it would say "truncated"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b""))
    with pytest.raises(ImageError, match=f"over the limit of {limit} megapixels"):
        read_image(path, max_megapixels=limit)


def _encoded(kind: str) -> bytes:
    data = io.BytesIO()
    halves("P" if kind == "gif" else "RGB").save(data, kind)
    return data.getvalue()


SEEDS = {kind: _encoded(kind) for kind in ("jpeg", "png", "bmp", "tiff", "webp", "gif")}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300)
@given(
    kind=st.sampled_from(sorted(SEEDS)),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8),
    keep=st.floats(0.1, 1),
)
def test_damage_gives_pixels_or_an_image_error(kind, changes, keep):
    data = bytearray(SEEDS[kind])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        image = read_image(io.BytesIO(bytes(data[: int(keep * len(data))])), max_megapixels=1)
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3


def levels(path: Path) -> list[tuple[int, int]]:
    return [(number, round(image.mean() / 20)) for number, image in read_frames(path, "video", 100)]


def test_a_video_gives_all_frames_in_order(tmp_path):
    assert levels(video(tmp_path / "a.mp4")) == [(k, k) for k in range(12)]


def test_a_variable_frame_rate_neither_drops_nor_repeats_frames(tmp_path):
    times = [0, 1, 2, 10, 11, 30, 31, 32, 33, 60, 61, 62]
    assert levels(video(tmp_path / "a.mkv", times=times)) == [(k, k) for k in range(12)]


def test_a_video_is_decoded_one_frame_at_a_time(tmp_path):
    frames = read_frames(video(tmp_path / "a.mp4"), "video", 100)
    number, image = next(frames)
    assert (number, image.shape) == (0, (48, 64, 3))
    frames.close()


CORNERS = np.zeros((48, 64, 3), np.uint8)  # two corners and no symmetry, so that each of the eight is another
CORNERS[:24, :32], CORNERS[:24, 32:] = 250, 120


def film(path: Path, matrix: tuple[float, ...] | None = None, aspect: Fraction | None = None) -> Path:
    """A video of :data:`CORNERS` whose header says how to show it: (a, b, c, d) of the display matrix."""
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 48, 64, "yuv420p", 4_000_000
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        container.mux(stream.encode(av.VideoFrame.from_ndarray(CORNERS, format="rgb24")))
        container.mux(stream.encode(None))
    if matrix:
        data = bytearray(path.read_bytes())
        at = data.index(b"tkhd") + 4 + 40  # version, flags and ten fields come before the matrix
        a, b, c, d = (round(value * 65536) for value in matrix)
        data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 7 << 16, 9 << 16, 1 << 30)
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), CORNERS),
        ((0, -1, 1, 0), np.rot90(CORNERS, 1)),  # counter-clockwise
        ((-1, 0, 0, -1), np.rot90(CORNERS, 2)),
        ((0, 1, -1, 0), np.rot90(CORNERS, 3)),
        ((-1, 0, 0, 1), np.fliplr(CORNERS)),
        ((1, 0, 0, -1), np.flipud(CORNERS)),
        ((0, 1, 1, 0), CORNERS.transpose(1, 0, 2)),
        ((0, -1, -1, 0), np.rot90(CORNERS.transpose(1, 0, 2), 2)),
        ((-2, 0, 0, 2), np.fliplr(CORNERS)),  # its scale is for players
        ((0.087, -0.996, 0.996, 0.087), np.rot90(CORNERS, 1)),  # by 85 degrees
        ((0, 0, 0, 0), CORNERS),
    ],
)
def test_the_display_matrix_is_applied_as_ffmpeg_does(tmp_path, matrix, expected):
    """Pixel for pixel what FFmpeg 9.0.2 writes from such a file, for each of the eight orientations."""
    [(_, image)] = read_frames(film(tmp_path / "a.mp4", matrix), "video", 100)
    assert image.shape == expected.shape
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [((2, 1), (48, 128)), ((1, 2), (96, 64)), ((16, 11), (48, 93)), ((1, 1), (48, 64))],
)
def test_pixels_become_square(tmp_path, aspect, shape):
    path = film(tmp_path / "a.mkv", aspect=Fraction(*aspect))
    [(_, image)] = read_frames(path, "video", 100)
    assert image.shape[:2] == shape
    assert np.abs(image.astype(int) - cv2.resize(CORNERS, shape[::-1])).mean() < 5


@pytest.mark.parametrize("aspect", [None, Fraction(0), Fraction(1000), Fraction(1, 5)])
def test_an_aspect_ratio_that_nothing_has_is_not_believed(aspect):
    assert sides(64, 48, aspect) == (64, 48)


def test_pixels_are_squared_before_the_picture_is_turned(tmp_path):
    path = film(tmp_path / "a.mp4", (0, -1, 1, 0), Fraction(2))
    [(_, image)] = read_frames(path, "video", 100)
    assert image.shape[:2] == (128, 48)
    [(_, error)] = read_frames(path, "video", 0.005)  # 6,144 pixels as shown, 3,072 as stored
    assert "is 128 x 48 px" in str(error)


@pytest.mark.parametrize(("codec", "pixels"), [("mjpeg", "yuvj420p"), ("mpeg4", "yuv420p")])
def test_a_truncated_video_gives_the_frames_before_the_damage_and_a_reason(tmp_path, codec, pixels):
    """Of the first the decoder says that it ends amid a frame; of the second it says nothing."""
    path = tmp_path / "a.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        noise = np.random.default_rng(0)
        for _ in range(20):
            image = noise.integers(0, 256, (64, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    *frames, (number, last) = read_frames(path, "video", 100)
    assert 5 < len(frames) < 20
    assert number == len(frames)
    assert isinstance(last, ImageError)
    assert "frames" in str(last)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00\x00\x00\x18ftypmp42"])
def test_what_is_no_video_gives_one_error(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    [(number, error)] = read_frames(path, "video", 100)
    assert number == 0
    assert isinstance(error, ImageError)


def test_a_video_without_frames_gives_one_error(tmp_path):
    [(_, error)] = read_frames(video(tmp_path / "a.avi", count=0), "video", 100)
    assert isinstance(error, ImageError)


def test_a_large_video_is_refused(tmp_path):
    [(_, error)] = read_frames(video(tmp_path / "a.mp4"), "video", 0.003)
    assert "64 x 48 px" in str(error)


def test_frames_are_sorted_by_the_last_integer_of_their_names(tmp_path):
    for number in (1, 2, 10, 100):
        saved(halves(), tmp_path / f"s01_ep2_img{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._img3.png").write_bytes(b"a hidden file of macOS")
    assert [number for number, _ in numbered(tmp_path)] == [1, 2, 10, 100]
    assert [number for number, _ in read_frames(tmp_path, "frames", 100)] == [1, 2, 10, 100]


def test_frames_whose_names_do_not_say_their_numbers_are_refused(tmp_path):
    for name in ("b.png", "a.png", "c1.png"):
        saved(halves(), tmp_path / name)
    [(_, error)] = read_frames(tmp_path, "frames", 100)
    assert "has no number" in str(error)


def test_one_bad_frame_does_not_take_the_others_with_it(tmp_path):
    for number in (1, 2, 3):
        saved(halves(), tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"")
    (_, first), (number, bad), (_, third) = read_frames(tmp_path, "frames", 100)
    assert (number, str(bad)) == (2, "is empty")
    assert np.array_equal(first, third)


def clip_file(path: Path, codec: str, options: dict[str, str], ticks: list[int], sound: bool) -> Path:
    """A noisy video whose frame k is shown at ``ticks[k]`` (1/25 s), and four seconds of silence."""
    noise = np.random.default_rng(0)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        voice = container.add_stream("libopus", rate=48000) if sound else None
        for tick in ticks:
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 256, (48, 64, 3), np.uint8), format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for k in range(200 if sound else 0):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), format="s16", layout="stereo")
            silence.sample_rate, silence.pts, silence.time_base = 48000, 960 * k, Fraction(1, 48000)
            container.mux(voice.encode(silence))
        container.mux(voice.encode(None) if sound else [])
    return path


STEADY, UNEVEN = list(range(30)), np.cumsum([1 + k % 7 * 3 for k in range(30)]).tolist()


@pytest.mark.parametrize("ticks", [STEADY, UNEVEN], ids=["steady", "uneven"])
@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "mpeg4", {"bf": "2"}),
        ("a.webm", "libvpx", {}),
        ("a.mp4", "mpeg4", {"bf": "2"}),
        ("a.avi", "mpeg4", {}),
    ],
)
def test_a_video_that_was_cut_is_told_from_a_whole_one(tmp_path, name, codec, options, sound, ticks):
    path = clip_file(tmp_path / name, codec, options, ticks, sound and name.endswith(("mkv", "webm")))
    whole = list(read_frames(path, "video", 100))
    assert not any(isinstance(image, ImageError) for _, image in whole)
    assert len(whole) >= 29  # at an uneven rate, the edit list of the MP4 ends before the last frame
    if name == "a.mp4":  # without the index at its end it cannot be opened at all
        return
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *rest, (number, reason) = read_frames(path, "video", 100)
    assert 0 < number == len(rest) < 30
    assert isinstance(reason, ImageError)
    said = rf"ends after {number} of \d+ frames" if name == "a.avi" else r"ends after \d+\.\d\d of \d+\.\d\d seconds"
    assert re.fullmatch(said, str(reason))
