"""The teacher: a network that is loaded strictly, or trained in the run."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils.checkpoint import (
    CheckpointError,
    file_sha256,
    find_checkpoint,
    load_checkpoint,
    load_strictly,
    read_config,
)
from ..utils.input_statistics import (
    InputStatistics,
    input_statistics,
    renormalise,
)
from ..utils.layouts import (
    AUTO,
    check_layout,
    find_weights,
    map_weights,
    trained_input,
)
from ..utils.plan import SetupError
from ..utils.step import Encodings
from .teacher_cache import TeacherCache

# what a file may hold of a teacher
PARTS = ('backbone', 'neck', 'head')
WITH_HEAD = ('mmssd', 'mmpretrain')  # layouts whose `head.*` is known
# what a checkpoint holds of a frozen teacher
REFERENCE = ('checkpoint_sha256', 'checkpoint_path')
# values of `checkpoint` that are not files
UNNAMED = ('random', 'given')


def input_of_run(checkpoint: dict) -> InputStatistics | None:
    """Read how a run normalised from the config that its file carries.

    Files of ours and of OpenMMLab carry one.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    if not isinstance(text, str):
        return None
    try:
        config = read_config(text)
        model = config.get('model') or {}
        return input_statistics(
            model.get('data_preprocessor') or config.get('data_preprocessor')
        )
    except (AttributeError, SyntaxError, ValueError):
        return None  # not of constants alone: nothing to compare


def _encode(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _decode(text: Tensor) -> str:
    return bytes(text.tolist()).decode(errors='replace')


def _drop_frozen_weights(
    teacher: 'Teacher', state_dict: dict, prefix: str, metadata: dict
) -> None:
    """Keep the reference to the file of a frozen teacher, not its weights.

    A hook that both ``Module.state_dict`` and mmengine's own traversal call.
    """
    if not teacher.by_reference:
        return
    names = tuple(f'{prefix}{part}.' for part in PARTS)
    for key in [key for key in state_dict if key.startswith(names)]:
        del state_dict[key]


def _forgive_frozen_weights(teacher: 'Teacher', incompatible) -> None:
    """Do not report weights as missing that were never saved."""
    if not teacher.by_reference:
        return
    names = tuple(f'{teacher._load_prefix}{part}.' for part in PARTS)
    missing = incompatible.missing_keys
    missing[:] = [key for key in missing if not key.startswith(names)]


@dataclass(frozen=True)
class Loaded:
    """What was read of a teacher's file.

    Attributes:
        path: the local file.
        layout: as which it was read.
        keys: of ours, ``backbone.*`` and ``neck.*``, that it filled.
        unused: keys of the file that are of neither, such as those of heads
            and momentum encoders.
        input: how the network was trained to see its images, as the file or
            its layout tells; ``None`` if neither does.
    """

    path: Path
    layout: str
    keys: tuple[str, ...]
    unused: tuple[str, ...]
    input: InputStatistics | None = None


@MODELS.register_module()
class Teacher(BaseModule):
    """A backbone and its projector that teach, frozen or online.

    **Frozen**: its weights are loaded strictly in ``init_weights()``, which
    the runner calls before training; from then on it stays in evaluation
    mode, and no parameter gets a gradient. A checkpoint of the run holds the
    path and the SHA-256 of its file instead of its weights; loading such a
    checkpoint checks that the teacher of the config is the same file.

    **Online**: trained in the same run, and saved like any other network.
    With ``checkpoint`` it starts from these weights, else from the
    initialisation of its backbone and neck.

    Args:
        backbone (dict | nn.Module): maps ``(N, 3, H, W)`` to a map, a vector
            or a tuple of maps.
        neck (dict | nn.Module, optional): the projector. Without one, that
            of the file is ignored.
        checkpoint (str, optional): file or ``http(s)`` URL of the weights. A
            frozen teacher needs one; the two exceptions have to be asked for
            by name, and are saved with their weights: ``'random'`` is a
            frozen, untrained network, ``'given'`` a network that was passed
            as loaded modules.
        frozen (bool): Defaults to True.
        prefix (str): the network inside the file: ``''`` for the keys
            ``backbone.*`` and ``neck.*`` (the student of a run of ours, or a
            model of mmpretrain), ``'teacher.'`` for the online teacher of an
            OSS run. Published layouts know where their network is; of those
            with several, this names another, such as ``'student.'`` of
            DINO.
        head (dict | nn.Module, optional): its classification head, for
            objectives that read logits; of mmpretrain, as ``head.*`` in the
            file.
        layout (str): who wrote the file: ``'moco'``, ``'swav'``, ... (see
            ``mmssd.models.utils.LAYOUTS``), or ``'auto'`` to find out by
            its keys. Defaults to ``'mmssd'``.
        extra_keys (dict[str, str], optional): further tensors of the file
            that some head needs, key by name, such as
            ``dict(prototypes='heads.clustering.prototypes.weight')``. Keys
            are those of the whole file, without ``prefix``.
        imitate_train_mode (bool): let a frozen teacher follow the mode of
            the model, as the published code of DisCo and Visual Priors
            does: in training its batch norms take the statistics of the
            batch; their running ones drift, unused and unsaved. Its
            parameters stay. Defaults to False.
        mean, std (Sequence[float], optional): how the teacher's input is
            normalised, of pixels in 0 to 255, frozen or online. Views come
            normalised for the student, and are normalised anew, see
            :func:`renormalise`. Without them the teacher sees what the
            student sees; where its file or the layout of that tells of
            other statistics, loading it is an error, and where nothing
            tells, a warning names what is assumed.
        channel_order (str, optional): ``'RGB'`` or ``'BGR'``, of the
            teacher's input, ``mean`` and ``std``; views in the other order
            are flipped. The data preprocessor has to tell that of the
            student by ``to_rgb=True``. Defaults to the same order as the
            student's.
        input_size (int | Sequence[int], optional): side, or height and
            width, in pixels, to which every view is resized for the teacher,
            bilinearly with antialiasing. Defaults to that of the view.
        cache (str, optional): folder of a :class:`TeacherCache`; the
            networks of a frozen teacher then do not run, and its rows are
            looked up. The data have to be
            :class:`~mmssd.datasets.SeededViews`. A teacher that is looked
            up after other weights, views or images than those of the config
            is refused.
        init_cfg (dict, optional): mmengine's initialisation config, for a
            teacher without checkpoint.

    Raises:
        ValueError: if a frozen teacher has no checkpoint, the layout is not
            known, extra keys are asked for without a file, an online
            teacher is to imitate a mode, the input is not that of an
            image, or a cache is given to a teacher that changes.

    Note:
        Nothing is read on construction, so that a config builds without its
        teacher's file. The weights under ``prefix`` must fit one to one;
        other parts of the file (objectives, counterparts, optimizer) may be
        there.
    """

    checkpoint_sha256: Tensor | None
    checkpoint_path: Tensor | None

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module | None = None,
        checkpoint: str | None = None,
        frozen: bool = True,
        prefix: str = '',
        layout: str = 'mmssd',
        extra_keys: dict[str, str] | None = None,
        imitate_train_mode: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channel_order: str | None = None,
        input_size: int | Sequence[int] | None = None,
        head: dict | nn.Module | None = None,
        cache: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_layout(layout)
        self._set_input(mean, std, channel_order, input_size)
        if frozen and not checkpoint:
            raise ValueError(
                'a frozen teacher needs weights: set teacher.checkpoint to '
                "a file (or to 'random' for an untrained teacher, or to "
                "'given' for modules that are loaded already)"
            )
        if imitate_train_mode and not frozen:
            raise ValueError(
                'imitate_train_mode=True is for a frozen teacher; an online '
                'one (frozen=False) follows the mode of the model anyway'
            )
        if cache and (not frozen or imitate_train_mode):
            raise ValueError(
                f'cache={cache!r}: what a teacher says can be kept only if '
                'it stays the same: set frozen=True and '
                'imitate_train_mode=False, or leave the cache out'
            )
        self.cache = cache
        self._cached: TeacherCache | None = None
        self._cache_is_ours = False
        self.imitate_train_mode = imitate_train_mode
        self.from_file = bool(checkpoint) and checkpoint not in UNNAMED
        if extra_keys and not self.from_file:
            raise ValueError(
                f'extra_keys={dict(extra_keys)} of the teacher are read from '
                f'its file, but checkpoint={checkpoint!r}'
            )
        self.backbone = self._build(backbone)
        self.neck = None if neck is None else self._build(neck)
        self.head = None if head is None else self._build(head)
        self.checkpoint = checkpoint
        self.frozen = frozen
        self.prefix = (
            prefix if prefix.endswith('.') or not prefix else (prefix + '.')
        )
        self.layout = layout
        self.extra_keys = dict(extra_keys or {})
        self.extras = nn.Module()
        self.loaded: Loaded | None = None
        # of the loaded file; and of the file that a resumed checkpoint names
        self.sha256: str | None = None
        self._recorded: tuple[str, str] | None = None
        self._load_prefix = ''
        self.register_buffer('checkpoint_sha256', None)
        self.register_buffer('checkpoint_path', None)
        if self.by_reference:
            self.checkpoint_sha256 = torch.zeros(32, dtype=torch.uint8)
            self.checkpoint_path = _encode(str(checkpoint))
        self.register_state_dict_post_hook(_drop_frozen_weights)
        self.register_load_state_dict_post_hook(_forgive_frozen_weights)
        if frozen:
            self.requires_grad_(False)
            self.train(False)

    @staticmethod
    def _build(module: dict | nn.Module) -> nn.Module:
        if isinstance(module, nn.Module):
            return module
        return MODELS.build(module)

    # --- input --------------------------------------------------------------

    def _set_input(
        self,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        channel_order: str | None,
        input_size: int | Sequence[int] | None,
    ) -> None:
        if (mean is None) != (std is None):
            raise ValueError(
                f'mean={mean}, std={std} of the teacher: give both or none'
            )
        self.input: InputStatistics | None = None
        if mean is not None:
            self.input = InputStatistics(mean, std, channel_order)
        elif channel_order is not None:
            raise ValueError(
                f'channel_order={channel_order!r} of the teacher is that of '
                'its mean and std: give them, too'
            )
        if isinstance(input_size, int):
            input_size = (input_size, input_size)
        if input_size is not None and (
            len(input_size) != 2 or min(input_size) < 1
        ):
            raise ValueError(
                f'input_size={input_size} of the teacher: give one side, or '
                'height and width, in pixels'
            )
        self.input_size = None if input_size is None else tuple(input_size)
        # set by match_input; one affine map per channel
        self.student_input: InputStatistics | None = None
        self._shares = False  # known once match_input was called
        self._flips = False
        self.register_buffer('input_scale', None, persistent=False)
        self.register_buffer('input_shift', None, persistent=False)

    def match_input(self, student: InputStatistics | None) -> None:
        """Learn how the views that come are normalised.

        The algorithm calls this with the statistics of its data
        preprocessor.

        Args:
            student: ``None`` if they are not known.

        Raises:
            ValueError: if the teacher has its own, and those are unknown.
        """
        self.student_input = student
        self._shares = self.input is None
        if self.input is None:
            return
        if student is None:
            raise ValueError(
                f'the teacher has its own mean={list(self.input.mean)} and '
                f"std={list(self.input.std)}, but those of the student's "
                'input are not known: set data_preprocessor.mean and .std'
            )
        target = self.input
        if target.channel_order and not student.channel_order:
            raise ValueError(
                f'the teacher sees {target.channel_order}, but whether the '
                'student sees RGB or BGR is not known, as its data '
                'preprocessor converts neither: leave teacher.channel_order '
                'out if it is the same, or set data_preprocessor.to_rgb'
            )
        self._flips = bool(
            target.channel_order
            and student.channel_order != target.channel_order
        )
        if self._flips:
            student = student.flipped()
        if (student.mean, student.std) == (target.mean, target.std):
            self.input_scale = self.input_shift = None
            return
        for name, values in zip(
            ('input_scale', 'input_shift'),
            renormalise(student, target),
            strict=True,
        ):
            setattr(self, name, torch.tensor(values).view(-1, 1, 1))

    def adapt(self, views: list[Tensor]) -> list[Tensor]:
        """Turn views as the student sees them into those of the teacher.

        Args:
            views: each ``(N, 3, H, W)``.

        Returns:
            Views in the teacher's channel order, size and normalisation;
            the same tensors where nothing differs.

        Raises:
            RuntimeError: if :meth:`match_input` should have been called.
        """
        if self.input is not None and self.student_input is None:
            raise RuntimeError(
                'the teacher has its own mean and std, but nobody told it '
                "those of the student's input: call match_input()"
            )
        return [self._adapt(view) for view in views]

    def _adapt(self, view: Tensor) -> Tensor:
        if self._flips:
            view = view.flip(1)
        if self.input_size not in (None, tuple(view.shape[2:])):
            view = F.interpolate(
                view,
                size=self.input_size,
                mode='bilinear',
                align_corners=False,
                antialias=True,
            )
        if self.input_scale is not None:
            view = view * self.input_scale + self.input_shift
        return view

    def _check_statistics(
        self, trained: InputStatistics | None, source: str
    ) -> None:
        """Never share the student's statistics in silence.

        Args:
            trained: of the network in the file, if known.
            source: name of the file in messages.

        Raises:
            CheckpointError: if the student's are others.
        """
        if self.input is not None or not self._shares:
            return
        student = self.student_input
        if trained is None or student is None:
            MMLogger.get_current_instance().warning(
                f'teacher checkpoint {source} sees its input as the student '
                'does, '
                + (
                    f'{student}'
                    if student is not None
                    else 'whose data preprocessor does not say how'
                )
                + '; it was trained on '
                + (
                    f'{trained}'
                    if trained is not None
                    else 'what neither the file nor its layout tells'
                )
                + ': set teacher.mean and teacher.std if that is not the same'
            )
        elif not trained.agrees(student):
            raise CheckpointError(
                f'teacher checkpoint {source} was trained on {trained}, the '
                f"student's input is {student}: set teacher.mean="
                f'{list(trained.mean)}, teacher.std={list(trained.std)}, '
                f'teacher.channel_order={trained.channel_order!r}'
            )

    @property
    def by_reference(self) -> bool:
        """Whether a checkpoint holds path and hash instead of weights."""
        return self.frozen and self.from_file

    def train(self, mode: bool = True) -> 'Teacher':
        """Set the mode; a frozen teacher stays in evaluation mode.

        Unless it imitates published code, see ``imitate_train_mode``.
        """
        return super().train(
            mode and (not self.frozen or self.imitate_train_mode)
        )

    # --- loading ------------------------------------------------------------

    def init_weights(self) -> None:
        """Load the checkpoint, or initialise what has none.

        Raises:
            FileNotFoundError: if the checkpoint is missing.
            ValueError: if it cannot be read, holds no such network, does not
                fit one to one, lacks an extra key, or is not the file that
                the loaded checkpoint of the run was trained with.
        """
        if self.checkpoint == 'given':
            self._mark_initialised()
        elif self.by_reference:
            self.load()
            self._mark_initialised()
        else:
            super().init_weights()
            if self.from_file:
                self.load()
        if self.frozen:
            self.requires_grad_(False)
            self.train(False)

    def _mark_initialised(self) -> None:
        """Keep others from initialising the parts anew."""
        for module in self.modules():
            if isinstance(module, BaseModule):
                module._is_init = True

    def load(self) -> None:
        """Load backbone, neck and extra tensors from the file, strictly."""
        try:
            path = find_checkpoint(self.checkpoint)
            checkpoint = load_checkpoint(path)
            weights = find_weights(checkpoint, str(path))
        except (FileNotFoundError, CheckpointError) as error:
            raise type(error)(
                f'model.teacher.checkpoint={self.checkpoint}: {error}. Set '
                'it to the file of the trained teacher'
            ) from error
        self._load_extras(weights, str(path))
        source = f'teacher checkpoint {path}'
        parts, layout = map_weights(
            weights,
            self.layout,
            self.backbone,
            self.neck,
            self.prefix,
            source,
        )
        trained = input_of_run(checkpoint) or trained_input(
            layout, self.backbone, weights if self.layout == AUTO else None
        )
        self._check_statistics(trained, str(path))
        if self.head is not None:
            parts.update(self._head_weights(weights, layout, source))
        load_strictly(
            nn.ModuleDict(
                {
                    part: getattr(self, part)
                    for part in PARTS
                    if getattr(self, part) is not None
                }
            ),
            parts,
            f'{source} (prefix {self.prefix!r}, layout {layout!r})',
            name='teacher',
        )
        self.sha256 = file_sha256(path)
        used = {id(value) for value in parts.values()}
        self.loaded = Loaded(
            path=path,
            layout=layout,
            keys=tuple(parts),
            unused=tuple(k for k, v in weights.items() if id(v) not in used),
            input=trained,
        )
        self._compare_files()
        if self.by_reference:
            device = self.checkpoint_sha256.device
            digest = list(bytes.fromhex(self.sha256))
            self.checkpoint_sha256.copy_(torch.tensor(digest))
            self.checkpoint_path = _encode(str(self.checkpoint)).to(device)
        MMLogger.get_current_instance().info(
            f'teacher loaded from {path}, layout {layout}, '
            f'{len(parts)} tensors, sha256 {self.sha256}'
        )

    def _head_weights(
        self, weights: dict[str, Tensor], layout: str, source: str
    ) -> dict[str, Tensor]:
        start = f'{self.prefix}head.'
        found = {
            key.removeprefix(self.prefix): value
            for key, value in weights.items()
            if key.startswith(start)
        }
        if layout not in WITH_HEAD or not found:
            raise CheckpointError(
                f'{source} (layout {layout!r}): no key begins with '
                f'{start!r}, but the teacher has a head; it is read from '
                f'files of {" or ".join(WITH_HEAD)} alone'
            )
        return found

    def _load_extras(self, weights: dict[str, Tensor], source: str) -> None:
        device = next(self.backbone.parameters()).device
        for name, key in self.extra_keys.items():
            if key not in weights:
                ends = [k for k in weights if k.endswith(key.split('.')[-1])]
                similar = get_close_matches(key, ends, n=5, cutoff=0.3)
                raise CheckpointError(
                    f'teacher checkpoint {source}: no tensor {key!r}, asked '
                    f'for by extra_keys[{name!r}]; similar keys: '
                    f'{", ".join(similar) or "none"}'
                )
            self.extras.register_buffer(
                name, weights[key].to(device), persistent=False
            )

    def ensure_loaded(self) -> None:
        """Refuse to teach with weights that were never loaded.

        Raises:
            RuntimeError: if the file has not been read.
        """
        if self.from_file and self.sha256 is None:
            raise RuntimeError(
                f'the teacher was never loaded from {self.checkpoint}: call '
                'init_weights() of the model first (the runner does so '
                'before training)'
            )

    def extra(self, name: str) -> Tensor:
        """Return a tensor that ``extra_keys`` names.

        Raises:
            ValueError: if it does not.
            RuntimeError: if the file has not been read.
        """
        if name not in self.extra_keys:
            raise ValueError(
                f'the teacher has no extra tensor {name!r}: set teacher.'
                f'extra_keys=dict({name}=<key in its checkpoint>)'
            )
        self.ensure_loaded()
        return self.extras.get_buffer(name)

    # --- cache --------------------------------------------------------------

    def identity(self) -> str:
        """Return the SHA-256 of all that makes its rows out of a view.

        Weights, buffers and layers of backbone and neck, and what it does to
        its input; not the name of its file.
        """
        self.ensure_loaded()
        digest = hashlib.sha256()
        for name in ('backbone', 'neck'):
            part = getattr(self, name)
            text = '' if part is None else repr(part)
            # where weights were to come from does not matter
            digest.update(re.sub(r'\n\s*init_cfg=.*', '', text).encode())
            state = {} if part is None else part.state_dict()
            for key, value in state.items():
                digest.update(f'{name}.{key} {value.dtype}'.encode())
                values = value.detach().cpu().contiguous().flatten()
                digest.update(values.view(torch.uint8).numpy())
        digest.update(repr((self.input, self.input_size)).encode())
        return digest.hexdigest()

    def open_cache(
        self, dataset: object, data_preprocessor: nn.Module | None
    ) -> None:
        """Open the cache and compare views and images with it.

        Args:
            dataset: of the training.
            data_preprocessor: of the model.

        Raises:
            SetupError: if it is not there, not complete, or of another
                recipe or list of images.
        """
        self._cached = TeacherCache(self.cache)
        self._cached.compare_recipe(dataset, data_preprocessor)
        self._cache_is_ours = False

    def look_up(
        self,
        keys: Tensor | None,
        fields: frozenset[str],
        views: Sequence[int],
        device: torch.device,
    ) -> Encodings:
        """Return what the cache holds for the views of a batch.

        Args:
            keys: ``(N, 3)`` seed, image and draw of each image.
            fields: of :class:`Encodings`.
            views: indices.
            device: where they are needed.

        Raises:
            SetupError: if the cache is of another teacher or lacks
                something, or nobody compared it with the data.
        """
        if self._cached is None:
            raise SetupError(
                f'the teacher cache {self.cache} was not compared with the '
                'data: that is done in a run with HealthHook only '
                '(tools/train.py adds it): add '
                "custom_hooks=[dict(type='HealthHook')]"
            )
        if not self._cache_is_ours:
            self._cached.compare(teacher=self.identity())
            self._cache_is_ours = True
        if keys is None:
            raise SetupError(
                'the images of the batch have no view keys, by which the '
                f"teacher's rows are found in {self.cache}: the data set "
                'must be SeededViews, and its pipeline end in PackInputs or '
                'PackImage'
            )
        self._cached.check_fields(fields, views)
        return self._cached.encodings(keys, sorted(fields), views, device)

    # --- in a checkpoint of the run -----------------------------------------

    def _compare_files(self) -> None:
        if self._recorded is None or self.sha256 is None:
            return
        sha256, path = self._recorded
        if sha256 != self.sha256:
            raise CheckpointError(
                'another teacher: the checkpoint was trained with '
                f'{path} (sha256 {sha256}), but the config loads '
                f'{self.checkpoint} (sha256 {self.sha256}). Give the file of '
                'that run; or, for a new run under this teacher, start the '
                'student from an extracted backbone'
            )

    def _load_from_state_dict(
        self,
        state_dict,
        prefix,
        local_metadata,
        strict,
        missing_keys,
        unexpected_keys,
        error_msgs,
    ) -> None:
        names = tuple(f'{prefix}{part}.' for part in PARTS)
        sha256 = state_dict.get(f'{prefix}checkpoint_sha256')
        path = state_dict.get(f'{prefix}checkpoint_path')
        if self.by_reference:
            if any(key.startswith(names) for key in state_dict):
                raise CheckpointError(
                    'the checkpoint holds weights of an online teacher, but '
                    'the teacher of the config is frozen, from '
                    f'{self.checkpoint}: set frozen=False to resume that run'
                )
            self._load_prefix = prefix
            unexpected_keys.extend(
                key
                for key in state_dict
                if key.startswith(prefix)
                and key.removeprefix(prefix) not in REFERENCE
            )
            if sha256 is None:
                missing_keys.append(f'{prefix}checkpoint_sha256')
                return
            self._recorded = (
                bytes(sha256.tolist()).hex(),
                '(not recorded)' if path is None else _decode(path),
            )
            self._compare_files()
            if self.sha256 is None and path is not None:
                # not loaded yet: saved again, it still names its file
                self.checkpoint_sha256.copy_(sha256)
                self.checkpoint_path = path.to(self.checkpoint_sha256.device)
            return
        if sha256 is not None:
            raise CheckpointError(
                'the checkpoint was trained with a frozen teacher, '
                f'{"(not recorded)" if path is None else _decode(path)}, but '
                'the config has another kind of teacher: give that file, '
                'with frozen=True'
            )
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )
