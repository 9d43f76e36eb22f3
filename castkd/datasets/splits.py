"""Which images are labelled: drawn by seed, listed by hand, or read from a file with a checksum.

Images are known by their file name relative to the image root, such as ``aachen/aachen_000000_000019_leftImg8bit.png``.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath

from castkd.checks import check_file, check_folder, check_number
from castkd.errors import ConfigError, DataError, in_words, near_names
from castkd.files import write_file

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')


@dataclass(frozen=True)
class Split:
    """A division of images into labelled and unlabelled ones.

    Attributes:
        labeled: Names of the labelled images, sorted.
        unlabeled: Names of the other images, sorted.
        fraction: Share of labelled images that was asked for, or the resulting one when a number or list was given.
        seed: Seed of the draw; None for a list made by hand.
        checksum: SHA-256 of the names; equal for equal splits, whatever way they were made.

    Raises:
        DataError: When a name occurs twice, or no image is labelled.
    """

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    fraction: float
    seed: int | None
    checksum: str = field(init=False)

    def __post_init__(self) -> None:
        """Sort the names, check them and compute the checksum."""
        refuse_repeated('split', [*self.labeled, *self.unlabeled])
        if not self.labeled:
            raise DataError('split: no image is labelled; give at least one')
        object.__setattr__(self, 'labeled', tuple(sorted(self.labeled)))
        object.__setattr__(self, 'unlabeled', tuple(sorted(self.unlabeled)))
        content = json.dumps([self.labeled, self.unlabeled], ensure_ascii=True)
        object.__setattr__(self, 'checksum', hashlib.sha256(content.encode('ascii')).hexdigest())


def draw_split(
    names: Iterable[str],
    fraction: float | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Split:
    """Draw the labelled images by seed.

    They are the first n of a seeded permutation of the sorted names, so the labelled images of a smaller fraction are
    among those of a larger one with the same seed.

    Args:
        names: Names of all images, in any order.
        fraction: Share of labelled images, in (0, 1]; n is ``round(fraction * len(names))``.
        count: Number of labelled images n, instead of a fraction.
        seed: Seed of the permutation, at least 0.

    Returns:
        The split.

    Raises:
        ConfigError: When not exactly one of fraction and count is given, one is out of range, or n is 0.
        DataError: When a name occurs twice or there is none.
    """
    names = sorted(names)
    refuse_repeated('draw_split', names)
    if not names:
        raise DataError(
            'draw_split: there is no image to draw from; check the image folder or annotation file'
        )
    check_number('draw_split', 'seed', seed, low=0, integer=True)
    number = _labeled_number(len(names), fraction, count)
    drawn = random.Random(seed).sample(names, len(names))
    share = number / len(names) if fraction is None else fraction
    return Split(tuple(drawn[:number]), tuple(drawn[number:]), share, seed)


def _labeled_number(total: int, fraction: float | None, count: int | None) -> int:
    if (fraction is None) == (count is None):
        raise ConfigError(
            f'draw_split: give either fraction or count, got fraction={fraction!r} and count={count!r}'
        )
    if count is not None:
        check_number('draw_split', 'count', count, low=1, high=total, integer=True)
        return count
    check_number('draw_split', 'fraction', fraction, low=0, high=1, low_open=True)
    number = round(fraction * total)
    if number == 0:
        raise ConfigError(
            f'draw_split: fraction {fraction} of {total} images is no image; take at least {1 / total:.2g}'
        )
    return number


def split_from_list(names: Iterable[str], list_file: str | Path) -> Split:
    """Take the labelled images from a text file.

    Args:
        names: Names of all images.
        list_file: One image per line, by name or by name without suffix; empty lines are skipped.

    Returns:
        The split, without a seed.

    Raises:
        DataError: When the file is missing, or a line names no image, two images, or one that another line names.
    """
    path = check_file(
        'split_from_list', 'list_file', list_file, 'give a text file with one image name per line'
    )
    names = sorted(names)
    lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
    labeled = _resolve(names, [line for line in lines if line], path)
    rest = sorted(set(names) - set(labeled))
    return Split(tuple(labeled), tuple(rest), len(labeled) / max(len(names), 1), None)


def _resolve(names: list[str], entries: list[str], path: Path) -> list[str]:
    known = set(names)
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(str(PurePosixPath(name).with_suffix('')), []).append(name)
    resolved = []
    unknown = []
    for entry in entries:
        found = [entry] if entry in known else by_stem.get(entry, [])
        if len(found) > 1:
            raise DataError(
                f'{path}: {entry!r} fits {len(found)} images: {found}; write the suffix too'
            )
        resolved.extend(found)
        if not found:
            unknown.append(entry)
    if unknown:
        shown = '; '.join(f'{entry!r} ({near_names(entry, known)})' for entry in unknown[:3])
        raise DataError(
            f'{path}: {len(unknown)} of {len(entries)} lines name no image of the {len(names)} known ones: {shown}'
        )
    refuse_repeated(str(path), resolved)
    return resolved


def write_split(split: Split, file: str | Path) -> None:
    """Write a split as JSON; the file is either whole or not there.

    Args:
        split: What to write.
        file: Destination; missing folders are made.

    Raises:
        DataError: When it cannot be written.
    """
    content = {
        'fraction': split.fraction,
        'seed': split.seed,
        'checksum': split.checksum,
        'labeled': split.labeled,
        'unlabeled': split.unlabeled,
    }
    write_file(file, json.dumps(content, indent=1) + '\n')


def read_split(file: str | Path) -> Split:
    """Read a split and verify its checksum.

    Args:
        file: File that :func:`write_split` made.

    Returns:
        The split.

    Raises:
        DataError: When the file is missing, is not a split, or its names do not fit its checksum.
    """
    path = check_file('read_split', 'file', file, 'make it with tools/make_splits.py')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        split = Split(
            tuple(content['labeled']),
            tuple(content['unlabeled']),
            content['fraction'],
            content['seed'],
        )
        checksum = content['checksum']
    except DataError as error:
        raise DataError(f'{path}: {error}') from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path}: is not a split file ({in_words(error)}); make it with tools/make_splits.py'
        ) from error
    if split.checksum != checksum:
        raise DataError(
            f'{path}: the names do not fit the checksum, so the file was edited or damaged; '
            'restore it, or make a new one with tools/make_splits.py'
        )
    return split


def make_split(names: list[str], options: Mapping[str, object]) -> Split:
    """Make the split that a config asks for.

    Args:
        names: Names of the labelled source's images.
        options: One of ``fraction``, ``count``, ``list_file`` or ``file``, and ``seed``; keys with the value None
            do not count.

    Raises:
        ConfigError: When not exactly one way is asked for, or a key is unknown.
        DataError: When the split does not fit the images.
    """
    ways = ('fraction', 'count', 'list_file', 'file')
    for key in options:
        if key not in (*ways, 'seed'):
            raise ConfigError(
                f'SourceDataset: split has no key {key!r}; {near_names(key, (*ways, "seed"))}'
            )
    chosen = [way for way in ways if options.get(way) is not None]
    if len(chosen) != 1:
        raise ConfigError(
            f'SourceDataset: split needs exactly one of {", ".join(ways)}, got {dict(options)}'
        )
    way = chosen[0]
    if way == 'list_file':
        return split_from_list(names, options[way])
    if way == 'file':
        return _fitting_split(names, options[way])
    return draw_split(names, seed=options.get('seed') or 0, **{way: options[way]})


def _fitting_split(names: list[str], file: str) -> Split:
    split = read_split(file)
    known = set(names)
    unknown = [name for name in split.labeled if name not in known]
    if unknown:
        raise DataError(
            f'{file}: {len(unknown)} of {len(split.labeled)} labeled images are not in the source labeled, for '
            f'example {unknown[0]!r}; {near_names(unknown[0], known)}'
        )
    return split


def check_disjoint(named: Mapping[str, Iterable[str]]) -> None:
    """Refuse image sets that overlap.

    Args:
        named: Images per set, for instance of ``labeled``, ``unlabeled`` and ``val``. Two images are the
            same when their strings are, so sets with different roots are compared by whole path.

    Raises:
        DataError: When two sets share images; tells the number and one example.
    """
    sets = {name: set(images) for name, images in named.items()}
    for first, second in combinations(sets, 2):
        shared = sets[first] & sets[second]
        if shared:
            raise DataError(
                f'{first} and {second} share {len(shared)} of {len(sets[second])} images, for example '
                f'{min(shared)!r}; take them out of one of the two'
            )


def list_images(root: str | Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> list[str]:
    """List the images below a folder.

    Args:
        root: The folder.
        suffixes: Endings of image files, compared without regard to case.

    Returns:
        Names relative to the folder with forward slashes, sorted. Hidden files and folders are left out.

    Raises:
        DataError: When there is no such folder or it holds no image.
    """
    root = check_folder('images', 'folder', root)
    endings = tuple(suffix.lower() for suffix in suffixes)
    names = []
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        # Links are followed, but neither in circles nor twice to the same folder.
        visible = [] if place in seen else [name for name in subfolders if name[0] != '.']
        subfolders[:] = sorted(visible)
        if place not in seen:
            within = Path(folder).relative_to(root)
            images = (name for name in files if name.lower().endswith(endings) and name[0] != '.')
            names.extend((within / name).as_posix() for name in images)
        seen.add(place)
    if not names:
        raise DataError(
            f'images: folder {str(root)!r} holds no image ({", ".join(endings)}); check the path'
        )
    return sorted(names)


def refuse_repeated(owner: str, names: Iterable[str]) -> None:
    """Raise :class:`DataError` when an image name occurs twice."""
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise DataError(
            f'{owner}: {len(repeated)} image names occur more than once, for example {repeated[0]!r}; '
            'give every image once'
        )
