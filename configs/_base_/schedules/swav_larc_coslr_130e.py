_base_ = 'swav_larc_coslr_200e.py'

train_cfg = dict(max_epochs=130)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-3,
        by_epoch=True,
        begin=0,
        end=130,
        T_max=130,
        convert_to_iter_based=True,
    )
]
