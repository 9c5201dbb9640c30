"""A folder of pictures without labels."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff', '.bmp')
CHECKED_LINES = 100  # of a list, which show whether its paths fit the folder


@DATASETS.register_module()
class UnlabelledFolder(CustomDataset):
    """All pictures of a folder and its sub-folders, or those of a list.

    One line of a config does: ``data_root='/path/to/pictures'``. Upper-case
    extensions count, hidden files and folders do not, links to folders are
    followed. Items have ``img_path``; read them by ``LoadImage``, which
    copes with every kind of picture and with broken ones.

    Args:
        data_root (str): the folder.
        ann_file (str): a text file with one path a line, relative to the
            folder; itself relative to the folder or absolute. Empty lines
            are skipped. Defaults to ``''``: search the folder.
        extensions (Sequence[str]): of pictures, in lower case.
        **kwargs: of mmpretrain's ``BaseDataset``, such as ``pipeline``.

    Raises:
        FileNotFoundError: if the folder or the list is missing or holds no
            picture.
        ValueError: if no folder is given.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        extensions: Sequence[str] = EXTENSIONS,
        **kwargs,
    ) -> None:
        if not data_root:
            raise ValueError(
                "data_root='': give the folder of your pictures, for example "
                '--cfg-options train_dataloader.dataset.data_root=/path'
            )
        super().__init__(
            data_root=os.path.expanduser(data_root),
            ann_file=ann_file,
            with_label=False,
            extensions=extensions,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """List the paths, sorted, or in the order of the list."""
        root = Path(self.data_root)
        if not root.is_dir():
            raise FileNotFoundError(
                f'data_root={self.data_root!r}: there is no folder '
                f'{root.absolute()}. Put pictures there, or set data_root to '
                'the folder of yours, for example by --cfg-options '
                'train_dataloader.dataset.data_root=/path'
            )
        names = self._listed() if self.ann_file else sorted(self._walk(root))
        if not names:
            raise FileNotFoundError(
                f'{self.ann_file or root.absolute()} holds no picture '
                f'(looked for {", ".join(sorted(self.extensions))}, in all '
                'sub-folders, except for hidden ones). Set data_root to the '
                'folder of your pictures'
            )
        return [dict(img_path=os.path.join(root, name)) for name in names]

    def is_valid_file(self, filename: str) -> bool:
        """Whether a path within the folder is that of a picture."""
        path = PurePath(filename)
        hidden = any(part.startswith('.') for part in path.parts)
        return not hidden and path.suffix.lower() in self.extensions

    def _walk(self, root: Path) -> Iterator[str]:
        seen = set()  # links may lead in circles
        for folder, folders, files in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [name for name in folders if name[0] != '.']
            inside = os.path.relpath(folder, root)
            for name in files:
                if self.is_valid_file(name):
                    yield os.path.normpath(os.path.join(inside, name))

    def _listed(self) -> list[str]:
        path = Path(self.ann_file)
        if not path.is_file():
            raise FileNotFoundError(
                f'ann_file: there is no list {path.absolute()}; leave '
                'ann_file out to take all pictures of data_root'
            )
        lines = path.read_text().splitlines()
        names = [line.strip() for line in lines if line.strip()]
        for name in names[:CHECKED_LINES]:
            if not Path(self.data_root, name).is_file():
                raise FileNotFoundError(
                    f'{path} lists {name!r}, but there is no '
                    f'{Path(self.data_root, name).absolute()}: its paths '
                    'must be relative to data_root'
                )
        return names
