"""Stops a run that cannot work, or one with a non-finite number."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim.scheduler.param_scheduler import (
    INF,
    ConstantParamScheduler,
    LinearParamScheduler,
)
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from mmpretrain.registry import HOOKS
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from mmssd.evaluation.features import unwrap
from mmssd.models.utils.feature_queue import FeatureQueue
from mmssd.models.utils.plan import SetupError, TrainingPlan

SHOWN = 10  # names in a message
COUNTER = 'num_batches_tracked'
MEETS = 0.01  # of the training: what a schedule may end beside it
LOOK_EVERY = 20  # iterations, where looking makes the host wait


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(names[:SHOWN]) + more


def _tensors(value: object, name: str) -> Iterable[tuple[str, Tensor]]:
    """Walk nested dicts and lists down to floating tensors."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f'{name}.{key}' if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _tensors(item, f'{name}.{index}')


def _device(tensors: list[Tensor]) -> torch.device:
    """Device of the first tensor that is not on the CPU, if there is one."""
    devices = [tensor.device for tensor in tensors]
    return next((d for d in devices if d.type != 'cpu'), devices[0])


def _together(values: list[Tensor]) -> Tensor:
    """Copies of scalars in one float32 tensor, on a device if any is."""
    device = _device(values)
    return torch.stack(
        [
            value.detach()
            .reshape(())
            .to(device, torch.float32, non_blocking=True)
            for value in values
        ]
    )


def _all_finite(values: Tensor) -> bool:
    """One round trip to the device."""
    return bool(values.isfinite().all())


def _parameter_norm(model: nn.Module) -> Tensor:
    """Root of the sum of squares of all trained parameters."""
    return get_total_norm(
        [p.detach() for p in model.parameters() if p.requires_grad]
    )


def _buffer_flags(model: nn.Module) -> list[Tensor]:
    """NaN for every buffer with a NaN, else zero; masks hold infinities."""
    return [
        torch.where(b.isnan().any(), torch.nan, 0.0)
        for b in model.buffers()
        if b.is_floating_point()
    ]


def count_views(runner) -> int | None:
    """Views of an image, as pipeline or preprocessor make them."""
    preprocessor = getattr(unwrap(runner.model), 'data_preprocessor', None)
    recipes = getattr(preprocessor, 'recipes', None)
    if recipes:
        return sum(recipe.num for recipe in recipes)
    dataset = runner.train_dataloader.dataset
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    if not transforms:
        return None
    numbers = [t.num_views for t in transforms if hasattr(t, 'num_views')]
    if not numbers:
        return 1
    return sum(n if isinstance(n, int) else sum(n) for n in numbers)


def check_shares(
    images: int, batch: int, processes: int, drop_last: bool
) -> None:
    """Refuse shares of an epoch that leave a process without a batch.

    Without ``round_up`` of the sampler, process r has every W-th image from
    the r-th on; one that has no more waits for no other, and all others wait
    for it.

    Args:
        images: of an epoch, over all processes.
        batch: images of a process in a step.
        processes: W.
        drop_last: whether a batch that is not full is left out.

    Raises:
        SetupError: if the numbers of batches differ.
    """
    shares = [-(-(images - rank) // processes) for rank in range(processes)]
    batches = [
        share // batch if drop_last else -(-share // batch) for share in shares
    ]
    if len(set(batches)) > 1:
        raise SetupError(
            f'train_dataloader: {images} images give the {processes} '
            f'processes {max(batches)} or {min(batches)} batches of {batch} '
            'in an epoch: some would be left with an empty one while the '
            'others wait for them; set sampler.round_up=True, or another '
            'batch_size or drop_last'
        )


def training_plan(runner) -> TrainingPlan:
    """Read the numbers of a training off its runner.

    Args:
        runner: with its training loop and optimizer built; its schedulers
            may follow.

    Raises:
        SetupError: if the data are fewer than one batch.
    """
    loader = runner.train_dataloader
    batch = loader.batch_size
    if batch is None:  # a batch sampler of one's own
        batch = getattr(loader.batch_sampler, 'batch_size', 1)
    endless = isinstance(loader.sampler, InfiniteSampler)
    share = getattr(loader.sampler, 'num_samples', None)
    if share is None:
        share = len(loader.dataset) // (get_world_size() if endless else 1)
    full = share // batch if loader.drop_last else -(-share // batch)
    if not getattr(loader.sampler, 'round_up', True):
        check_shares(
            len(loader.dataset), batch, get_world_size(), loader.drop_last
        )
    if full == 0 and not endless:
        raise SetupError(
            f'train_dataloader: {len(loader.dataset)} image(s) make no '
            f'batch of {batch} on each of {get_world_size()} process(es), '
            'and drop_last=True drops what is less: nothing would be '
            'trained; lower train_dataloader.batch_size'
        )
    wrapper = runner.optim_wrapper
    return TrainingPlan(
        batch=batch * get_world_size(),
        max_iters=runner.max_iters,
        epoch_length=max(full, 1),
        num_views=count_views(runner),
        accumulation=getattr(wrapper, '_accumulative_counts', 1),
        dataset=loader.dataset,
    )


def _is_warm_up(scheduler) -> bool:
    """Whether a schedule leads up to a rate that others go on from."""
    return isinstance(scheduler, ConstantParamScheduler) or (
        isinstance(scheduler, LinearParamScheduler)
        and scheduler.end_factor == 1
    )


def check_schedule(runner) -> str | None:
    """Compare the end of the learning rate's schedule with the training's.

    A training shortened or lengthened by ``train_cfg`` alone keeps the
    schedule of its config, and would be cut off at a high rate or go on at
    the last one. Looked at is the schedule that ends last, warm-ups apart;
    one that is open to infinity, as steps may be, is taken as meant.

    Args:
        runner: with its schedulers built, or loaded from a checkpoint.

    Returns:
        The sentence that names both ends and the remedy; ``None`` if they
        meet, within one percent.
    """
    given = runner.param_schedulers
    if not given:
        return None  # also where nobody knows how long an epoch is
    groups = given.values() if isinstance(given, dict) else [given]
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    length = len(runner.train_dataloader)
    for schedulers in groups:
        # those of epochs never act where there are none
        looked_at = [
            (scheduler.end * (length if scheduler.by_epoch else 1), -index)
            for index, scheduler in enumerate(schedulers)
            if scheduler.param_name == 'lr'
            and not _is_warm_up(scheduler)
            and (by_epoch or not scheduler.by_epoch)
        ]
        if looked_at:
            index = -max(looked_at)[1]
            problem = _compare_ends(runner, schedulers[index], index, by_epoch)
            if problem:
                return problem
    return None


def _compare_ends(runner, scheduler, index: int, by_epoch: bool) -> str | None:
    """Say that one schedule does not end with the training."""
    length = len(runner.train_dataloader)
    config, place = runner.cfg.get('param_scheduler'), 'param_scheduler'
    if isinstance(config, (list, tuple)):
        config, place = config[index], f'{place}.{index}'
    config = config if isinstance(config, dict) else {}
    converted = by_epoch and config.get('convert_to_iter_based', False)
    # a schedule counts in its own unit; its config may count in epochs
    scale = length if converted and not scheduler.by_epoch else 1
    in_epochs = scheduler.by_epoch or converted
    total = runner.max_epochs if in_epochs else runner.max_iters
    begin = scheduler.begin / scale
    ends = {'end': scheduler.end / scale}
    if getattr(scheduler, 'T_max', None):
        ends['T_max'] = begin + scheduler.T_max / scale
    ends = {key: end for key, end in ends.items() if end < INF / scale}
    wrong = [e for e in ends.values() if abs(e - total) > MEETS * total]
    if not wrong:
        return None
    unit = 'epoch(s)' if in_epochs else 'iteration(s)'
    remedy = ' '.join(
        f'{place}.{key}={total - begin if key == "T_max" else total:g}'
        for key in ends
    )
    if runner.iter:
        advice = (
            'a resumed run keeps the schedule of its checkpoint; for '
            f'another length start anew, with {remedy}'
        )
    else:
        advice = f'set {remedy}'
    cut = 'would be cut short' if wrong[0] > total else 'is over before'
    return (
        f'{place} ({type(scheduler).__name__}) ends at {unit} {wrong[0]:g}, '
        f'the training at {total:g}: the schedule {cut}; {advice}'
    )


class _Iteration(NamedTuple):
    """What an iteration gave, on its device."""

    number: int
    names: tuple[str, ...]  # of the losses
    values: Tensor  # losses, norm of the parameters, flags of buffers


@HOOKS.register_module()
class HealthHook(Hook):
    """Stop what cannot work; keep NaN and infinity out of checkpoints.

    * Before the training: data of less than one batch, and whatever the
      model refuses (``check`` of :class:`~mmssd.models.Distiller` and
      :class:`~mmssd.models.DistillClassifier`: queues, views, durations),
      are an error; gradient accumulation over objectives that depend on the
      batch is a warning, as is a schedule of the learning rate that does not
      end with the training (:func:`check_schedule`).
    * Of every iteration: a loss term that is NaN or infinite stops the run,
      with the iteration and the term.
    * Of every ``interval`` iterations, and whenever a checkpoint is due: a
      trained parameter that is not finite stops the run, with its name. As
      gradients are gone after the step, this is also how a non-finite
      gradient under a finite loss shows (bfloat16 convolutions on the CPU
      can give one); with ``interval=1`` and ``look_every=1`` the names are
      those of its origin.
    * Whenever a checkpoint is due: also a buffer that holds NaN.

    What an iteration gives waits on its device until the hook looks: on a
    CPU in every iteration; on others, where looking makes the host wait, in
    every twentieth; everywhere in the last, and before a validation, a
    checkpoint or a probe (a hook with ``due``). All comes in one transfer,
    and a bad number is reported with the iteration it comes from; the
    iterations after it were in vain.

    All of it happens before ``CheckpointHook`` acts, so the last checkpoint
    on disk is good, and none is deleted for a bad one. As a last guard,
    whoever saves, NaN in the state of the model or the optimizer is never
    written, nor is infinity in a trained parameter.

    On resuming, the keys and shapes of the checkpoint must be exactly those
    of the model, whereas mmengine only warns. Weights loaded to start from
    (``load_from``) may be partial, but not of another model altogether, and
    queues and counters of their run are left out: they belong to its end.

    Args:
        interval (int): iterations between two checks of the parameters.
            Defaults to 1; one pass over the parameters costs little beside
            a step.
        look_every (int, optional): iterations between two looks. ``None``
            for 1 on a CPU and 20 on other devices.
        strict_resume (bool): check the checkpoint on resuming. Defaults to
            True.

    Raises:
        FloatingPointError: in the training, for a non-finite number.
        ValueError: before the training, if ``interval`` or ``look_every``
            is not positive, the hook would act after a ``CheckpointHook``,
            a checkpoint to resume from does not fit the model, one to start
            from has no key of it, or the training cannot work.
    """

    # before averages, probes and checkpoints
    priority = 'HIGH'

    def __init__(
        self,
        interval: int = 1,
        look_every: int | None = None,
        strict_resume: bool = True,
    ) -> None:
        for name, value in (
            ('interval', interval),
            ('look_every', look_every),
        ):
            if value is not None and value < 1:
                raise ValueError(f'{name}={value}: must be at least 1')
        self.interval = interval
        self.look_every = look_every
        self.strict_resume = strict_resume
        self._unseen: list[_Iteration] = []
        self._training = False

    def before_run(self, runner) -> None:
        """Check the order of the hooks, and the training if there is one."""
        hooks = runner.hooks
        for hook in hooks[: hooks.index(self)]:
            if isinstance(hook, CheckpointHook):
                raise ValueError(
                    f'priority={self.priority} of HealthHook comes after '
                    f'priority={hook.priority} of {type(hook).__name__}: a '
                    'broken state could be saved; leave the priority of '
                    "HealthHook at 'HIGH'"
                )
        if isinstance(runner._train_loop, BaseLoop):
            self._check_training(runner)

    def _check_training(self, runner) -> None:
        plan = training_plan(runner)
        model = unwrap(runner.model)
        supervised = hasattr(model, 'distill_heads')
        if not (supervised or hasattr(model, 'heads')) or not hasattr(
            model, 'check'
        ):
            return
        model.check(plan)
        if plan.accumulation > 1 and not supervised:
            runner.logger.warning(
                f'gradients of {plan.accumulation} steps are added up, but '
                'codes, relations and batch statistics are those of '
                f'{plan.batch} images at a time, and durations in '
                'iterations count them: this is the training of a batch '
                f'{plan.accumulation} times as large for objectives row by '
                'row (with their queues) alone'
            )

    def before_train(self, runner) -> None:
        """Warn of a schedule of another length, as set or as resumed."""
        self._training = True
        problem = check_schedule(runner)
        if problem:
            runner.logger.warning(problem)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Note the losses and, when due, the parameters; look, when due."""
        losses = {
            key: torch.as_tensor(value)
            for key, value in (outputs or {}).items()
            if 'loss' in key
        }
        state = []
        needed = self._saving(runner) or self._probing(runner)
        if needed or self.every_n_train_iters(runner, self.interval):
            state.append(_parameter_norm(runner.model))
        if needed:
            state.extend(_buffer_flags(runner.model))
        self._note(runner.iter + 1, losses, state)
        if (
            needed
            or len(self._unseen) >= self._patience()
            or self.is_last_train_iter(runner)
        ):
            self._look(runner, runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        """Look at the state before a checkpoint of the epoch."""
        self._look_at_state(runner)

    def before_val(self, runner) -> None:
        """Look at the state before it is judged, and may be the best."""
        if self._training:
            self._look_at_state(runner)

    def after_train(self, runner) -> None:
        """Look at what is left."""
        self._training = False
        self._look(runner, runner.iter)

    def _look_at_state(self, runner) -> None:
        model = runner.model
        state = [_parameter_norm(model), *_buffer_flags(model)]
        self._note(runner.iter, {}, state)
        self._look(runner, runner.iter)

    def _note(
        self, number: int, losses: dict[str, Tensor], state: list[Tensor]
    ) -> None:
        """Keep what an iteration gave until the next look."""
        values = [*losses.values(), *state]
        if values:
            # copied: tensors of the model may change until then
            self._unseen.append(
                _Iteration(number, tuple(losses), _together(values))
            )

    def _patience(self) -> int:
        """Iterations between two looks."""
        if self.look_every is not None:
            return self.look_every
        kinds = {iteration.values.device.type for iteration in self._unseen}
        return LOOK_EVERY if kinds - {'cpu'} else 1

    def _look(self, runner, now: int) -> None:
        """Stop at the first number that is not finite, if there is one."""
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return
        values = [iteration.values for iteration in unseen]
        device = _device(values)
        if _all_finite(torch.cat([value.to(device) for value in values])):
            return
        for number, names, values in unseen:
            if not _all_finite(values):
                losses = dict(zip(names, values.tolist(), strict=False))
                self._stop(runner, number, losses, now)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuse to write NaN, and weights that are infinite."""
        kinds = [
            (
                'NaN',
                [
                    name
                    for kind in ('state_dict', 'optimizer')
                    for name, value in _tensors(checkpoint.get(kind, {}), '')
                    if value.isnan().any()
                ],
            ),
            (
                'infinity',
                [
                    name
                    for name, p in unwrap(runner.model).named_parameters()
                    if p.requires_grad and p.isinf().any()
                ],
            ),
        ]
        for what, bad in kinds:
            if bad:
                raise FloatingPointError(
                    f'iteration {checkpoint["meta"]["iter"]}: the state to '
                    f'be saved holds {what} in {_listing(bad)}; nothing was '
                    'written. ' + self._remedy(runner)
                )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare a checkpoint to resume or start from with the model."""
        if not runner._resume:
            self._start_from(runner, checkpoint)
            return
        if not self.strict_resume:
            return
        given = {
            key.removeprefix('module.'): value
            for key, value in checkpoint.get('state_dict', checkpoint).items()
        }
        try:
            # by torch itself, so that modules have their say; mmengine will
            # load the same once more
            missing, unexpected = unwrap(runner.model).load_state_dict(
                given, strict=False
            )
            reshaped = []
        except RuntimeError as error:
            missing = unexpected = []
            reshaped = [line.strip() for line in str(error).splitlines()[1:]]
        # a counter that no forward pass reads, unknown to old files
        missing = [k for k in missing if not k.endswith(COUNTER)]
        problems = [
            f'{len(names)} {what}: {_listing(names)}'
            for what, names in (
                ('missing', missing),
                ('unexpected', unexpected),
                ('of another shape', reshaped),
            )
            if names
        ]
        if problems:
            raise ValueError(
                f'cannot resume from {runner._load_from or runner.work_dir}: '
                f'its checkpoint is not of this model ({"; ".join(problems)})'
                '. Resume with the config that wrote it, or start afresh '
                'from its weights with load_from and resume=False'
            )

    def _start_from(self, runner, checkpoint: dict) -> None:
        """Leave out what belongs to the end of another run."""
        state = checkpoint.get('state_dict', checkpoint)
        model = unwrap(runner.model)
        own = model.state_dict().keys()
        if not any(key.removeprefix('module.') in own for key in state):
            raise ValueError(
                f'load_from={runner._load_from}: not one of its keys is of '
                f'the model, {_listing(state)} against {_listing(own)}: it '
                'is of another model or layout'
            )
        left_out = []
        for name, module in model.named_modules():
            if isinstance(module, FeatureQueue):
                left_out += [f'{name}.features', f'{name}.pointer']
            elif 'iteration' in module._buffers:
                left_out.append(f'{name}.iteration')
        dropped = [
            key
            for key in list(state)
            if key.removeprefix('module.') in left_out
        ]
        for key in dropped:
            del state[key]
        if dropped:
            runner.logger.info(
                f'load_from: a new training begins, without the queues and '
                f'counters of the old one ({_listing(dropped)})'
            )

    def _saving(self, runner) -> bool:
        """Whether a hook is about to save after this iteration."""
        return any(
            isinstance(hook, CheckpointHook)
            and not hook.by_epoch
            and (
                # the hook's own, which may save at other times, too
                hook.every_n_train_iters(
                    runner, hook.interval, hook.save_begin
                )
                or (hook.save_last and self.is_last_train_iter(runner))
            )
            for hook in runner.hooks
        )

    @staticmethod
    def _probing(runner) -> bool:
        """Whether a probe is about to read the weights."""
        return any(
            hook.due(runner) for hook in runner.hooks if hasattr(hook, 'due')
        )

    def _stop(
        self, runner, iteration: int, losses: dict[str, float], now: int
    ) -> None:
        terms = {
            key: value
            for key, value in losses.items()
            if not math.isfinite(value)
        }
        if len(terms) > 1:
            terms.pop('loss', None)  # the sum of the others
        if terms:
            what = 'loss ' + _listing(f'{k} = {v}' for k, v in terms.items())
        else:
            model = unwrap(runner.model)
            bad = [
                name
                for name, p in model.named_parameters()
                if not p.isfinite().all()
            ]
            what = (
                'a gradient was not finite while the loss was: the step left '
                f'NaN or infinity in {len(bad)} parameter(s), ' + _listing(bad)
            )
            if now > iteration:
                what += (
                    f' (as of iteration {now}: look_every=1 of HealthHook '
                    'names where it began)'
                )
            if not bad:
                bad = [n for n, b in model.named_buffers() if b.isnan().any()]
                what = f'NaN in {len(bad)} buffer(s), ' + _listing(bad)
            if not bad:
                return  # only the sum of squares overflowed
        raise FloatingPointError(
            f'iteration {iteration}: {what}. ' + self._remedy(runner)
        )

    @staticmethod
    def _remedy(runner) -> str:
        last = runner.message_hub.runtime_info.get('last_ckpt')
        kept = (
            f'The last good checkpoint is {last}'
            if last
            else ('No checkpoint had been saved yet')
        )
        return (
            f'{kept}. Things to try: a lower learning rate or a warm-up, '
            'clip_grad, float32 instead of mixed precision'
        )
