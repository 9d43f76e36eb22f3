import cv2
import numpy as np
import pytest
from PIL import Image

from castkd.datasets import LoadImage
from castkd.errors import DataError

PIXELS = np.random.RandomState(0).randint(0, 256, (40, 50, 3), np.uint8)


def load(path, **options):
    return LoadImage(**options)({'img_path': str(path)})


def write(path, image):
    assert cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'bmp', 'tif', 'webp'])
def test_colour_image_is_read_as_mmcv_reads_it(tmp_path, suffix):
    path = write(tmp_path / f'image.{suffix}', PIXELS)
    results = load(path)
    np.testing.assert_array_equal(results['img'], cv2.imread(str(path), cv2.IMREAD_COLOR))
    assert results['img'].dtype == np.uint8
    assert results['img_shape'] == results['ori_shape'] == (40, 50)
    np.testing.assert_array_equal(results['homography_matrix'], np.eye(3))


def test_float_has_the_same_values(tmp_path):
    image = load(write(tmp_path / 'image.png', PIXELS), to_float32=True)['img']
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, PIXELS)


def test_grey_becomes_three_channels(tmp_path):
    for suffix in ('png', 'jpg'):
        path = write(tmp_path / f'grey.{suffix}', PIXELS[..., 0])
        grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(load(path)['img'], np.stack([grey] * 3, axis=-1))


def test_alpha_is_dropped(tmp_path):
    alpha = np.full((40, 50, 1), 7, np.uint8)
    path = write(tmp_path / 'alpha.png', np.concatenate([PIXELS, alpha], axis=-1))
    np.testing.assert_array_equal(load(path)['img'], PIXELS)


def test_palette_is_resolved(tmp_path):
    image = Image.fromarray(PIXELS[..., ::-1]).quantize(16)
    image.save(tmp_path / 'palette.png')
    expected = np.asarray(image.convert('RGB'))[..., ::-1]
    np.testing.assert_array_equal(load(tmp_path / 'palette.png')['img'], expected)


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('channels', [1, 3])
def test_16_bits_are_refused(tmp_path, suffix, channels):
    path = write(tmp_path / f'deep.{suffix}', PIXELS[..., :channels].astype(np.uint16) * 200)
    with pytest.raises(
        DataError, match=rf'deep.{suffix}. has 16 bits per channel; convert it to 8'
    ):
        load(path)


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
@pytest.mark.parametrize('share', [0.03, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path, suffix, share):
    whole = write(tmp_path / f'whole.{suffix}', PIXELS).read_bytes()
    path = tmp_path / f'cut.{suffix}'
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=rf'cut.{suffix}. is truncated'):
        load(path)


def test_jpeg_cut_behind_its_thumbnail_is_refused(tmp_path):
    """The thumbnail inside brings an end marker of its own."""
    thumbnail = cv2.imencode('.jpg', PIXELS[:8, :8])[1].tobytes()
    whole = cv2.imencode('.jpg', PIXELS)[1].tobytes()
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    path = tmp_path / 'cut.jpg'
    path.write_bytes(whole[:2] + segment + whole[2:])
    np.testing.assert_array_equal(
        load(path)['img'], cv2.imdecode(np.frombuffer(whole, np.uint8), 1)
    )
    for rest in (b'', whole[2 : len(whole) // 2]):
        path.write_bytes(whole[:2] + segment + rest)
        with pytest.raises(DataError, match=r"cut.jpg' is (truncated|no image)"):
            load(path)


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
@pytest.mark.parametrize('tail', [b'\0\0\0', b'some camera note'])
def test_bytes_behind_the_end_do_no_harm(tmp_path, suffix, tail):
    path = write(tmp_path / f'image.{suffix}', PIXELS)
    expected = load(path)['img']
    path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(load(path)['img'], expected)


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r'absent.png. does not exist; check data_root'):
        load(tmp_path / 'absent.png')
    with pytest.raises(DataError, match='cannot be read'):
        load(tmp_path)
    (tmp_path / 'empty.png').touch()
    with pytest.raises(DataError, match=r'empty.png. is an empty file'):
        load(tmp_path / 'empty.png')
    (tmp_path / 'text.png').write_text('not found')
    with pytest.raises(DataError, match=r'text.png. is no image'):
        load(tmp_path / 'text.png')


def test_image_of_another_size_than_its_annotations_is_refused(tmp_path):
    """Polygons would be drawn on it without a word; run lengths would not fit."""
    path = str(write(tmp_path / 'image.png', PIXELS))
    assert LoadImage()({'img_path': path, 'height': 40, 'width': 50})['img_shape'] == (40, 50)
    with pytest.raises(DataError, match=r'image.png. has 40 x 50 pixels .* are for 50 x 40; give'):
        LoadImage()({'img_path': path, 'height': 50, 'width': 40})
