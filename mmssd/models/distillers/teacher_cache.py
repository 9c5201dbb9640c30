"""What a frozen teacher says of views, computed once and kept on disk.

Shape legend: R = images x draws rows, V cached views, D width.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..utils.plan import SetupError
from ..utils.step import Encodings

FIELDS = ('features', 'embeddings')
DTYPES = ('float32', 'float16')
FORMAT = 1  # of the files, and of how views are made from seeds
MANIFEST = 'manifest.json'
HASHES = {
    'teacher': 'another teacher',
    'recipe': 'another recipe of views',
    'data': 'another list of images',
}


def hash_of(value: Any) -> str:
    """Return the SHA-256 of something that JSON can hold."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_preprocessor(preprocessor: nn.Module | None) -> dict:
    """Return what a data preprocessor does to the views."""
    if preprocessor is None:
        return {}
    normalises = getattr(preprocessor, '_enable_normalize', False)
    return dict(
        type=type(preprocessor).__name__,
        mean=preprocessor.mean.flatten().tolist() if normalises else None,
        std=preprocessor.std.flatten().tolist() if normalises else None,
        converts=bool(getattr(preprocessor, '_channel_conversion', False)),
        views=[
            {k: list(v) if isinstance(v, tuple) else v for k, v in r.items()}
            for r in map(vars, getattr(preprocessor, 'recipes', ()))
        ],
    )


def recipe_of(
    dataset: object, preprocessor: nn.Module | None, plain: bool = False
) -> dict:
    """Return all that makes the views out of the images.

    Args:
        dataset: a :class:`~mmssd.datasets.SeededViews`.
        preprocessor: of the model.
        plain: images as an evaluation pipeline gives them, instead of views.

    Raises:
        SetupError: if the views of the data set are not seeded.
    """
    if not hasattr(dataset, 'recipe'):
        raise SetupError(
            'a teacher cache goes with views that are drawn in advance, but '
            f'the data set is {type(dataset).__name__}: set '
            'teacher_cache=dict(path=..., draws=...) in the config, or wrap '
            "it, dataset=dict(type='SeededViews', draws=..., dataset=...)"
        )
    return dict(
        format=FORMAT,
        plain=plain,
        preprocessor=describe_preprocessor(preprocessor),
        **dataset.recipe(),
    )


def _write_json(path: Path, content: dict) -> None:
    part = path.with_name(path.name + '.part')
    part.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(part, path)


class TeacherCache:
    """Rows of a frozen teacher for views that can be made again.

    A folder with one plain array per field (``features.npy``,
    ``embeddings.npy``), each ``(R, V, D)``, row ``image * draws + draw``,
    read by memory mapping, and ``manifest.json`` with the hashes of teacher,
    recipe and list of images, and how many rows are done.

    Args:
        folder: of an existing cache.

    Raises:
        SetupError: if there is none, or it cannot be read.
    """

    def __init__(self, folder: str | Path, writable: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        path = self.folder / MANIFEST
        if not path.is_file():
            raise SetupError(
                f'there is no teacher cache in {self.folder} (no {MANIFEST})'
                ': make it by `python tools/cache_teacher.py CONFIG`'
            )
        try:
            self.manifest = json.loads(path.read_text())
            self.arrays = {
                field: np.load(
                    self.folder / f'{field}.npy',
                    mmap_mode='r+' if writable else 'r',
                )
                for field in self.manifest['fields']
            }
            self.views = tuple(self.manifest['views'])
            self.draws = self.manifest['recipe']['draws']
            self.hashes = self.manifest['hashes']
            self.done = self.manifest['done']
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SetupError(
                f'the teacher cache in {self.folder} cannot be read '
                f'({error}): remove it and make it anew'
            ) from error
        self.images = self.manifest['images']
        for field, array in self.arrays.items():
            wanted = (self.images * self.draws, len(self.views))
            if array.ndim != 3 or array.shape[:2] != wanted:
                raise SetupError(
                    f'{field}.npy of the teacher cache in {self.folder} has '
                    f'shape {array.shape}, not {(*wanted, "D")}: remove the '
                    'folder and make it anew'
                )

    # --- writing ------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: str | Path,
        hashes: dict[str, str],
        recipe: dict,
        images: int,
        views: Sequence[int],
        widths: dict[str, int],
        dtype: str = 'float32',
        about: dict | None = None,
    ) -> 'TeacherCache':
        """Start an empty cache.

        Args:
            folder: made where it is missing.
            hashes: of teacher, recipe and list of images.
            recipe: of the views, for reading.
            images: how many.
            views: indices of the views that the teacher sees.
            widths: D of each field.
            dtype: ``'float32'`` or ``'float16'``, as stored.
            about: further remarks, such as the path of the teacher.

        Raises:
            SetupError: for another type, or a disk that is too small.
        """
        if dtype not in DTYPES:
            raise SetupError(
                f'dtype={dtype!r} of a teacher cache: must be one of {DTYPES}'
            )
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        rows = images * recipe['draws']
        size = sum(widths.values()) * rows * len(views)
        size *= np.dtype(dtype).itemsize
        free = shutil.disk_usage(folder).free
        if size > free:
            raise SetupError(
                f'a teacher cache of {rows} rows ({images} images, '
                f'{recipe["draws"]} draws) takes {size / 2**30:.1f} GiB, but '
                f'{folder} has {free / 2**30:.1f} GiB left: take fewer '
                "draws, dtype='float16', or another disk"
            )
        for field, width in widths.items():
            np.lib.format.open_memmap(
                folder / f'{field}.npy',
                mode='w+',
                dtype=dtype,
                shape=(rows, len(views), width),
            ).flush()
        _write_json(
            folder / MANIFEST,
            dict(
                hashes=hashes,
                done=0,
                images=images,
                views=list(views),
                fields=list(widths),
                dtype=dtype,
                recipe=recipe,
                about=about or {},
            ),
        )
        return cls(folder, writable=True)

    def write(self, start: int, encodings: Encodings) -> None:
        """Store the rows of consecutive draws.

        Args:
            start: row of the first one.
            encodings: with an entry per cached view in each field.

        Raises:
            FloatingPointError: for a number that is not finite as stored.
            ValueError: for other views or another width than the cache has.
        """
        for field, array in self.arrays.items():
            found = getattr(encodings, field)
            shape = (len(found), *(found[0].shape[1:] if found else ()))
            if shape != array.shape[1:]:
                raise ValueError(
                    f'{field} of the teacher for rows from {start} on are '
                    f'{shape} (views, width), those of the cache in '
                    f'{self.folder} {array.shape[1:]}'
                )
            rows = torch.stack(found, 1).float().cpu()
            rows = rows.numpy().astype(array.dtype)
            if not np.isfinite(rows).all():
                raise FloatingPointError(
                    f'{field} of the teacher for rows {start} to '
                    f'{start + len(rows) - 1} are not finite as '
                    f"{array.dtype}: check the teacher, or dtype='float32'"
                )
            array[start : start + len(rows)] = rows
        self.done = start + len(rows)

    def flush(self) -> None:
        """Write to disk, then say in the manifest how far it is."""
        for array in self.arrays.values():
            array.flush()
        self.manifest['done'] = self.done
        _write_json(self.folder / MANIFEST, self.manifest)

    # --- reading ------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.done == self.images * self.draws

    def compare(self, **hashes: str) -> None:
        """Refuse what the cache was not made from.

        Args:
            **hashes: of ``teacher``, ``recipe`` or ``data``.

        Raises:
            SetupError: naming what differs.
        """
        for name, found in hashes.items():
            if found != self.hashes[name]:
                raise SetupError(
                    f'the teacher cache in {self.folder} is of '
                    f'{HASHES[name]}: its {name} has SHA-256 '
                    f'{self.hashes[name][:16]}..., that of this config '
                    f'{found[:16]}...; {MANIFEST} there says what it was '
                    'made from. Make another in another folder by '
                    '`python tools/cache_teacher.py CONFIG`, or train '
                    'without it'
                )

    def compare_making(
        self,
        fields: Sequence[str],
        views: Sequence[int],
        dtype: str,
        precision: str,
    ) -> None:
        """Refuse to complete or to hand over what is made otherwise.

        A complete cache may hold more fields and views than are asked for;
        rows are added with just those that it has.

        Args:
            fields: of :class:`Encodings` that heads ask for.
            views: indices of the views that they ask for.
            dtype: to be stored.
            precision: to run the teacher in.

        Raises:
            SetupError: naming what differs.
        """
        if self.complete:
            self.check_fields(fields, views)
        pairs = dict(
            dtype=(self.manifest['dtype'], dtype),
            precision=(self.manifest['about'].get('precision'), precision),
        )
        if not self.complete:
            pairs['fields'] = (sorted(self.arrays), sorted(fields))
            pairs['views'] = (list(self.views), list(views))
        differing = [
            f'{name} ({there!r} there, {here!r} here)'
            for name, (there, here) in pairs.items()
            if there != here
        ]
        if differing:
            raise SetupError(
                f'the teacher cache in {self.folder}, with {self.done} of '
                f'{self.images * self.draws} rows, was made otherwise: it '
                f'differs in {", ".join(differing)}. Set it as there, or make '
                'another cache in another folder'
            )

    def compare_recipe(
        self,
        dataset: object,
        preprocessor: nn.Module | None,
        plain: bool = False,
    ) -> None:
        """Refuse other views or images than the cache was made from.

        Args:
            dataset: of the training.
            preprocessor: of the model.
            plain: see :func:`recipe_of`.

        Raises:
            SetupError: naming what differs, or if rows are missing.
        """
        recipe = recipe_of(dataset, preprocessor, plain)
        theirs = self.manifest['recipe']
        differing = [key for key in recipe if recipe[key] != theirs.get(key)]
        if differing:
            raise SetupError(
                f'the teacher cache in {self.folder} is of '
                f'{HASHES["recipe"]}, which differs in '
                + ', '.join(
                    f'{key} ({theirs.get(key)!r} there, {recipe[key]!r} here)'
                    for key in differing
                )
                + '. Set it as there, or make another cache in another '
                'folder by `python tools/cache_teacher.py CONFIG`'
            )
        self.compare(recipe=hash_of(recipe), data=dataset.data_hash())
        if not self.complete:
            raise SetupError(
                f'the teacher cache in {self.folder} has {self.done} of '
                f'{self.images * self.draws} rows: complete it by '
                '`python tools/cache_teacher.py CONFIG`'
            )

    def check_fields(self, fields: Sequence[str], views: Sequence[int]):
        """Refuse what the cache does not hold.

        Args:
            fields: of :class:`Encodings` that heads ask for.
            views: indices of the views that they ask for.

        Raises:
            SetupError: naming it.
        """
        for what, asked, known in (
            ('field', fields, self.arrays),
            ('view', views, self.views),
        ):
            lacking = sorted(set(asked) - set(known))
            if lacking:
                raise SetupError(
                    f'heads ask for {what} {lacking} of the teacher, of '
                    f'which the cache in {self.folder} has {list(known)}: '
                    'make it anew with this config, or train without it'
                )

    def encodings(
        self,
        keys: Tensor,
        fields: Sequence[str],
        views: Sequence[int],
        device: torch.device | str = 'cpu',
    ) -> Encodings:
        """Look up what the teacher says of the views of a batch.

        Args:
            keys: ``(N, 3)`` on the CPU: seed, image and draw.
            fields: of :class:`Encodings`.
            views: indices.
            device: where they are needed.

        Returns:
            float32 ``(N, D)`` per field and view.
        """
        _, image, draw = np.asarray(keys).T
        rows = image * self.draws + draw
        places = [self.views.index(view) for view in views]
        found = Encodings()
        for field in fields:
            values = self.arrays[field][rows].astype(np.float32)
            tensor = torch.from_numpy(values).transpose(0, 1).contiguous()
            if torch.device(device).type == 'cuda':
                tensor = tensor.pin_memory()
            tensor = tensor.to(device, non_blocking=True)
            setattr(found, field, [tensor[place] for place in places])
        return found
