# CompRess with one queue: ResNet-18 student, frozen ResNet-50 teacher, pooled
# features without projectors.
model = dict(
    type='Distiller',
    # batch norms start at 1, as torchvision's
    backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
    teacher=dict(
        type='Teacher',
        backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    ),
    heads=dict(
        similarity=dict(
            type='SimilarityQueueHead',
            objective='compress',
            embed_dim=2048,
            student_dim=512,
            queue_length=128000,
            student_queue='teacher',
        ),
    ),
)
