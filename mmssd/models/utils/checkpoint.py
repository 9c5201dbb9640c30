"""Opening checkpoints without running code, and loading them strictly.

``torch.load(weights_only=True)`` builds only what it is told to. mmengine's
own files hold a little more than tensors: numpy scalars and arrays, and log
histories, which are pickled with ``getattr``. The stand-ins below read
exactly that; nothing a file names is looked up, imported or called.
"""

import argparse
import ast
import hashlib
import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine import dist
from mmengine.fileio import get_file_backend
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import Tensor, nn

URL = ('http://', 'https://')
REMEDY = (
    "python -c \"import torch; c = torch.load(FILE, map_location='cpu', "
    "weights_only=False); torch.save(dict(state_dict=c.get('state_dict', c))"
    ', NEW_FILE)"'
)
LISTED = 10  # keys of one kind in an error
# ends of names that any checkpoint may lack: counters that no forward reads
OPTIONAL = ('num_batches_tracked',)


class CheckpointError(ValueError):
    """A checkpoint that is unsafe, damaged, or of another model."""


# --- stand-ins for what mmengine's files hold besides tensors ---------------


class _SavedDtype:
    """A numpy dtype of plain numbers or strings."""

    def __init__(self, name: str, align: bool = False, copy: bool = True):
        if not re.fullmatch(r'[biufc]\d+|[SU]\d+', str(name)):
            raise pickle.UnpicklingError(f'numpy dtype {name!r} is not plain')
        self.value = np.dtype(str(name))

    def __setstate__(self, state: tuple) -> None:
        # version, byte order, ...: the rest belongs to structured types
        self.value = self.value.newbyteorder(state[1])


class _SavedArray:
    """A numpy array, made once its state is known."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        order = 'F' if fortran else 'C'
        flat = np.frombuffer(_as_bytes(data), dtype=dtype.value)
        self.value = flat.reshape(shape, order=order).copy(order=order)


def _as_bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError('a numpy array of objects is not plain')
    return data


def _new_array(kind: type, shape: tuple, code: bytes) -> _SavedArray:
    return _SavedArray()


def _scalar(dtype: _SavedDtype, data: bytes) -> np.generic:
    return np.frombuffer(_as_bytes(data), dtype=dtype.value)[0]


class _SavedHistory(HistoryBuffer):
    """mmengine's log history, without the methods pickled into it.

    ``HistoryBuffer`` would take them into its class, for the whole process.
    """

    def __setstate__(self, state: dict) -> None:
        numbers = {
            name: _plain(state[name])
            for name in ('_log_history', '_count_history', 'max_length')
        }
        self.__class__ = HistoryBuffer
        self.__init__()
        self.__dict__.update(numbers)


def _method_name(owner: Any, name: str) -> str:
    """Stand in for the ``getattr`` that names a method of a history."""
    if owner is not _SavedHistory:
        raise pickle.UnpicklingError(
            'GLOBAL getattr was not an allowed global by default'
        )
    return str(name)


def _plain_dict(items: Any = ()) -> dict:
    return dict(items)


def _no_default(factory: Any = None) -> dict:
    return {}


def _no_bytes() -> bytes:
    return b''


SAFE_GLOBALS = {
    'argparse.Namespace': argparse.Namespace,
    'builtins.bytes': _no_bytes,
    'builtins.dict': dict,
    'builtins.float': float,
    'builtins.getattr': _method_name,
    'builtins.int': int,
    'builtins.list': list,
    'builtins.slice': slice,
    'builtins.str': str,
    'collections.defaultdict': _no_default,
    'mmengine.config.config.ConfigDict': _plain_dict,
    'mmengine.logging.history_buffer.HistoryBuffer': _SavedHistory,
    'numpy.dtype': _SavedDtype,
    'numpy.ndarray': _SavedArray,
    # numpy 1 and 2
    'numpy.core.multiarray._reconstruct': _new_array,
    'numpy._core.multiarray._reconstruct': _new_array,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
}


def _plain(value: Any, seen: set[int] | None = None) -> Any:
    """Replace the stand-ins inside nested containers."""
    seen = set() if seen is None else seen
    if isinstance(value, (_SavedArray, _SavedDtype)):
        return value.value
    if type(value) is tuple:
        return tuple(_plain(item, seen) for item in value)
    if isinstance(value, (dict, list, argparse.Namespace)):
        if id(value) in seen:
            return value
        seen.add(id(value))
        items = vars(value) if isinstance(value, argparse.Namespace) else value
        keys = list(items) if isinstance(items, dict) else range(len(items))
        for key in keys:
            items[key] = _plain(items[key], seen)
    return value


@contextmanager
def _only_safe_globals() -> Iterator[None]:
    """Allow :data:`SAFE_GLOBALS`, and nothing that others have allowed."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(
        [(stand_in, name) for name, stand_in in SAFE_GLOBALS.items()]
    )
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


# --- opening ----------------------------------------------------------------


def _first_line(error: Exception) -> str:
    text = str(error).split('WeightsUnpickler error:')[-1]
    lines = text.strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0]}'.rstrip(': ')


# in the messages of torch, and in those above
REFUSED = (
    r'GLOBAL (\S+) (?:was not an allowed|whose module)',
    r'unrecognized function (.+)',
    r'((?:a )?numpy .* is not plain)',
    r'((?:Can only|Only|must be imported) .+)',
)


def _refused(error: Exception) -> str | None:
    """Return what in a file torch refused to build, if it was that."""
    for pattern in REFUSED:
        found = re.search(pattern, str(error))
        if found:
            return found.group(1)
    return None


def _open(
    file: str | BinaryIO, name: str, map_location: Any, zipped: bool
) -> dict:
    """Read a torch file, with errors that name it."""
    try:
        with _only_safe_globals():
            checkpoint = torch.load(
                file, map_location=map_location, weights_only=True
            )
        checkpoint = _plain(checkpoint)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        what = _refused(error)
        if what is None:
            what = f'not a checkpoint of torch ({_first_line(error)})'
            raise CheckpointError(f'{name}: {what}') from None
        raise CheckpointError(
            f'{name}: refused, because it holds more than weights and '
            f'training state: {what}. Unpickling it could run code. If you '
            'trust the file, write its weights anew, where running code does '
            f'no harm: {REMEDY}'
        ) from None
    except Exception as error:  # damaged pickles raise anything
        if 'deserialize' in str(error) and 'CUDA' in str(error):
            reason = f"give map_location='cpu' ({_first_line(error)})"
        elif 'TorchScript' in str(error):
            reason = 'a TorchScript program, not a checkpoint of weights'
        elif zipped:
            reason = (
                f'truncated or damaged ({_first_line(error)}): copy or '
                'download it again'
            )
        else:
            reason = f'not a checkpoint of torch ({_first_line(error)})'
        raise CheckpointError(f'{name}: {reason}') from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{name}: holds a {type(checkpoint).__name__}, not a dict of '
            'weights'
        )
    return checkpoint


def _open_safetensors(path: Path, map_location: Any) -> dict:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f'{path}: needs the package safetensors: pip install safetensors'
        ) from error
    try:
        return load_file(path, device=str(map_location or 'cpu'))
    except SafetensorError as error:
        raise CheckpointError(
            f'{path}: truncated or damaged ({_first_line(error)})'
        ) from error


def _hub_file(url: str) -> Path:
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    return folder / Path(urlparse(url).path).name


def is_fetched(url: str) -> bool:
    """Whether :func:`fetch` would find a local copy of a URL."""
    return _hub_file(url).exists()


def fetch(url: str) -> Path:
    """Return the local copy of a URL, downloaded if there is none.

    Files lie in torch's hub folder, where torch and mmengine look as well.
    """
    path = _hub_file(url)

    def download() -> None:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                url, str(path), progress=dist.is_main_process()
            )

    # one process first; the others find the file, or are elsewhere
    try:
        if dist.is_main_process():
            download()
    finally:
        dist.barrier()
    download()
    return path


def find_checkpoint(path: str | Path) -> Path:
    """Return the local file of a path or URL.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if it is a folder or an empty file.
    """
    if str(path).startswith(URL):
        path = fetch(str(path))
    path = Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f'{path}: a folder, not a checkpoint file')
    if not path.is_file():
        raise FileNotFoundError(
            f'checkpoint {path} not found (looked at {path.absolute()})'
        )
    if path.stat().st_size == 0:
        raise CheckpointError(
            f'{path}: an empty file: copy or download it again'
        )
    return path


def load_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict:
    """Open a checkpoint without ever running code of it.

    Reads what torch and mmengine write, and ``.safetensors`` files. Allowed
    besides tensors and plain containers are the names in
    :data:`SAFE_GLOBALS`, each read by a stand-in of ours.

    Args:
        path: a file, or an ``http(s)`` URL.
        map_location: as in ``torch.load``. Defaults to ``'cpu'``.

    Returns:
        The content, as it was saved.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is empty, truncated, no checkpoint, or
            holds anything else than weights and training state.
    """
    path = find_checkpoint(path)
    if path.suffix == '.safetensors':
        return _open_safetensors(path, map_location)
    with open(path, 'rb') as file:
        zipped = file.read(2) == b'PK'
    return _open(str(path), str(path), map_location, zipped)


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with open(Path(path).expanduser(), 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


# --- mmengine's loaders -----------------------------------------------------
# Their names are read by mmengine for its log.


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Open a local file for mmengine."""
    return load_checkpoint(filename, map_location)


def load_from_http(filename: str, map_location: Any = None) -> dict:
    """Download a file for mmengine, and open it."""
    return load_checkpoint(filename, map_location)


def load_from_torchvision(filename: str, map_location: Any = None) -> dict:
    """Open the torchvision model ``torchvision://<name>`` for mmengine."""
    urls = mmengine_checkpoint.get_torchvision_models()
    return load_checkpoint(_look_up(urls, filename), map_location)


def load_from_openmmlab(filename: str, map_location: Any = None) -> dict:
    """Open the model ``open-mmlab://<name>`` for mmengine."""
    urls = dict(mmengine_checkpoint.get_external_models())
    for old, new in mmengine_checkpoint.get_deprecated_model_names().items():
        urls[old] = urls.get(new)
    found = _look_up(urls, filename)
    if not found.startswith(URL):
        found = Path(mmengine_checkpoint._get_mmengine_home()) / found
    return load_checkpoint(found, map_location)


def load_from_mmcls(filename: str, map_location: Any = None) -> dict:
    """Open the backbone of the model ``mmcls://<name>`` for mmengine."""
    urls = mmengine_checkpoint.get_mmcls_models()
    checkpoint = load_checkpoint(_look_up(urls, filename), map_location)
    return mmengine_checkpoint._process_mmcls_checkpoint(checkpoint)


def load_from_ceph(filename: str, map_location: Any = None) -> dict:
    """Open an object of a Ceph or Petrel store for mmengine."""
    backend = get_file_backend(filename, backend_args={'backend': 'petrel'})
    content = backend.get(filename)
    return _open(
        io.BytesIO(content), filename, map_location, content[:2] == b'PK'
    )


def load_from_pavi(filename: str, map_location: Any = None) -> dict:
    """Refuse: files of Pavi have to be downloaded first."""
    raise CheckpointError(
        f'{filename}: download the file, and give its local path'
    )


def _look_up(urls: dict, filename: str) -> str:
    name = filename.split('://', 1)[1]
    if not urls.get(name):
        raise CheckpointError(
            f'{filename}: no model {name!r} is known to the installed mmengine'
        )
    return urls[name]


def install_safe_loader() -> None:
    """Make mmengine open every checkpoint by :func:`load_checkpoint`.

    mmengine tries ``weights_only`` first, but on failure only warns and
    loads again without it; downloads are opened without it at once. This
    replaces its loaders for all schemes: the ``init_cfg`` of any model,
    ``load_from`` and ``resume`` of the runner go through them.
    """
    for prefixes, loader in (
        ('', load_from_local),
        (list(URL), load_from_http),
        (['modelzoo://', 'torchvision://'], load_from_torchvision),
        (['open-mmlab://', 'openmmlab://'], load_from_openmmlab),
        ('mmcls://', load_from_mmcls),
        ([r'(\S+\:)?s3://', r'(\S+\:)?petrel://'], load_from_ceph),
        ('pavi://', load_from_pavi),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)


# --- the config that a checkpoint carries -----------------------------------


def _value(node: ast.AST) -> Any:
    """Evaluate constants, containers and calls of ``dict``, nothing else."""
    if isinstance(node, ast.Call):
        if getattr(node.func, 'id', None) != 'dict':
            raise ValueError(f'line {node.lineno} calls a function')
        return dict(
            *(_value(argument) for argument in node.args),
            **{pair.arg: _value(pair.value) for pair in node.keywords},
        )
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key): _value(value) for key, value in pairs}
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    return ast.literal_eval(node)


def read_config(text: str) -> dict[str, Any]:
    """Read model, scope and preprocessor from the text in a checkpoint.

    The text is Python that mmengine would run; a file from elsewhere may
    contain anything, so here it is only parsed.

    Raises:
        ValueError: if it holds more than constants.
    """
    values = {}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign):
            continue
        name = getattr(statement.targets[0], 'id', None)
        if name in ('model', 'default_scope', 'data_preprocessor'):
            values[name] = _value(statement.value)
    return values


# --- state dicts ------------------------------------------------------------


def extract_state_dict(
    checkpoint: dict, source: str | Path = 'checkpoint'
) -> OrderedDict[str, Tensor]:
    """Find the weights in a checkpoint.

    Looks at ``state_dict``, then ``model``, then takes the dict itself if
    it is flat. A leading ``module.`` of data-parallel wrappers is dropped.

    Args:
        checkpoint: as :func:`load_checkpoint` returns it.
        source: its name in errors.

    Raises:
        CheckpointError: if there are none.
    """
    for name in ('state_dict', 'model', None):
        found = checkpoint if name is None else checkpoint.get(name)
        if (
            isinstance(found, dict)
            and found
            and all(isinstance(key, str) for key in found)
            and all(isinstance(value, Tensor) for value in found.values())
        ):
            break
    else:
        raise CheckpointError(
            f'{source}: holds no weights: neither state_dict nor model is a '
            'dict of tensors, nor is the file itself; its keys are '
            f'{_listing([str(key) for key in checkpoint])}'
        )
    return OrderedDict(
        (key.removeprefix('module.'), value) for key, value in found.items()
    )


def _listing(keys: Sequence[str]) -> str:
    text = ', '.join(keys[:LISTED]) or 'none'
    rest = len(keys) - LISTED
    return f'{text}, ... ({rest} more)' if rest > 0 else text


def find_prefix(wanted: Iterable[str], given: Iterable[str]) -> str | None:
    """Return the prefix under which most of the wanted keys are given.

    Args:
        wanted: keys of a model.
        given: keys of a file.

    Returns:
        ``None`` if fewer than half of the wanted keys are found.
    """
    wanted, given = list(wanted), set(given)
    if not wanted:
        return None
    counts: dict[str, int] = {}
    ends = set(wanted)
    for key in given:
        parts = key.split('.')
        for cut in range(1, len(parts)):
            if '.'.join(parts[cut:]) in ends:
                prefix = '.'.join(parts[:cut]) + '.'
                counts[prefix] = counts.get(prefix, 0) + 1
    if not counts:
        return None
    # the shortest of equals: the student before its teacher
    best = min(counts, key=lambda prefix: (-counts[prefix], len(prefix)))
    return best if counts[best] >= len(wanted) / 2 else None


def load_strictly(
    module: nn.Module,
    state_dict: dict[str, Tensor],
    source: str | Path,
    ignore: Sequence[str] = (),
    name: str | None = None,
) -> None:
    """Load weights that must fit a module one to one.

    Nothing is changed if they do not. Counters of batch norms
    (``num_batches_tracked``), which old files lack, may be missing.

    Args:
        module: receives the weights.
        state_dict: the weights.
        source: their name in errors.
        ignore: patterns, as of file names, of keys that may be missing, and
            that are not loaded if they are given.
        name: of the module in errors. Defaults to its class.

    Raises:
        CheckpointError: listing the missing keys, the surplus keys and the
            wrong shapes, all at once.
    """
    own = module.state_dict()

    def ignored(key: str) -> bool:
        return any(fnmatch(key, pattern) for pattern in ignore)

    given = {k: v for k, v in state_dict.items() if not ignored(k)}
    missing = [
        key
        for key in own
        if key not in given and not ignored(key) and not key.endswith(OPTIONAL)
    ]
    surplus = [key for key in given if key not in own]
    shapes = [
        f'{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}'
        for key, value in given.items()
        if key in own and value.shape != own[key].shape
    ]
    if missing or surplus or shapes:
        name = name or type(module).__name__
        text = f'{source} does not fit the {name} of the config'
        if not any(key in own for key in given):
            text += (
                ': not one key matches, it is of another architecture or '
                f'layout. The file has {_listing(list(given))}; the model '
                f'has {_listing(list(own))}'
            )
        else:
            for what, keys in (
                ('missing key(s)', missing),
                ('surplus key(s)', surplus),
                ('wrong shape(s)', shapes),
            ):
                if keys:
                    text += f'\n  {len(keys)} {what}: {_listing(keys)}'
        prefix = find_prefix(own, given)
        if prefix is not None:
            text += f'\n  With the prefix {prefix!r} its keys would match.'
        raise CheckpointError(text)
    module.load_state_dict(given, strict=False)
