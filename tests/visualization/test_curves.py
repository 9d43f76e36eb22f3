import json

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes

from castkd.visualization.curves import loss_curves, read_scalars, scalar_curves


def decoded(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def write_scalars(folder, stamp, lines):
    path = folder / stamp / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(
        '\n'.join(json.dumps(line) if isinstance(line, dict) else line for line in lines)
    )


def test_logs_of_a_resumed_stage_are_joined_and_the_later_one_counts(tmp_path):
    write_scalars(
        tmp_path, '20250101_1', [{'loss': 3.0, 'step': 1}, {'loss': 9.0, 'step': 2}, '{"lo']
    )
    write_scalars(tmp_path, '20250101_2', [{'loss': 2.0, 'step': 2}, {'mIoU': 0.5, 'step': 2}])
    records = read_scalars(tmp_path)
    assert [record.get('loss', record.get('mIoU')) for record in records] == [3.0, 0.5, 2.0]
    assert read_scalars(tmp_path / 'absent') == []


def test_curves_are_drawn_with_metrics_beside_the_losses():
    losses = [{'step': step, 'loss': 1 / step, 'sup.d0.loss_cls': 1.0} for step in (1, 2, 3)]
    metrics = [{'step': step, 'coco/segm_mAP': 0.1 * step} for step in (1, 2)]
    alone = decoded(loss_curves('adapt', losses))
    both = decoded(loss_curves('adapt', losses + metrics))
    assert both.shape[1] == 2 * alone.shape[1]
    assert alone.min() < 100
    assert loss_curves('adapt', [{'step': 1, 'lr': 0.1}]) is None
    assert decoded(loss_curves('adapt', losses + metrics[:1])).shape == alone.shape


def test_a_loss_that_is_not_finite_is_left_out():
    records = [
        {'step': 1, 'loss': 1.0},
        {'step': 2, 'loss': float('nan')},
        {'step': 3, 'loss': 0.5},
    ]
    assert loss_curves('adapt', records) is not None


def test_what_hooks_and_validation_wrote_at_one_step_is_one_record(tmp_path):
    lines = [{'pseudo_recall/ema': 0.2, 'step': 4}, {'mIoU': 0.5, 'step': 4}]
    write_scalars(tmp_path, '20250101_1', lines)
    assert read_scalars(tmp_path) == [{'pseudo_recall/ema': 0.2, 'mIoU': 0.5, 'step': 4}]


@pytest.fixture
def drawn(monkeypatch):
    """Lines and bands that were drawn: (label, steps, means) and (steps, low, high)."""
    lines, bands = [], []
    plot, fill = Axes.plot, Axes.fill_between

    def keep_line(axes, steps, values, **options):
        lines.append((options['label'], list(steps), list(values)))
        return plot(axes, steps, values, **options)

    def keep_band(axes, steps, low, high, **options):
        bands.append((list(steps), list(low), list(high)))
        return fill(axes, steps, low, high, **options)

    monkeypatch.setattr(Axes, 'plot', keep_line)
    monkeypatch.setattr(Axes, 'fill_between', keep_band)
    return lines, bands


def log(*values, name='cast.separation'):
    return [{'step': 10 * (i + 1), 'loss': 1.0, name: value} for i, value in enumerate(values)]


def test_the_line_is_the_mean_over_seeds_and_the_band_one_deviation(drawn):
    lines, bands = drawn
    # The third seed was killed after its first step: 0.2, 0.4, 0.6 there, 0.5 and 0.7 later.
    runs = {'distill': [log(0.2, 0.5), log(0.4, 0.7), log(0.6)]}
    content, missing = scalar_curves(runs, ['cast.separation'])
    assert decoded(content).min() < 100
    assert missing == []
    ((label, steps, means),) = lines
    assert (label, steps) == ('distill', [10, 20])
    assert means == pytest.approx([0.4, 0.6])
    ((_, low, high),) = bands
    # n - 1: sqrt(0.08 / 2) = 0.2 and sqrt(0.02 / 1) = 0.1414.
    assert low == pytest.approx([0.2, 0.4586], abs=1e-4)
    assert high == pytest.approx([0.6, 0.7414], abs=1e-4)


def test_a_single_run_has_a_line_and_no_band(drawn):
    lines, bands = drawn
    scalar_curves({'adapt': [log(0.2, float('nan'), 0.4)]}, ['cast.separation'])
    assert lines == [('adapt', [10, 30], [0.2, 0.4])]
    assert np.isnan(bands[0][1]).all()


def test_there_is_a_panel_per_scalar_that_was_logged_and_the_others_are_named(drawn):
    runs = {'adapt': [log(0.1)], 'distill': [log(0.2), log(0.3, name='b')]}
    one, missing = scalar_curves(runs, ['cast.separation', 'absent'])
    assert missing == ['absent']
    two, _ = scalar_curves(runs, ['cast.separation', 'b'])
    assert decoded(two).shape[1] == pytest.approx(2 * decoded(one).shape[1], abs=1)
    four, _ = scalar_curves(runs, ['cast.separation', 'b', 'loss', 'b'])
    assert decoded(four).shape[0] == decoded(two).shape[0]
    assert [line[0] for line in drawn[0]][:2] == ['adapt', 'distill']
    assert scalar_curves(runs, ['absent']) == (None, ['absent'])
    assert scalar_curves(runs, []) == (None, [])
