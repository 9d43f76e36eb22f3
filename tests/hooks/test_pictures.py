"""Pictures show the right pixels and instances and disturb nothing."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from castkd.errors import ConfigError
from castkd.hooks import Pictures
from castkd.hooks.drawing import LONG_SIDE, draw_instances, grid, titled, to_pixels
from castkd.objectives import PseudoLabel, Supervised
from castkd.structures import Marks
from tests.builders import make_sample, square_masks
from tests.hooks.toy import HEIGHT, WIDTH, SquareFinder, Squares, toy_distiller, toy_runner

SCALE = LONG_SIDE // WIDTH
ROW = 24 + HEIGHT * SCALE + 6
COLUMN = WIDTH * SCALE + 6
BACKGROUND = (10, 40, 70)


def picture(tmp_path, distiller, **options):
    runner = toy_runner(tmp_path, distiller, [Pictures(interval=2, **options)])
    runner.train()
    # Three steps: the second by its number, the third because it is the last.
    names = sorted(path.name for path in (tmp_path / 'pictures').iterdir())
    assert names == ['iter_2.png', 'iter_3.png']
    return cv2.imread(str(tmp_path / 'pictures' / 'iter_2.png'))


def cell(image, row, column):
    top, left = row * ROW + 24, column * COLUMN
    return image[top : top + HEIGHT * SCALE, left : left + WIDTH * SCALE]


def square(image):
    """Return left and right end, in image pixels, of what is not background on a line below the text."""
    line = image[12 * SCALE]
    inside = np.flatnonzero(np.abs(line.astype(int) - BACKGROUND).sum(1) > 60)
    return inside.min() / SCALE, inside.max() / SCALE


def test_views_are_shown_with_their_labels_carried(tmp_path):
    image = picture(tmp_path, toy_distiller())
    assert image.shape == (2 * ROW - 6, 3 * COLUMN - 6, 3)
    # Images 2 and 3 of the endless stream of 8: columns 5 to 17, mirrored 23 to 35.
    np.testing.assert_allclose(square(cell(image, 0, 0)), (5, 17), atol=0.3)
    np.testing.assert_allclose(square(cell(image, 0, 1)), (23, 35), atol=0.3)
    np.testing.assert_allclose(square(cell(image, 1, 2)), (6, 18), atol=0.3)
    assert tuple(cell(image, 0, 0)[-5, -5]) == BACKGROUND
    # The class colour (palette in RGB) lies over white-ish pixels: red above green in BGR order.
    middle = cell(image, 0, 1)[10 * SCALE, 29 * SCALE].astype(int)
    assert middle[2] > middle[1] + 30


def test_labels_of_a_file_are_shown_in_their_view(tmp_path):
    distiller = toy_distiller(objectives={'unsup': PseudoLabel('sup')})
    image = picture(tmp_path, distiller, num_images=1)
    assert image.shape == (ROW - 6, 3 * COLUMN - 6, 3)
    middle = cell(image, 0, 0)[10 * SCALE, 11 * SCALE].astype(int)
    assert middle[2] > middle[1] + 30
    # The other two views have no labels, so the square shows its own pixels.
    assert tuple(cell(image, 0, 1)[10 * SCALE, 11 * SCALE]) == (230, 210, 190)


def test_normalisation_is_undone_exactly():
    network = SquareFinder()
    item = Squares(training=False)[0]
    data = {key: [value] for key, value in item.items()}
    batch = network.data_preprocessor(data, False)
    assert batch['inputs'].shape[-2:] == (32, 48)
    (image,) = to_pixels(network.data_preprocessor, batch['inputs'], batch['data_samples'])
    assert np.array_equal(image, item['inputs'].permute(1, 2, 0).numpy())


def test_random_numbers_go_on_as_without_pictures():
    sample = make_sample(square_masks(32, [(2, 3, 9)]), [0], scores=[0.5])
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    drawn = draw_instances(np.zeros((32, 32, 3), np.uint8), sample.gt_instances, {})
    assert np.random.rand() == expected
    assert drawn.any()
    assert torch.equal(sample.gt_instances.bboxes, torch.tensor([[3.0, 2.0, 12.0, 11.0]]))


def test_grid_leaves_gaps_white():
    columns = [[np.zeros((4, 5, 3), np.uint8)] * 2, [np.zeros((3, 2, 3), np.uint8)]]
    image = grid(columns)
    assert image.shape == (14, 13, 3)
    assert (image == 0).all(2).sum() == 2 * 20 + 6
    assert titled(columns[0][0], 'sup').shape == (28, 5, 3)


@pytest.mark.parametrize('options', [{'interval': 0}, {'num_images': 0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Pictures(**options)


class Choice(Supervised):
    """Chooses two places in every image, one of each kind."""

    def marks(self):
        places = InstanceData(
            bboxes=torch.tensor([[2.0, 2.0, 8.0, 8.0], [28.0, 14.0, 36.0, 22.0]]),
            scores=torch.tensor([0.9, 0.5]),
            labels=torch.tensor([1, 0]),
        )
        return [Marks('sup', [places, places], ('student', 'teacher'), ((0, 0, 255), (255, 0, 0)))]


def test_places_that_an_objective_chose_are_a_column(tmp_path):
    image = picture(tmp_path, toy_distiller(objectives={'gid': Choice()}), num_images=1)
    assert image.shape == (ROW - 6, 4 * COLUMN - 6, 3)
    chosen = cell(image, 0, 3).astype(int)
    # The colour of the kind, RGB, on the left edge of each box.
    edges = [
        chosen[row * SCALE, column * SCALE - 2 : column * SCALE + 3]
        for row, column in ((6, 2), (20, 28))
    ]
    red_over_blue = [edge[:, 2] - edge[:, 0] for edge in edges]
    assert red_over_blue[0].max() > 100
    assert red_over_blue[1].min() < -20
    assert tuple(chosen[12 * SCALE, 38 * SCALE]) == BACKGROUND


def test_places_of_a_step_without_the_objective_are_not_shown(tmp_path):
    objectives = {'sup': Supervised(), 'gid': Choice(weight=0.0)}
    image = picture(tmp_path, toy_distiller(objectives=objectives), num_images=1)
    assert image.shape == (ROW - 6, 3 * COLUMN - 6, 3)
