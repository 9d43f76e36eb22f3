"""Processes of their own, peak memory, made-up images and result files."""

import argparse
import json
import os

import numpy as np

from benchmarks.common import PeakMemory, discs, make_parser, run_apart, write_results

MIB = 2**20


def test_a_measurement_has_a_process_of_its_own():
    assert run_apart(os.getpid) != os.getpid()
    assert run_apart(divmod, 7, 2) == (3, 1)


def test_peak_memory_is_that_of_the_block():
    before = np.ones(256 * MIB, dtype=np.uint8)
    del before
    with PeakMemory('cpu') as peak:
        np.ones(64 * MIB, dtype=np.uint8)
    assert 60 < peak.mib < 128


def test_masks_and_boxes_of_discs_agree():
    masks, boxes = discs(np.random.default_rng(0), 64, 20)
    assert masks.shape == (20, 64, 64)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min()) == (left, top)
        assert (columns.max() + 1, rows.max() + 1) == (right, bottom)
        assert mask.sum() < (right - left) * (bottom - top)


def test_results_carry_options_and_machine(tmp_path):
    path = tmp_path / 'new' / 'results.json'
    write_results(path, {'ratio': 1.02}, argparse.Namespace(repeat=3, out=path))
    content = json.loads(path.read_text())
    assert content['ratio'] == 1.02
    assert content['options'] == {'repeat': 3, 'out': str(path)}
    assert {'cores', 'threads', 'torch'} <= set(content['machine'])


def test_options_that_all_scripts_share():
    options = make_parser('What is measured.\n\nMore.', repeat=4).parse_args([])
    assert (options.repeat, options.out) == (4, None)
    assert options.device in {'cpu', 'cuda'}
    assert not hasattr(make_parser('x', repeat=1, device=False).parse_args([]), 'device')
