"""Calibration samples: images and arrays become a model's inputs, in a fixed order, or are refused by name."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npusim.quant.dataset import DatasetError, Preparation, Source, Tensor, open_samples
from tests.quant.test_dataset_archives import pack

F32 = np.dtype("float32")


def png(pixels):
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def npy(array, **more):
    target = io.BytesIO()
    np.save(target, array, **more)
    return target.getvalue()


def npz(**arrays):
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


def source(path, format_, shape=(1, 2, 3), dtype=F32, name="x", **more):
    return Source(tensor=Tensor(name=name, dtype=dtype, shape=shape), format=format_, path=str(path), **more)


# ------------------------------------------------------------------------------------------------------------- images

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10


def test_an_image_of_the_inputs_size_is_taken_pixel_by_pixel():
    plain = Preparation(height=2, width=3)
    np.testing.assert_array_equal(plain.apply(png(PIXELS), "a"), PIXELS.transpose(2, 0, 1)[None].astype(F32))
    other = Preparation(height=2, width=3, colours="BGR", layout="NHWC", dtype="u8")
    np.testing.assert_array_equal(other.apply(png(PIXELS), "a"), PIXELS[None, ..., ::-1])


def test_mean_and_std_stand_in_the_order_of_the_inputs_channels():
    # blue is the last channel of the file and the first of the input: (20 - 1) / 2, (10 - 2) / 4, (0 - 3) / 8
    bgr = Preparation(height=2, width=3, colours="BGR", mean=(1, 2, 3), std=(2, 4, 8))
    np.testing.assert_array_equal(bgr.apply(png(PIXELS), "a")[0, :, 0, 0], np.array([9.5, 2, -0.375], F32))


def test_gray_images_have_one_channel():
    gray = Preparation(height=2, width=2, colours="GRAY", mean=(127.5,), std=(127.5,))
    pixels = np.array([[0, 51], [102, 255]], np.uint8)
    found = gray.apply(png(pixels), "a")
    np.testing.assert_allclose(found, np.array([[[[-1, -0.6], [-0.2, 1]]]]), atol=1e-7)
    assert found.dtype == F32


@pytest.mark.parametrize(("wide", "high"), [(640, 480), (480, 640), (100, 1000), (256, 256)])
def test_a_larger_image_is_scaled_and_its_centre_taken(wide, high):
    # a ramp along x: its value at the centre stays, and the cut is 224/256 of the shorter side wide
    ramp = np.tile(np.linspace(0, 255, wide).astype(np.uint8)[None, :, None], (high, 1, 3))
    found = Preparation(height=224, width=224, layout="NHWC", dtype="u8").apply(png(ramp), "a")
    assert found.shape == (1, 224, 224, 3)
    cut = min(wide, high) * 224 / 256
    left = (wide - cut) / 2
    expected = (left + np.array([0.5, 112, 223.5]) / 224 * cut) / wide * 255
    np.testing.assert_allclose(found[0, 100, [0, 111, 223], 0], expected, atol=3)


def test_the_record_of_a_preparation_is_json():
    import json

    made = Preparation(height=2, width=3, mean=(1.5, 2, 3), std=(4,))
    assert Preparation.of_record(json.loads(json.dumps(made.record()))) == made


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no image"),
        (b"GIF89a", "is no image"),
        (png(np.tile(PIXELS, (9, 9, 1)))[:-60], "is no image"),
        (png(np.zeros((4, 4), np.uint16)), "of type 'I;16'"),
    ],
)
def test_what_is_no_image_is_refused(data, message):
    with pytest.raises(DatasetError, match=message):
        Preparation(height=2, width=2).apply(data, "a.png")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF"])
def test_formats_that_are_read(format_):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(stream, format_)
    found = Preparation(height=4, width=4, layout="NHWC", dtype="u8").apply(stream.getvalue(), "a")
    np.testing.assert_allclose(found, np.broadcast_to([200, 100, 50], found.shape), atol=20)


def test_a_format_that_starts_programs_is_not_read():
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "EPS")
    with pytest.raises(DatasetError, match="is no image"):
        Preparation(height=4, width=4).apply(stream.getvalue(), "a.jpg")


def test_an_image_of_too_many_pixels_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DatasetError, match=r"a\.png: has too many pixels"):
        Preparation(height=2, width=2).apply(png(np.zeros((40, 40), np.uint8)), "a.png")


# ------------------------------------------------------------------------------------------------------------ samples


def test_samples_are_the_first_by_name_and_can_be_gone_through_again(tmp_path):
    arrays = {f"{i:02}.npy": npy(np.full((2, 3), i, np.float64)) for i in reversed(range(40))}
    path = pack(tmp_path / "d.tar.gz", {**arrays, "readme.txt": b"hello"})
    samples = open_samples([source(path, "Numpy")])
    assert len(samples) == 32
    for _ in range(2):
        values = [feeds["x"] for feeds in samples]
        assert [value[0, 0, 0] for value in values] == list(range(32))
        assert {(value.dtype, value.shape) for value in values} == {(F32, (1, 2, 3))}
    assert len(open_samples([source(path, "Numpy", size=-1)])) == 40
    assert len(open_samples([source(path, "Numpy", size=3)])) == 3


def test_raw_bytes_and_npz(tmp_path):
    value = np.arange(6, dtype="<f4").reshape(1, 2, 3)
    path = pack(tmp_path / "raw", {"a.bin": value.tobytes()})
    np.testing.assert_array_equal(next(iter(open_samples([source(path, "Binary")])))["x"], value)
    path = pack(tmp_path / "npz.zip", {"a.npz": npz(x=value, y=np.arange(2))})
    both = [source(path, "NumpyObject"), source(path, "NumpyObject", (2,), np.dtype("int64"), "y")]
    (feeds,) = open_samples(both)
    np.testing.assert_array_equal(feeds["x"], value)
    np.testing.assert_array_equal(feeds["y"], [0, 1])


def test_random_samples_are_the_same_every_time_and_differ_from_one_another():
    made = open_samples([source("", "Random"), source("", "Random", (4,), np.dtype("int64"), "ids")])
    assert len(made) == 32
    first, again = list(made), list(made)
    np.testing.assert_array_equal(first[5]["x"], again[5]["x"])
    assert not np.array_equal(first[0]["x"], first[1]["x"])
    assert {int(value) for feeds in first for value in feeds["ids"]} == {0, 1}


def test_random_goes_along_with_data(tmp_path):
    path = pack(tmp_path / "d", {f"{i}.npy": npy(np.zeros((2, 3))) for i in range(3)})
    assert len(open_samples([source(path, "Numpy"), source("", "Random", name="y")])) == 3


def test_inputs_need_equally_many_samples(tmp_path):
    one = pack(tmp_path / "one", {"0.npy": npy(np.zeros((2, 3)))})
    two = pack(tmp_path / "two", {f"{i}.npy": npy(np.zeros((2, 3))) for i in range(2)})
    with pytest.raises(DatasetError, match="there are x 1, y 2"):
        open_samples([source(one, "Numpy"), source(two, "Numpy", name="y")])


class Harmful:
    def __reduce__(self):
        return print, ("this ran",)


BAD = [
    ("Numpy", {"a.npy": npy(np.zeros((3, 2)))}, r"a\.npy: has shape \[3, 2\]; the input takes \[1, 2, 3\]"),
    ("Numpy", {"a.npy": npy(np.zeros((2, 3), complex))}, r"a\.npy: has type complex128; the input takes float32"),
    ("Numpy", {"a.npy": npy(np.zeros((2, 3)))[:-8]}, r"has 40 bytes of data; its header, float64\[2, 3\], asks for 48"),
    ("Numpy", {"a.npy": b"\x93NUMPY\x01\x00v\x00{'descr': (1)}"}, "is no .npy file"),
    ("Numpy", {"a.npy": npy(np.array([Harmful()]), allow_pickle=True)}, "save the arrays with np.savez"),
    ("NumpyObject", {"a.npy": npy(np.array({"x": Harmful()}), allow_pickle=True)}, "save the arrays with np.savez"),
    ("NumpyObject", {"a.npz": npz(y=np.zeros(3), xx=np.zeros(2))}, r"has no array 'x', only y, xx"),
    ("NumpyObject", {"a.npz": npz(x=np.zeros(3))[:-30]}, r"a\.npz: is damaged"),
    ("NumpyObject", {"a.npy": npy(np.zeros((1, 2, 3)))}, "takes .npz files"),
    ("Binary", {"a.bin": bytes(23)}, r"has 23 bytes; float32\[1, 2, 3\] takes 24"),
    ("Numpy", {"a.png": b"", "b.png": b""}, "holds no file for format Numpy .*only 2 files, the first 'a.png'"),
]


@pytest.mark.parametrize(("format_", "files", "message"), BAD)
def test_files_that_do_not_fit_are_refused_by_name(tmp_path, capsys, format_, files, message):
    with pytest.raises(DatasetError, match=message) as caught:
        list(open_samples([source(pack(tmp_path / "d.tar", files), format_)]))
    assert str(caught.value).startswith(str(tmp_path / "d.tar"))
    assert capsys.readouterr().out == ""


@given(st.binary(max_size=120))
def test_damaged_arrays_never_get_past_the_header(data):
    from npusim.quant.dataset import arrays

    whole = npy(np.arange(6.0))
    for broken in (data, whole[:6] + data, whole[:10] + data):
        with pytest.raises(DatasetError):
            arrays.from_npy(broken)


@given(st.sampled_from(["<f4", ">f4", "<i8", "|u1"]), st.booleans(), st.lists(st.integers(0, 4), max_size=3))
def test_arrays_are_read_as_numpy_reads_them(dtype, fortran, shape):
    from npusim.quant.dataset import arrays

    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape, order="F" if fortran else "C")
    data = npy(array)
    np.testing.assert_array_equal(arrays.from_npy(data), np.load(io.BytesIO(data)))
