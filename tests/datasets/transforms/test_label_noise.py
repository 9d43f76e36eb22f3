"""Label noise of LAD: numbers, statistics and labels that are no classes."""

import pytest
import torch

from castkd.datasets.transforms import LabelNoise
from castkd.errors import ConfigError, DataError
from castkd.registry import build_model

IGNORE = 255


def ramp(classes=21, images=1):
    """Return (images, 1, classes + 1) label maps that hold every class once and then the ignored one."""
    row = torch.tensor([*range(classes), IGNORE])
    return row.expand(images, 1, -1).clone()


def draw(labels, **options):
    return LabelNoise(21, **options)(labels)


def test_fixed_values_of_voc():
    values = draw(ramp(), mode='fixed', sigma=0.0)
    expected = torch.arange(-110.0, 101.0, 10.0)
    torch.testing.assert_close(values.flatten(), expected, atol=1e-4, rtol=0)
    assert values[0, 0, 0, 11] == 0


def test_fixed_values_are_those_of_the_formula():
    """w_k = (k - K/2) * 2.2 / K, here by a plain loop."""
    count = 20
    values = LabelNoise(19, mode='fixed', sigma=0.0, scale=1.0)(ramp(19)).flatten()
    expected = [(k - count / 2) * 2.2 / count for k in range(count)]
    torch.testing.assert_close(values, torch.tensor(expected))


def test_shape_type_and_gradient():
    labels = torch.randint(21, (3, 7, 5))
    values = draw(labels)
    assert values.shape == (3, 1, 7, 5)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert not values.requires_grad


def test_one_value_per_class_and_image():
    labels = torch.randint(21, (2, 40, 40))
    labels[:, :5] = IGNORE
    values = draw(labels, sigma=0.0)
    for image in range(2):
        assert values[image].unique().numel() == labels[image].unique().numel() == 22
        for label in labels[image].unique():
            assert values[image, 0][labels[image] == label].unique().numel() == 1
    of_class = [values[image, 0][labels[image] == 3][0] for image in range(2)]
    assert of_class[0] != of_class[1]
    assert not torch.equal(values, draw(labels, sigma=0.0))


def test_fixed_values_are_the_same_in_every_image():
    values = draw(ramp(images=2), mode='fixed', sigma=0.0)
    assert torch.equal(values[0], values[1])


@pytest.mark.parametrize(('sigma', 'deviation'), [(0.03, 3.0), (0.02, 2.0)])
def test_deviation_within_a_class(sigma, deviation):
    values = draw(torch.zeros(1, 100, 100, dtype=torch.long), sigma=sigma)
    assert values.std().item() == pytest.approx(deviation, rel=0.05)


def test_deviation_over_many_images():
    values = draw(ramp(images=2000))
    assert values.std().item() == pytest.approx(100, rel=0.02)
    assert values.mean().item() == pytest.approx(0, abs=2)


def test_names_of_classes_do_not_matter():
    """Permuting the class ids together with their values changes nothing."""
    torch.manual_seed(0)
    labels, order = torch.randint(21, (1, 8, 8)), torch.randperm(21)
    noise = LabelNoise(21, sigma=0.0)
    table = torch.randn(1, 22)
    noise._class_values = lambda *_: table
    before = noise(labels)
    permuted = table.clone()
    permuted[:, order] = table[:, :21]
    noise._class_values = lambda *_: permuted
    assert torch.equal(noise(order[labels]), before)


def test_names_of_classes_do_not_change_the_distribution():
    """Renamed classes leave the deviation of a pixel and the correlation of every pair of pixels as they are."""
    torch.manual_seed(0)
    labels = torch.tensor([[[0, 0, 1, IGNORE]]])
    for item in (labels, torch.tensor([7, 20])[labels.clamp(max=1)].where(labels < 2, labels)):
        values = draw(item.expand(20_000, 1, 4)).flatten(1)
        expected = torch.eye(4)
        expected[0, 1] = expected[1, 0] = 1
        torch.testing.assert_close(values.T.corrcoef(), expected, atol=0.03, rtol=0)
        torch.testing.assert_close(values.std(0), torch.full((4,), 100.0), atol=2, rtol=0)


@pytest.mark.parametrize('mode', ['random', 'fixed'])
@pytest.mark.parametrize('kind', [torch.uint8, torch.int64])
def test_ignored_pixels_are_a_class_of_their_own(mode, kind):
    values = draw(torch.full((1, 5, 5), IGNORE, dtype=kind), mode=mode, sigma=0.0)
    assert values.unique().numel() == 1
    assert values.abs().max() < 1000  # 255 * 100 would be 25500


@pytest.mark.parametrize('label', [21, 254, -1])
def test_label_that_is_no_class(label):
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, 1, 1] = label
    with pytest.raises(
        DataError, match=rf'holds {label}, which is neither one of the 21 classes'
    ) as error:
        draw(labels)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(mode='gaussian'), 'mode must be one of'),
        (dict(sigma=-0.1), 'sigma must be a number in'),
        (dict(scale=0), 'scale must be a number in'),
        (dict(num_classes=0), 'num_classes must be an integer'),
        (dict(ignore_index=20), 'ignore_index must lie outside the classes 0 to 20'),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(ConfigError, match=text):
        LabelNoise(**{'num_classes': 21, **options})


@pytest.mark.parametrize('labels', [torch.zeros(2, 3, dtype=torch.long), torch.zeros(1, 2, 3)])
def test_wrong_form_of_labels(labels):
    with pytest.raises(ConfigError, match=r'labels must be integers \(B, H, W\)'):
        draw(labels)


def test_config():
    noise = build_model(dict(type='castkd.LabelNoise', num_classes=3, mode='fixed'))
    assert 'mode=fixed' in repr(noise)
    assert not noise.state_dict()
