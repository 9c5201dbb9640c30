# mmseg's recipe of transformers over 20k iterations: AdamW, a warm-up, then
# down to 0 on a line; no decay of biases, norms, positions and class token.
_base_ = 'seg_20ki.py'

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01
    ),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)
        ),
    ),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6, begin=0, end=1_500, by_epoch=False
    ),
    dict(
        type='PolyLR',
        eta_min=0.0,
        power=1.0,
        begin=1_500,
        end=20_000,
        by_epoch=False,
    ),
]
