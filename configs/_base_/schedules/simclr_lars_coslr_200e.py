# SimCLR at batch 256: LARS 0.3; warm-up, cosine and what is spared as BYOL's.
# A leaf sets `train_cfg.max_epochs` and the cosine's `end` and `T_max`.
_base_ = 'byol_lars_coslr_200e.py'

optim_wrapper = dict(optimizer=dict(lr=0.3))
auto_scale_lr = dict(base_batch_size=256)
