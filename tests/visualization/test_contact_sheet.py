import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from castkd.errors import ConfigError
from castkd.visualization.contact_sheet import CELL_SIDE, contact_sheet, encode_png

META = {'classes': ('car', 'person'), 'palette': [(255, 0, 0), (0, 0, 255)]}
TITLE, GAP = 24, 6


def image(height=32, width=64):
    return np.full((height, width, 3), 100, np.uint8)


def instances(height=32, width=64):
    masks = torch.zeros(1, height, width, dtype=torch.bool)
    masks[0, 8:24, 8:40] = True
    boxes = torch.tensor([[8.0, 8.0, 40.0, 24.0]])
    return InstanceData(
        labels=torch.tensor([0]), bboxes=boxes, masks=masks, scores=torch.tensor([0.9])
    )


def cell(sheet, row, column, height=CELL_SIDE // 2):
    top = row * (height + TITLE + GAP) + TITLE
    left = column * (CELL_SIDE + GAP)
    return sheet[top : top + height, left : left + CELL_SIDE]


def test_there_is_a_row_per_image_and_a_column_per_entry():
    columns = {'truth': [None, None], 'student': [None, instances()]}
    sheet = contact_sheet([image(), image()], columns, META)
    height, width = CELL_SIDE // 2, CELL_SIDE
    assert sheet.shape == (2 * (height + TITLE) + GAP, 3 * width + 2 * GAP, 3)
    assert sheet.dtype == np.uint8
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        assert (cell(sheet, row, column) == 100).all()
    assert (cell(sheet, 1, 2) != 100).any()


def test_instances_are_drawn_where_their_masks_are():
    drawn = cell(contact_sheet([image()], {'student': [instances()]}, META), 0, 1)
    scale = CELL_SIDE // 64
    inside = drawn[12 * scale : 22 * scale, 30 * scale : 38 * scale]
    outside = drawn[26 * scale :, 42 * scale :]
    assert (inside != 100).any(-1).mean() > 0.9
    assert (outside == 100).all()


def test_class_maps_are_painted_with_their_palette_and_ignored_pixels_left_alone():
    labels = np.zeros((32, 64), np.int64)
    labels[:, 32:] = 1
    labels[16:] = 255
    drawn = cell(contact_sheet([image()], {'truth': [labels]}, META), 0, 1)
    middle = CELL_SIDE // 4
    # Half the image, half the colour, BGR.
    assert drawn[middle // 2, 20].tolist() == [50, 50, 178]
    assert drawn[middle // 2, -20].tolist() == [178, 50, 50]
    assert (drawn[middle + 4 :] == 100).all()


def test_images_of_different_sizes_and_an_unknown_palette_are_fine():
    columns = {'student': [instances(), instances(64, 32)]}
    meta = {'classes': ('car', 'person'), 'palette': None}
    sheet = contact_sheet([image(), image(64, 32)], columns, meta)
    assert sheet.shape[0] == CELL_SIDE // 2 + CELL_SIDE + 2 * TITLE + GAP


def test_the_arguments_stay_as_they_are():
    given, prediction = image(), instances()
    contact_sheet([given], {'student': [prediction]}, META)
    assert (given == 100).all()
    assert torch.is_tensor(prediction.masks)


def test_a_line_of_text_stands_below_every_cell():
    plain = contact_sheet([image(), image()], {'truth': [None, None]}, META)
    captions = {'image': ['a.png', ''], 'truth': ['F1 0.43', 'F1 0.10']}
    sheet = contact_sheet([image(), image()], {'truth': [None, None]}, META, captions)
    assert sheet.shape[0] == plain.shape[0] + 2 * TITLE
    bottom = TITLE + CELL_SIDE // 2
    assert (sheet[:bottom, :CELL_SIDE] == plain[:bottom, :CELL_SIDE]).all()
    first, second = (
        sheet[top : top + TITLE, CELL_SIDE + GAP :] for top in (bottom, sheet.shape[0] - TITLE)
    )
    assert first.min() < 50
    assert (first != second).any()
    # No text below the second image.
    assert (sheet[-TITLE:, :CELL_SIDE] == 255).all()


def test_a_long_title_is_made_to_fit():
    wide = contact_sheet([image()], {'x' * 200: [None]}, META)
    assert (wide[:TITLE, -4:] == 255).all()
    assert wide[:TITLE, CELL_SIDE + GAP :].min() < 50


def test_captions_of_another_length_are_refused():
    with pytest.raises(ConfigError, match="captions of column 'truth' has 1 entries for 2 images"):
        contact_sheet([image(), image()], {'truth': [None] * 2}, META, {'truth': ['x']})


def test_a_column_of_another_length_is_refused():
    with pytest.raises(ConfigError, match="column 'student' has 2 entries for 1 images"):
        contact_sheet([image()], {'student': [None, None]}, META)


def test_the_png_holds_the_image():
    sheet = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    decoded = cv2.imdecode(np.frombuffer(encode_png(sheet), np.uint8), cv2.IMREAD_COLOR)
    assert (decoded == sheet).all()
