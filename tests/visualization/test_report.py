import base64
import io
import re

import cv2
import numpy as np
import pytest
from rich.console import Console

from castkd.visualization.report import (
    ReportRow,
    duration_text,
    render_report,
    result_table,
    shown_metrics,
    table_cells,
    with_unit,
)

ROWS = [
    ReportRow(
        'base',
        'labels <only>',
        {'labeled': 33},
        1500,
        12_400_000,
        {'coco/segm_mAP': 0.144, 'coco/segm_mAP_50': 0.3, 'coco/segm_mAP_s': None},
        725.0,
    ),
    ReportRow('label', 'label', {'images': 1603}, metrics={'precision': 0.45}, seconds=30.0),
    ReportRow(
        'cast',
        'CAST',
        {'labeled': 33, 'unlabeled': 1603},
        1500,
        12_400_000,
        {'coco/segm_mAP': 0.21, 'coco/segm_mAP_50': None},
        7260.0,
        resumed=1,
    ),
]


def test_cells_are_what_people_read():
    headings, cells = table_cells(ROWS)
    assert headings == [
        'stage',
        'images',
        'steps',
        'params',
        'mask AP',
        'mask AP50',
        'prec.',
        'time',
    ]
    assert cells[0] == [
        'labels <only>',
        '33 labeled',
        '1500',
        '12.40 M',
        '0.144',
        '0.300',
        '',
        '12 min 5 s',
    ]
    assert cells[1] == ['label', '1603 images', '', '', '', '', '0.450', '30 s']
    assert cells[2] == [
        'CAST',
        '33 labeled + 1603 unlabeled',
        '1500',
        '12.40 M',
        '0.210',
        '',
        '',
        '2 h 1 min+',
    ]


def test_the_terminal_table_fits_into_80_columns():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(result_table(ROWS, 'recipe.py'))
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    for word in ('0.144', '12.40 M', '2 h 1 min+', '0.450', '+ resumed'):
        assert word in text


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0.2, '0 s'), (59.4, '59 s'), (59.6, '1 min 0 s'), (3599, '59 min 59 s'), (3661, '1 h 1 min')],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text


def test_known_metrics_come_in_a_fixed_order_and_unknown_ones_only_when_alone():
    found = shown_metrics([{'x/mIoU': 1, 'own': 2, 'coco/segm_mAP_50': 1}, {'coco/segm_mAP': 1}])
    assert list(found.values()) == ['mask AP', 'mask AP50', 'mIoU %']
    found = shown_metrics([{'coco/segm_mAP': 1, 'cityscapes/mAP': 2, 'cityscapes/AP@50': 3}])
    assert list(found.values()) == ['mask AP', 'Cityscapes AP', 'Cityscapes AP50']
    assert shown_metrics([{'own': 2, 'other': 1}]) == {'own': 'own', 'other': 'other'}
    assert shown_metrics([]) == {}


def test_percent_is_told_from_numbers_up_to_one_and_a_column_has_one_unit():
    rows = [
        ReportRow('student', 'student', metrics={'mIoU': 61.25, 'mAcc': 70.5}),
        ReportRow('label', 'label', metrics={'mIoU': 0.5, 'recall': 0.25}, of_labels=True),
    ]
    headings, cells = table_cells(rows)
    assert headings[4:7] == ['mIoU %', 'mAcc %', 'recall']
    assert [row[4:7] for row in cells] == [['61.250', '70.500', ''], ['50.000', '', '0.250']]
    assert [with_unit(name) for name in ('x/mIoU', 'mAcc', 'coco/segm_mAP', 'own')] == [
        'x/mIoU %',
        'mAcc %',
        'coco/segm_mAP',
        'own',
    ]
    console = Console(record=True, width=80)
    console.print(result_table(rows, 'recipe.py'))
    for text in (console.export_text(), render_report('page', rows, facts={}, curves={})):
        assert 'Scores are numbers from 0 to 1' in text


def decoded(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def page(**options):
    png = cv2.imencode('.png', np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    return render_report(
        'my recipe', ROWS, facts={'seed': 0}, curves={'base': png}, picture=png, **options
    )


def test_the_page_is_self_contained_and_complete():
    text = page(picture_note='6 images')
    for word in ('my recipe', '0.144', '2 h 1 min+', '0.48 s per iteration', '6 images', 'seed'):
        assert word in text
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 2
    for source in sources:
        kind, content = source.split(',')
        assert kind == 'data:image/png;base64'
        assert decoded(base64.b64decode(content)).shape == (2, 2, 3)
    assert 'http' not in text


def test_notes_and_label_quality_stand_where_they_belong():
    png = cv2.imencode('.png', np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    text = page(curves_note='no <x>', label_quality={'label_adapted': png})
    assert text.index('no &lt;x&gt;') < text.index('Pseudo-labels') < text.index('Pictures')
    assert 'quality of the pseudo-labels of label_adapted' in text
    assert 'Pseudo-labels' not in page()


def test_names_cannot_break_the_page():
    assert 'labels &lt;only&gt;' in page()
    assert '<only>' not in page()


def test_the_cost_bars_are_shares_of_the_longest():
    widths = [float(width) for width in re.findall(r'width: ([\d.]+)%"', page())]
    assert widths == [10.0, 0.4, 100.0]
