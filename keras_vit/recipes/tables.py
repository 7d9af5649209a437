"""The training settings of the papers, as data.

Tables 3 and 4 of the Vision Transformer paper (arXiv 2010.11929), and the
settings of AugReg (arXiv 2106.10270). Weight decay is in units of the learning
rate (`w <- w - rate * decay * w`), as both papers print it and Keras takes it.
Left out: Table 7, which prints accuracies of Adam and SGD but no settings.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """One row of Table 3. Batch 4096, 10,000 warm-up steps, 224 pixels.

    Args:
        epochs: lengths tried, in passes over the data set.
        learning_rate: peak rate of Adam.
        decay: shape of the decay after the warm-up.
        weight_decay: decay of kernels, in units of the learning rate.
        dropout: rate in the model, `[0, 1)`.
        clip_norm: global norm that gradients are clipped to, or `None`.
    """

    epochs: tuple[int, ...]
    learning_rate: float
    decay: str
    weight_decay: float
    dropout: float
    clip_norm: float | None


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """One row of Table 4. SGD, momentum 0.9, batch 512, cosine, clip 1.

    Args:
        steps: lengths tried, in updates.
        learning_rates: grid of base rates, chosen on the development split.
        development: fraction of the training images held out for the choice,
            or `None` if the paper states none.
        image_sizes: image sizes in pixels.
    """

    steps: tuple[int, ...]
    learning_rates: tuple[float, ...]
    development: float | None
    image_sizes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class AugReg:
    """Choices of AugReg for one model. Adam 1e-3, batch 4096, 300 epochs.

    Args:
        imagenet: level for ImageNet-1k (big_vision), or `None` if there is
            none.
        imagenet_21k: level for ImageNet-21k (big_vision; for hybrids that of
            the recommended checkpoint).
        checkpoint: level of the recommended ImageNet-21k checkpoint.
        weight_decay: decay of that checkpoint, in units of the learning rate.
        dropout: rate of that checkpoint.
        stochastic_depth: rate of the last block of that checkpoint, falling
            linearly to 0 at the first.
        learning_rate: SGD rate of its best fine-tuning on ImageNet at 384
            pixels in 20,000 steps.
    """

    imagenet: str | None
    imagenet_21k: str
    checkpoint: str
    weight_decay: float
    dropout: float
    stochastic_depth: float
    learning_rate: float


LINEAR, COSINE = "linear", "cosine"
_P, _F = Pretraining, Finetuning  # short names keep a row on one line
GRID = (0.001, 0.003, 0.01, 0.03)

# fmt: off
# Table 3, keyed by (model, data set). "ViT" is every pure ViT.
PRETRAIN = {
    #                              epochs    rate  decay   wd    drop clip
    ("B/16",     "jft"):          _P((7,),     8e-4, LINEAR, 0.1,  0.0, None),
    ("B/32",     "jft"):          _P((7,),     8e-4, LINEAR, 0.1,  0.0, None),
    ("L/32",     "jft"):          _P((7,),     6e-4, LINEAR, 0.1,  0.0, None),
    ("L/16",     "jft"):          _P((7, 14),  4e-4, LINEAR, 0.1,  0.0, None),
    ("H/14",     "jft"):          _P((14,),    3e-4, LINEAR, 0.1,  0.0, None),
    ("R50x1",    "jft"):          _P((7,),     1e-3, LINEAR, 0.1,  0.0, None),
    ("R50x2",    "jft"):          _P((7,),     1e-3, LINEAR, 0.1,  0.0, None),
    ("R101x1",   "jft"):          _P((7,),     8e-4, LINEAR, 0.1,  0.0, None),
    ("R152x1",   "jft"):          _P((7,),     6e-4, LINEAR, 0.1,  0.0, None),
    ("R152x2",   "jft"):          _P((7,),     6e-4, LINEAR, 0.1,  0.0, None),
    ("R50+B/32", "jft"):          _P((7,),     8e-4, LINEAR, 0.1,  0.0, None),
    ("R50+B/16", "jft"):          _P((7,),     8e-4, LINEAR, 0.1,  0.0, None),
    ("R50+L/32", "jft"):          _P((7,),     2e-4, LINEAR, 0.1,  0.0, None),
    ("R50+L/16", "jft"):          _P((7, 14),  4e-4, LINEAR, 0.1,  0.0, None),
    ("B/16",     "imagenet-21k"): _P((90,),    1e-3, LINEAR, 0.03, 0.1, None),
    ("B/32",     "imagenet-21k"): _P((90,),    1e-3, LINEAR, 0.03, 0.1, None),
    ("L/16",     "imagenet-21k"): _P((30, 90), 1e-3, LINEAR, 0.03, 0.1, None),
    ("L/32",     "imagenet-21k"): _P((30, 90), 1e-3, LINEAR, 0.03, 0.1, None),
    ("ViT",      "imagenet"):     _P((300,),   3e-3, COSINE, 0.3,  0.1, 1.0),
}

# Table 4. The rate 0.06 on ImageNet is for ResNets and hybrids.
FINETUNE = {
    "imagenet":  _F((20_000,), (0.003, 0.01, 0.03, 0.06), 0.01, (384,)),
    "cifar100":  _F((10_000,), GRID,                      0.02, (384,)),
    "cifar10":   _F((10_000,), GRID,                      0.02, (384,)),
    "pets":      _F((500,),    GRID,                      0.1,  (384,)),
    "flowers":   _F((500,),    GRID,                      0.1,  (384,)),
    "vtab":      _F((2_500,),  (0.01,),                   None, (384,)),
}

# AugReg Table 4, as found in the index of the public checkpoints, which does
# not state the size of the development split.
AUGREG_FINETUNE = {
    "imagenet":  _F((20_000,),        (0.01, 0.03), None, (224, 384)),
    "cifar100":  _F((2_500, 10_000),  GRID,         None, (224, 384)),
    "resisc45":  _F((2_500, 10_000),  GRID,         None, (224, 384)),
    "pets":      _F((500, 2_500),     GRID,         None, (224, 384)),
    "kitti":     _F((500, 2_500),     GRID,         None, (224, 384)),
}

# big_vision/configs/vit_i1k.py and vit_i21k.py; README of vision_transformer.
AUGREG = {
    #                  1k         21k        checkpoint  wd   drop  sd   rate
    "Ti/16":    AugReg("light1",  "none",    "none",    0.03, 0.0, 0.0, 0.03),
    "S/32":     AugReg("medium1", "none",    "none",    0.1,  0.0, 0.0, 0.01),
    "S/16":     AugReg("medium2", "light1",  "light1",  0.03, 0.0, 0.0, 0.03),
    "B/32":     AugReg("medium2", "light2",  "light1",  0.1,  0.0, 0.0, 0.01),
    "B/16":     AugReg("medium2", "light2",  "medium1", 0.1,  0.0, 0.0, 0.03),
    "L/16":     AugReg("medium2", "medium2", "strong1", 0.1,  0.0, 0.0, 0.01),
    "R+Ti/16":  AugReg(None,      "none",    "none",    0.03, 0.0, 0.0, 0.03),
    "R26+S/32": AugReg(None,      "light1",  "light1",  0.1,  0.0, 0.0, 0.01),
    "R50+L/32": AugReg(None,      "medium1", "medium1", 0.1,  0.1, 0.1, 0.01),
}
# fmt: on
