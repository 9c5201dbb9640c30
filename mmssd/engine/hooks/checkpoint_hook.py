"""Checkpoints that survive interruptions, and runs that resume exactly."""

import os
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmpretrain.registry import HOOKS

BACKEND = 'mmssd_atomic'
UNFINISHED = '.unfinished'  # suffix of a file that is being written


class AtomicLocalBackend(LocalBackend):
    """Local files that are there whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write to a temporary name on the same disk, then rename.

        Args:
            obj (bytes): content.
            filepath (str | Path): final name.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + UNFINISHED)
        try:
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


register_backend(BACKEND, AtomicLocalBackend, force=True)


def get_random_state() -> dict:
    """The random states of Python, numpy and torch, devices included.

    Returns:
        dict: of tensors, numbers and tuples only, so that it can be loaded
        without executing pickled code.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state = dict(
        python=random.getstate(),
        numpy=(str(kind), keys.tolist(), position, has_gauss, gauss),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict) -> None:
    """Go on from a state of :func:`get_random_state`.

    Args:
        state (dict): its tensors may be on any device.
    """
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys), gauss))
    kind, keys, *rest = state['numpy']
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, safe to interrupt at any moment.

    * A checkpoint is written under another name and renamed when complete.
    * Older ones are deleted afterwards, so one whole checkpoint is always
      there, with ``max_keep_ckpts=1`` too.
    * The random states of all processes are saved (key ``random_states``)
      and restored on resuming. A run that loads its data in the training
      process (``num_workers=0``) then continues bit for bit as if it had
      not been interrupted, whether epochs or iterations are counted: when
      epochs are, from a checkpoint of an epoch. Worker processes start
      anew instead, with seeds that no earlier start had; mmengine's would
      repeat the augmentations of the first iterations.

    For that, validation leaves the random states as they were.

    Args:
        keep (Sequence[int]): epochs (iterations with ``by_epoch=False``),
            the first being 1, that are saved whatever the interval is, and
            stay: ``max_keep_ckpts`` does not count them.
        **kwargs: arguments of mmengine's ``CheckpointHook``. Storage that is
            not local (``backend_args``, ``file_client_args`` or an
            ``out_dir`` with a scheme) is used as it is.

    Raises:
        ValueError: if ``keep`` has anything else than positive integers.
    """

    def __init__(self, keep: Sequence[int] = (), **kwargs) -> None:
        super().__init__(**kwargs)
        if isinstance(keep, int) or not all(
            isinstance(step, int) and step > 0 for step in keep
        ):
            raise ValueError(
                f'keep={keep!r}: must be a list of epochs (or iterations), '
                'the first being 1'
            )
        self.keep = frozenset(keep)
        remote = '://' in str(self.out_dir or '')
        if not (remote or self.backend_args or self.file_client_args):
            self.backend_args = dict(backend=BACKEND)
        self._to_save: list[dict] | None = None
        self._to_restore: dict | None = None
        self._before_val: dict | None = None

    def every_n_epochs(self, runner, n: int, start: int = 0) -> bool:
        """Whether to save after this epoch."""
        due = super().every_n_epochs(runner, n, start)
        return due or runner.epoch + 1 in self.keep

    def every_n_train_iters(self, runner, n: int, start: int = 0) -> bool:
        """Whether to save after this iteration."""
        due = super().every_n_train_iters(runner, n, start)
        return due or runner.iter + 1 in self.keep

    def before_train(self, runner) -> None:
        """Prepare the storage and the data loader."""
        info = runner.message_hub.runtime_info
        if 'keep_ckpt_ids' in info:  # of a run that had another `keep`
            kept = [n for n in info['keep_ckpt_ids'] if n not in self.keep]
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        super().before_train(runner)
        if is_main_process() and '://' not in str(self.out_dir):
            for path in Path(self.out_dir).glob(f'*.pth{UNFINISHED}'):
                path.unlink()
        loader = runner.train_loop.dataloader
        # An iterator over the loader draws a number as it is made; not from
        # the global state, or a resumed run would be one number ahead.
        if loader.generator is None:
            loader.generator = torch.Generator()
        initialize = loader.worker_init_fn
        if runner.iter and isinstance(initialize, partial):
            keywords = dict(initialize.keywords)
            if 'seed' in keywords:
                keywords['seed'] = (
                    keywords['seed'] + 1_000_003 * runner.iter
                ) % 2**31
                loader.worker_init_fn = partial(initialize.func, **keywords)

    def before_train_epoch(self, runner) -> None:
        """Restore the random state of a run that resumes."""
        if self._to_restore is not None:
            set_random_state(self._to_restore)
            self._to_restore = None

    def before_val(self, runner) -> None:
        """Keep the random state: a resumed run will not validate first."""
        self._before_val = get_random_state()

    def after_val(self, runner) -> None:
        """Go on as if nothing had been validated."""
        if self._before_val is not None:
            set_random_state(self._before_val)
            self._before_val = None

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the random states."""
        if self._to_save is not None:
            checkpoint['random_states'] = self._to_save

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take the random state out of a checkpoint to resume from."""
        states = checkpoint.get('random_states')
        if not runner._resume or states is None:
            return
        if len(states) != runner.world_size:
            runner.logger.warning(
                f'the checkpoint is of {len(states)} process(es), this run '
                f'has {runner.world_size}: random states are not restored'
            )
            return
        self._to_restore = states[get_rank()]

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        outdated, limit = None, self.max_keep_ckpts
        if step in self.keep:
            self.max_keep_ckpts = -1  # nothing makes way for it
        elif limit > 0:
            kept = self.keep_ckpt_ids
            if len(kept) == self.max_keep_ckpts and kept[-1] != step:
                outdated = kept.popleft()  # so that nothing is deleted yet
        self._to_save = all_gather_object(get_random_state())
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self._to_save = None
            self.max_keep_ckpts = limit
        if outdated is not None and is_main_process():
            path = self.file_backend.join_path(
                self.out_dir, self.filename_tmpl.format(outdated)
            )
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
