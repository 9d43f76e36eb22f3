import cv2
import mmcv
import numpy as np
import pytest

from castkd.datasets.transforms import StrongPhotometric
from castkd.errors import ConfigError

OFF = {'jitter_prob': 0.0, 'gray_prob': 0.0, 'blur_prob': 0.0}
NO_JITTER = {'brightness': 0, 'contrast': 0, 'saturation': 0, 'hue': 0}
IMAGE = cv2.GaussianBlur(np.random.RandomState(0).randint(0, 256, (24, 36, 3), np.uint8), (5, 5), 2)


def run(image=IMAGE, seed=0, **options):
    np.random.seed(seed)
    return StrongPhotometric(**options)({'img': image})['img']


def only(name, strength):
    return {**OFF, **NO_JITTER, 'jitter_prob': 1.0, name: strength}


def test_input_is_kept_and_output_is_like_it():
    before = IMAGE.copy()
    after = run()
    np.testing.assert_array_equal(IMAGE, before)
    assert after.dtype == np.uint8
    assert after.shape == IMAGE.shape
    assert (after != IMAGE).any()


def test_nothing_happens_when_all_is_off():
    np.testing.assert_array_equal(run(**OFF), IMAGE)
    np.testing.assert_array_equal(run(**{**OFF, **NO_JITTER, 'jitter_prob': 1.0}), IMAGE)


def test_seed_decides():
    np.testing.assert_array_equal(run(seed=3), run(seed=3))
    assert (run(seed=3) != run(seed=4)).any()


def test_brightness_scales_every_value():
    bright = run(**only('brightness', 0.4), seed=1).astype(float)
    factors = bright[IMAGE > 60] / IMAGE[IMAGE > 60]
    unclipped = bright[IMAGE > 60] < 255
    factor = np.median(factors[unclipped])
    assert 0.6 <= factor <= 1.4
    assert factor != 1
    np.testing.assert_allclose(bright, np.clip(IMAGE * factor, 0, 255), atol=1.5)


def test_contrast_keeps_the_mean_grey():
    image = np.clip(IMAGE, 80, 160)
    changed = run(image, **only('contrast', 0.4))
    mean = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).mean()
    assert abs(cv2.cvtColor(changed, cv2.COLOR_BGR2GRAY).mean() - mean) < 1
    assert 0.6 <= changed.std() / image.std() <= 1.4
    assert abs(changed.std() / image.std() - 1) > 0.02


def test_saturation_keeps_the_grey_image():
    image = np.clip(IMAGE, 80, 160)
    changed = run(image, **only('saturation', 0.4))
    grey = [cv2.cvtColor(item, cv2.COLOR_BGR2GRAY).astype(float) for item in (image, changed)]
    np.testing.assert_allclose(grey[0], grey[1], atol=2)
    spread = [(item.max(-1).astype(float) - item.min(-1)).mean() for item in (image, changed)]
    assert abs(spread[1] / spread[0] - 1) > 0.02


def test_hue_keeps_value_and_leaves_grey_alone():
    changed = run(**only('hue', 0.1), seed=2)
    assert (changed != IMAGE).any()
    np.testing.assert_allclose(changed.max(-1).astype(int), IMAGE.max(-1), atol=2)
    grey = np.repeat(IMAGE[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(run(grey, **only('hue', 0.1), seed=2), grey)


def test_grey_keeps_three_channels():
    grey = run(**{**OFF, 'gray_prob': 1.0})
    expected = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(grey, np.stack([expected] * 3, axis=-1))


@pytest.mark.parametrize(('kernel', 'reach'), [(5, 2), (3, 1), (None, 6)])
def test_blur_reaches_as_far_as_its_kernel(kernel, reach):
    """One white pixel spreads over ``reach`` pixels each way and stays in its place."""
    image = np.zeros((31, 31, 3), np.uint8)
    image[15, 15] = 255
    options = {'blur_prob': 1.0, 'blur_kernel': kernel, 'blur_sigma': (2.0, 2.0)}
    rows, columns = np.nonzero(run(image, **{**OFF, **options})[..., 0])
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (30, 30)
    assert rows.max() - 15 <= reach
    assert (rows.max() - 15 > 2) == (kernel is None)


def test_geometry_is_untouched():
    """An edge stays where it is, whatever is drawn."""
    image = np.full((20, 40, 3), 60, np.uint8)
    image[:, 20:] = 180
    for seed in range(20):
        jump = np.abs(np.diff(run(image, seed=seed).astype(int).sum(-1), axis=1))
        assert jump.argmax(axis=1).tolist() == [19] * 20


def test_probabilities_are_kept():
    options = {**OFF, 'gray_prob': 0.25}
    transform = StrongPhotometric(**options)
    np.random.seed(0)
    grey = [np.ptp(transform({'img': IMAGE})['img'], axis=-1).max() == 0 for _ in range(400)]
    assert 0.2 < np.mean(grey) < 0.3


def test_jitter_order_is_random(monkeypatch):
    called = []
    for name in ('adjust_hue', 'adjust_color'):
        monkeypatch.setattr(
            mmcv, name, lambda image, *_, name=name, **__: called.append(name) or image
        )
    options = {**OFF, **NO_JITTER, 'jitter_prob': 1.0, 'saturation': 0.4, 'hue': 0.1}
    for seed in range(30):
        run(seed=seed, **options)
    orders = set(zip(called[::2], called[1::2], strict=True))
    assert orders == {('adjust_hue', 'adjust_color'), ('adjust_color', 'adjust_hue')}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'brightness': -0.1}, 'brightness must be a number'),
        ({'hue': 0.6}, r'hue must be a number in \[0, 0.5\], got 0.6'),
        ({'gray_prob': 1.1}, 'gray_prob must be'),
        ({'blur_kernel': 4}, 'blur_kernel must be odd, got 4'),
        ({'blur_sigma': (2.0, 0.1)}, 'blur_sigma must be'),
        ({'blur_sigma': (0.0, 1.0)}, 'blur_sigma must be'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        StrongPhotometric(**options)


@pytest.mark.parametrize('image', [IMAGE.astype(np.float32), IMAGE[..., 0]])
def test_other_images_are_refused(image):
    with pytest.raises(ConfigError, match=r'img must be uint8 \(H, W, 3\), got'):
        run(image)
