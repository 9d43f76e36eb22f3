import cv2
import numpy as np
from matplotlib.axes import Axes

from castkd.evaluation.matching import PrecisionRecall
from castkd.visualization.label_quality import quality_plot


def square(side):
    mask = np.zeros((1, 32, 32), bool)
    mask[:, :side, :side] = True
    return mask


def quality():
    """Of two real instances the small one is found, with a score of 0.65; there is no wrong label."""
    numbers = PrecisionRecall()
    numbers.update(square(3), [0.65], [0], square(3), [0])
    numbers.update(np.zeros((0, 32, 32), bool), [], [], square(20), [0])
    return numbers.compute()


def test_rates_and_counts_are_drawn_by_score_and_by_area(monkeypatch):
    lines, bars = {}, {}
    plot, bar = Axes.plot, Axes.bar

    def keep(axes, places, values, **options):
        lines.setdefault(options['label'], []).append((list(places), list(values)))
        return plot(axes, places, values, **options)

    def keep_bar(axes, places, heights, *arguments, **options):
        bars[options['label']] = list(heights)
        return bar(axes, places, heights, *arguments, **options)

    monkeypatch.setattr(Axes, 'plot', keep)
    monkeypatch.setattr(Axes, 'bar', keep_bar)
    content = quality_plot('label_adapted', quality())
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[1] == 1200
    by_score, by_area = lines['recall']
    assert by_score == ([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], [0.5] * 4 + [0.0] * 3)
    assert by_area == ([0, 1], [1.0, 0.0])
    # No label is left above 0.7, and none is as large as the second instance: gaps.
    assert np.isnan(lines['precision'][0][1]).tolist() == [False] * 4 + [True] * 3
    assert np.isnan(lines['precision'][1][1]).tolist() == [False, True]
    assert bars == {'predictions': [1, 0], 'instances': [1, 1]}


def test_nothing_at_all_is_no_plot():
    assert quality_plot('label', PrecisionRecall().compute()) is None
