"""Public checkpoints that timm keeps on the Hub: one row each, by family.

Addresses, sizes, heads and licences: timm 1.0.31, the `default_cfgs` of
`models/vision_transformer.py`, `models/deit.py` and `models/eva.py`. None is
held to a revision, which a download says. Accuracies, as authors state them:
`README.md` of facebookresearch/dinov2, `README_revenge.md` of its deit,
`README_siglip2.md` of big_vision, `README.md` of open_clip (LAION's, and
OpenAI's as in their paper), the abstract of DFN's paper, and
`EVA-02/asuka/README.md` of baaivision/EVA. `presets` makes a `Preset` of each
row.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Family:
    """What the rows of a family have in common.

    Args:
        name: of the family.
        source: the paper.
        rows: for each checkpoint the variant, the edge of its images in
            pixels, the name at timm, the accuracy or `None`, and the activation
            if it is another than the family's.
        num_classes: of the heads, or `None`.
        activation: of the MLPs.
        epsilon: of the layer norms.
        measure: what the accuracies are of, see `Preset`.
        plain: see `Preset`.
        license: as timm states it.
    """

    name: str
    source: str
    rows: tuple
    num_classes: int | None = None
    activation: str = "gelu"
    epsilon: float = 1e-6
    measure: str = "head"
    plain: bool = False
    license: str = "Apache-2.0"


ARXIV = "https://arxiv.org/abs/"
_CLIP = {"epsilon": 1e-5, "measure": "zero-shot"}
_OPENAI = {
    "source": f"{ARXIV}2103.00020",
    "activation": "quick_gelu",
    **_CLIP,
}
_DFN = {
    "source": f"{ARXIV}2309.17425",
    "activation": "quick_gelu",
    "license": "apple-ascl",
    **_CLIP,
}
_SIGLIP2 = {"source": f"{ARXIV}2502.14786", "measure": "zero-shot"}
_DEIT3 = {"source": f"{ARXIV}2204.07118", "num_classes": 1000}
_EVA02 = {
    "source": f"{ARXIV}2303.11331",
    "activation": "swiglu",
    "license": "MIT",
}
_AUGREG = {"source": f"{ARXIV}2106.10270", "plain": True}

# fmt: off
FAMILIES = (
    # Sizes as the authors name them: their g is not the g of `SIZES`.
    Family("dinov2", f"{ARXIV}2304.07193", measure="linear", rows=(
        ("S/14", 518, "vit_small_patch14_dinov2.lvd142m", 81.1),
        ("B/14", 518, "vit_base_patch14_dinov2.lvd142m",  84.5),
        ("L/14", 518, "vit_large_patch14_dinov2.lvd142m", 86.3),
        ("g/14", 518, "vit_giant_patch14_dinov2.lvd142m", 86.5, "swiglu"),
    )),
    Family("dinov2_reg", f"{ARXIV}2309.16588", measure="linear", rows=(
        ("S/14", 518, "vit_small_patch14_reg4_dinov2.lvd142m", 80.9),
        ("B/14", 518, "vit_base_patch14_reg4_dinov2.lvd142m",  84.6),
        ("L/14", 518, "vit_large_patch14_reg4_dinov2.lvd142m", 86.7),
        ("g/14", 518, "vit_giant_patch14_reg4_dinov2.lvd142m", 87.1, "swiglu"),
    )),
    # Its licence has terms of use: read it first. Meta's own repositories
    # are gated, the copies of timm are not. Left out: the 7B, of 27 GB.
    Family("dinov3", f"{ARXIV}2508.10104", epsilon=1e-5,
           license="dinov3-license", rows=(
        ("S/16",  256, "vit_small_patch16_dinov3.lvd1689m",      None),
        ("S+/16", 256, "vit_small_plus_patch16_dinov3.lvd1689m", None,
         "swiglu"),
        ("B/16",  256, "vit_base_patch16_dinov3.lvd1689m",       None),
        ("L/16",  256, "vit_large_patch16_dinov3.lvd1689m",      None),
        ("H+/16", 256, "vit_huge_plus_patch16_dinov3.lvd1689m",  None,
         "swiglu"),
    )),
    Family("siglip2", **_SIGLIP2, rows=(
        ("B/32",      256, "vit_base_patch32_siglip_256.v2_webli",     74.0,
         "gelu_tanh"),
        ("B/16",      224, "vit_base_patch16_siglip_224.v2_webli",     78.2),
        ("L/16",      256, "vit_large_patch16_siglip_256.v2_webli",    82.5),
        ("So400m/14", 224, "vit_so400m_patch14_siglip_224.v2_webli",   83.2),
        ("So400m/16", 256, "vit_so400m_patch16_siglip_256.v2_webli",   83.4,
         "gelu_tanh"),
        ("g-opt/16",  256, "vit_giantopt_patch16_siglip_256.v2_webli", 84.5,
         "gelu_tanh"),
    )),
    Family("siglip2-384", **_SIGLIP2, rows=(
        ("B/16",      384, "vit_base_patch16_siglip_384.v2_webli",     80.6),
        ("L/16",      384, "vit_large_patch16_siglip_384.v2_webli",    83.1),
        # Patches of 14 pixels fill 378 of its 384.
        ("So400m/14", 378, "vit_so400m_patch14_siglip_378.v2_webli",   84.1),
        ("So400m/16", 384, "vit_so400m_patch16_siglip_384.v2_webli",   84.1,
         "gelu_tanh"),
        ("g-opt/16",  384, "vit_giantopt_patch16_siglip_384.v2_webli", 85.0,
         "gelu_tanh"),
    )),
    Family("siglip2-512", **_SIGLIP2, rows=(
        ("B/16",      512, "vit_base_patch16_siglip_512.v2_webli",     81.2),
        ("L/16",      512, "vit_large_patch16_siglip_512.v2_webli",    83.5,
         "gelu_tanh"),
        ("So400m/16", 512, "vit_so400m_patch16_siglip_512.v2_webli",   84.3,
         "gelu_tanh"),
    )),
    # The projection to the space of texts stands as the head of a CLIP.
    Family("clip_openai", **_OPENAI, rows=(
        ("B/32", 224, "vit_base_patch32_clip_224.openai",  63.2),
        ("B/16", 224, "vit_base_patch16_clip_224.openai",  68.6),
        ("L/14", 224, "vit_large_patch14_clip_224.openai", 75.3),
    )),
    Family("clip_openai-336", **_OPENAI, rows=(
        ("L/14", 336, "vit_large_patch14_clip_336.openai", 76.2),
    )),
    Family("clip_laion2b", f"{ARXIV}2212.07143", **_CLIP, rows=(
        ("B/32", 224, "vit_base_patch32_clip_224.laion2b",     66.6),
        ("B/16", 224, "vit_base_patch16_clip_224.laion2b",     70.2),
        ("L/14", 224, "vit_large_patch14_clip_224.laion2b",    75.3),
        ("H/14", 224, "vit_huge_patch14_clip_224.laion2b",     78.0),
        # One of two that LAION trained: timm does not say which.
        ("g/14", 224, "vit_giant_patch14_clip_224.laion2b",    None),
        ("G/14", 224, "vit_gigantic_patch14_clip_224.laion2b", 80.1),
    )),
    # Left out: B/16 and the longer L/14, whose GELU timm does not state.
    Family("clip_dfn", **_DFN, rows=(
        ("L/14", 224, "vit_large_patch14_clip_224.dfn2b", None),
        ("H/14", 224, "vit_huge_patch14_clip_224.dfn5b",  None),
    )),
    Family("clip_dfn-378", **_DFN, rows=(
        ("H/14", 378, "vit_huge_patch14_clip_378.dfn5b", 84.4),
    )),
    Family("deit3_i1k", **_DEIT3, rows=(
        ("S/16", 224, "deit3_small_patch16_224.fb_in1k", 81.4),
        ("B/16", 224, "deit3_base_patch16_224.fb_in1k",  83.8),
        ("L/16", 224, "deit3_large_patch16_224.fb_in1k", 84.9),
        ("H/14", 224, "deit3_huge_patch14_224.fb_in1k",  85.2),
    )),
    Family("deit3_i1k-384", **_DEIT3, rows=(
        ("S/16", 384, "deit3_small_patch16_384.fb_in1k", 83.4),
        ("B/16", 384, "deit3_base_patch16_384.fb_in1k",  85.0),
        ("L/16", 384, "deit3_large_patch16_384.fb_in1k", 85.8),
    )),
    Family("deit3_i21k+i1k", **_DEIT3, rows=(
        ("S/16", 224, "deit3_small_patch16_224.fb_in22k_ft_in1k", 83.1),
        ("B/16", 224, "deit3_base_patch16_224.fb_in22k_ft_in1k",  85.7),
        ("L/16", 224, "deit3_large_patch16_224.fb_in22k_ft_in1k", 87.0),
        ("H/14", 224, "deit3_huge_patch14_224.fb_in22k_ft_in1k",  87.2),
    )),
    Family("deit3_i21k+i1k-384", **_DEIT3, rows=(
        ("S/16", 384, "deit3_small_patch16_384.fb_in22k_ft_in1k", 84.8),
        ("B/16", 384, "deit3_base_patch16_384.fb_in22k_ft_in1k",  86.7),
        ("L/16", 384, "deit3_large_patch16_384.fb_in22k_ft_in1k", 87.7),
    )),
    # As pre-trained: good for little before fine-tuning.
    Family("mae", f"{ARXIV}2111.06377", plain=True,
           license="CC-BY-NC-4.0", rows=(
        ("B/16", 224, "vit_base_patch16_224.mae",  None),
        ("L/16", 224, "vit_large_patch16_224.mae", None),
        ("H/14", 224, "vit_huge_patch14_224.mae",  None),
    )),
    Family("eva02", **_EVA02, rows=(
        ("Ti/14", 224, "eva02_tiny_patch14_224.mim_in22k",  None),
        ("S/14",  224, "eva02_small_patch14_224.mim_in22k", None),
        ("B/14",  224, "eva02_base_patch14_224.mim_in22k",  None),
        ("L/14",  224, "eva02_large_patch14_224.mim_m38m",  None),
    )),
    Family("eva02_i1k", **_EVA02, num_classes=1000, rows=(
        ("Ti/14", 336, "eva02_tiny_patch14_336.mim_in22k_ft_in1k",  80.7),
        ("S/14",  336, "eva02_small_patch14_336.mim_in22k_ft_in1k", 85.8),
        ("B/14",  448, "eva02_base_patch14_448.mim_in22k_ft_in22k_in1k", 88.6),
        ("L/14",  448, "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", 90.0),
    )),
    # Accuracies where the file is one of those that AugReg's README lists;
    # the others are other runs than `augreg_i21k` and `augreg_i1k`.
    Family("timm_augreg_i21k", **_AUGREG, num_classes=21843, rows=(
        ("Ti/16", 224, "vit_tiny_patch16_224.augreg_in21k",  None),
        ("S/32",  224, "vit_small_patch32_224.augreg_in21k", None),
        ("S/16",  224, "vit_small_patch16_224.augreg_in21k", None),
        ("B/32",  224, "vit_base_patch32_224.augreg_in21k",  None),
        ("B/16",  224, "vit_base_patch16_224.augreg_in21k",  None),
        ("B/8",   224, "vit_base_patch8_224.augreg_in21k",   None),
        ("L/16",  224, "vit_large_patch16_224.augreg_in21k", None),
    )),
    Family("timm_augreg_i1k", **_AUGREG, num_classes=1000, rows=(
        ("Ti/16", 384, "vit_tiny_patch16_384.augreg_in21k_ft_in1k",  78.22),
        ("S/32",  384, "vit_small_patch32_384.augreg_in21k_ft_in1k", None),
        ("S/16",  384, "vit_small_patch16_384.augreg_in21k_ft_in1k", 83.73),
        ("B/32",  384, "vit_base_patch32_384.augreg_in21k_ft_in1k",  None),
        ("B/16",  384, "vit_base_patch16_384.augreg_in21k_ft_in1k",  None),
        ("L/16",  384, "vit_large_patch16_384.augreg_in21k_ft_in1k", None),
    )),
    Family("timm_augreg_i1k-224", **_AUGREG, num_classes=1000, rows=(
        ("Ti/16", 224, "vit_tiny_patch16_224.augreg_in21k_ft_in1k",  None),
        ("S/32",  224, "vit_small_patch32_224.augreg_in21k_ft_in1k", None),
        ("S/16",  224, "vit_small_patch16_224.augreg_in21k_ft_in1k", None),
        ("B/32",  224, "vit_base_patch32_224.augreg_in21k_ft_in1k",  None),
        ("B/16",  224, "vit_base_patch16_224.augreg_in21k_ft_in1k",  None),
        ("B/8",   224, "vit_base_patch8_224.augreg_in21k_ft_in1k",   None),
        ("L/16",  224, "vit_large_patch16_224.augreg_in21k_ft_in1k", None),
    )),
)
# fmt: on
