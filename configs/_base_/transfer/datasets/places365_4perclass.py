# Places365, low-shot: four labelled images of every class, listed by
#   python tools/dataset_converters/image_lists.py data/places365 --per-class 4
# and another number of them by another list.
_base_ = 'places365.py'

train_dataloader = dict(dataset=dict(ann_file='meta/train_4perclass.txt'))
