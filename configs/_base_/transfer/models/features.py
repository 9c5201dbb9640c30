# The pooled features of a backbone, for the tools that cache them.
model = dict(
    type='ImageClassifier', neck=dict(type='GlobalAveragePooling'), head=None
)
