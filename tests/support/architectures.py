"""Published networks and how many residual blocks their definitions give them.

The counts follow from the architectures alone: from the tables of their papers, or from
the arguments that their constructors are given here. Where a variant decides which of
its blocks have a shortcut (by stride and filters), its paper's rule is cited.

KerasHub's networks are tiny: the counts depend on depths, strides and filters only.
Those of several parts are in `composite_architectures.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras

try:
    import keras_hub
except ImportError:  # a dependency of the tests alone
    keras_hub = models = None
else:
    models = keras_hub.models


class Row(NamedTuple):
    """A network, and the blocks of each kind that its definition gives it."""

    name: str
    build: Callable[[], keras.Model]
    identity: int
    projection: int
    layer: int
    source: str


def application(name: str, side: int = 32) -> Callable[[], keras.Model]:
    """Builds the body of a network of `keras.applications`."""

    def build() -> keras.Model:
        network = getattr(keras.applications, name)
        shape = (side, side, 3)
        return network(weights=None, include_top=False, input_shape=shape)

    return build


RESNET = (
    "He et al. 2015 (arXiv:1512.03385), table 1: {}; the first of each stage has a "
    "projection"
)
RESNET_V2 = (
    "He et al. 2016 (arXiv:1603.05027) with table 1 of arXiv:1512.03385: {}; Keras "
    "projects in the first of each of 4 stages and pools the shortcut where it "
    "strides, in the last of the first 3"
)
EFFICIENT = (
    "Tan and Le 2019 (arXiv:1905.11946), table 1: repeats 1, 2, 2, 3, 3, 4, 1{}; no "
    "shortcut in the first of each stage, which strides or changes the channels"
)
EFFICIENT_V2 = (
    "Tan and Le 2021 (arXiv:2104.00298), table 4: repeats {}; a shortcut where stride "
    "is 1 and the channels stay"
)
CONVNEXT = (
    "Liu et al. 2022 (arXiv:2201.03545), section 3 and table 9: {} blocks, all with a "
    "plain shortcut; the downsampling between stages has none"
)
# A sum of a cell is a block if a term is a state unchanged, or pooled, and another
# term is computed from that state. `h` is the cell's squeezed input.
NASNET = (
    "Zoph et al. 2018 (arXiv:1707.07012), figure 4: one sum of a normal cell is sep(h) "
    "+ h, one of a reduction cell is sep(sep(h) + …) + maxpool(h); the others add "
    "parallel branches; N = {} normal cells in each of 3 groups, and 4 reductions"
)

# In the order of keras.applications' documentation.
APPLICATIONS = [
    Row("Xception", application("Xception", 71), 8, 4, 0, "Chollet 2017 "
        "(arXiv:1610.02357), figure 5: 3 blocks of the entry and 1 of the exit flow "
        "with a 1x1 convolution as shortcut, 8 of the middle flow with a plain one"),
    Row("VGG16", application("VGG16"), 0, 0, 0, "Simonyan and Zisserman 2014 "
        "(arXiv:1409.1556), table 1: no sums"),
    Row("ResNet50", application("ResNet50"), 12, 4, 0, RESNET.format("3+4+6+3")),
    Row("ResNet101", application("ResNet101"), 29, 4, 0, RESNET.format("3+4+23+3")),
    Row("ResNet152", application("ResNet152"), 46, 4, 0, RESNET.format("3+8+36+3")),
    Row("ResNet50V2", application("ResNet50V2"), 9, 7, 0,
        RESNET_V2.format("3+4+6+3")),
    Row("ResNet101V2", application("ResNet101V2"), 26, 7, 0,
        RESNET_V2.format("3+4+23+3")),
    Row("ResNet152V2", application("ResNet152V2"), 43, 7, 0,
        RESNET_V2.format("3+8+36+3")),
    Row("InceptionV3", application("InceptionV3", 75), 0, 0, 0, "Szegedy et al. 2015 "
        "(arXiv:1512.00567), figures 5 to 7: branches are concatenated, not summed"),
    Row("InceptionResNetV2", application("InceptionResNetV2", 75), 40, 0, 0,
        "Szegedy et al. 2016 (arXiv:1602.07261), figures 16, 17 and 19, as often as "
        "in their code, which Keras follows: 10 + 20 + 10 blocks"),
    Row("MobileNet", application("MobileNet"), 0, 0, 0, "Howard et al. 2017 "
        "(arXiv:1704.04861), table 1: no sums"),
    Row("MobileNetV2", application("MobileNetV2"), 10, 0, 0, "Sandler et al. 2018 "
        "(arXiv:1801.04381), table 2: n = 1, 2, 3, 4, 3, 3, 1; a shortcut in all but "
        "the first of each row"),
    Row("MobileNetV3Small", application("MobileNetV3Small"), 6, 0, 0,
        "Howard et al. 2019 (arXiv:1905.02244), table 2: 11 blocks, 4 of stride 2, "
        "1 of stride 1 from 40 to 48 channels"),
    Row("MobileNetV3Large", application("MobileNetV3Large"), 10, 0, 0,
        "Howard et al. 2019 (arXiv:1905.02244), table 1: 15 blocks, 4 of stride 2, "
        "1 of stride 1 from 80 to 112 channels"),
    Row("DenseNet121", application("DenseNet121"), 0, 0, 0, "Huang et al. 2017 "
        "(arXiv:1608.06993), equation 2: features are concatenated, not summed"),
    Row("NASNetMobile", application("NASNetMobile"), 12, 4, 0, NASNET.format(4)),
    Row("NASNetLarge", application("NASNetLarge"), 18, 4, 0, NASNET.format(6)),
    Row("EfficientNetB0", application("EfficientNetB0"), 9, 0, 0,
        EFFICIENT.format("")),
    Row("EfficientNetB3", application("EfficientNetB3"), 19, 0, 0,
        EFFICIENT.format(", times 1.4 and rounded up: 2, 3, 3, 5, 5, 6, 2")),
    Row("EfficientNetB7", application("EfficientNetB7"), 48, 0, 0,
        EFFICIENT.format(", times 3.1 and rounded up: 4, 7, 7, 10, 10, 13, 4")),
    Row("EfficientNetV2B0", application("EfficientNetV2B0"), 15, 0, 0,
        EFFICIENT_V2.format("1, 2, 2, 3, 5, 8 in Keras's B0, none of the first")),
    Row("EfficientNetV2S", application("EfficientNetV2S"), 35, 0, 0,
        EFFICIENT_V2.format("2, 4, 4, 6, 9, 15, of the first ones only stage 1's")),
    Row("ConvNeXtTiny", application("ConvNeXtTiny"), 18, 0, 0,
        CONVNEXT.format("3+3+9+3")),
    Row("ConvNeXtBase", application("ConvNeXtBase"), 36, 0, 0,
        CONVNEXT.format("3+3+27+3")),
]  # fmt: skip

# The depths of the transformers below: of the encoder and of the decoder, if any.
DEPTH = 2
TEXT = {
    "vocabulary_size": 50,
    "num_layers": DEPTH,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}
GROUPED = {"num_query_heads": 2, "num_key_value_heads": 1}
EXPERTS = {"num_experts": 2, "top_k": 1}
POSITIONS = {"max_sequence_length": 16}
IMAGE = {"image_shape": (16, 16, 3)}
VISION = {
    **IMAGE,
    "patch_size": 4,
    "num_layers": DEPTH,
    "num_heads": 2,
    "hidden_dim": 8,
}
CAPTION = {**TEXT, "embedding_dim": 8, "num_heads": 2}
WIDE = {"image_shape": (32, 32, 3)}


def hub(name: str, **arguments: object) -> Callable[[], keras.Model]:
    """Builds a model of KerasHub."""
    return lambda: getattr(models, name)(**arguments)


def electra() -> keras.Model:
    renamed = {**TEXT, "vocab_size": TEXT["vocabulary_size"]}
    del renamed["vocabulary_size"]
    return models.ElectraBackbone(**renamed, num_heads=2, embedding_dim=4, **POSITIONS)


def edrec() -> keras.Model:
    return models.EdRecBackbone(
        vocab_size=50,
        num_layers_enc=DEPTH,
        num_layers_dec=DEPTH,
        hidden_dim=8,
        intermediate_dim=16,
        num_heads=2,
    )


def moonshine() -> keras.Model:
    return models.MoonshineBackbone(
        vocabulary_size=50,
        filter_dim=8,
        encoder_num_layers=DEPTH,
        decoder_num_layers=DEPTH,
        hidden_dim=8,
        intermediate_dim=16,
        encoder_num_heads=2,
        decoder_num_heads=2,
    )


def encoder_and_decoder(name: str) -> Callable[[], keras.Model]:
    """Builds a T5Gemma, which takes every argument twice."""
    sizes = {
        "hidden_dim": 8,
        "intermediate_dim": 16,
        "num_layers": DEPTH,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "layer_types": ["full_attention"] * DEPTH,
    }
    sides = ("encoder", "decoder")
    named = {f"{side}_{key}": value for side in sides for key, value in sizes.items()}
    return hub(name, vocabulary_size=50, **named)


def smollm3() -> keras.Model:
    return models.SmolLM3Backbone(
        **TEXT,
        num_attention_heads=2,
        num_key_value_heads=1,
        attention_bias=False,
        attention_dropout=0.0,
        rope_layer_enabled_list=[True] * DEPTH,
        layer_types=["full_attention"] * DEPTH,
        mlp_bias=False,
        layer_norm_epsilon=1e-5,
        max_position_embeddings=16,
        rope_theta=1e4,
        partial_rotary_factor=1.0,
    )


def qwen3_5() -> keras.Model:
    return models.Qwen3_5Backbone(
        **TEXT,
        **GROUPED,
        head_dim=4,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=4,
        linear_value_head_dim=4,
        partial_rotary_factor=0.5,
        layer_types=["linear_attention", "full_attention"],
    )


def paligemma() -> keras.Model:
    return models.PaliGemmaBackbone(
        **TEXT,
        **GROUPED,
        head_dim=4,
        image_size=16,
        vit_patch_size=4,
        vit_num_heads=2,
        vit_hidden_dim=8,
        vit_num_layers=DEPTH,
        vit_intermediate_dim=16,
    )


def mit() -> keras.Model:
    return models.MiTBackbone(
        layerwise_depths=[2, 1],
        hidden_dims=[4, 8],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        **IMAGE,
    )


def segformer() -> keras.Model:
    return models.SegFormerBackbone(mit(), projection_filters=4)


def swin() -> keras.Model:
    return models.SwinTransformerBackbone(
        embed_dim=4, depths=(2, 1), num_heads=(1, 2), window_size=2, **WIDE
    )


def vit() -> keras.Model:
    return models.ViTBackbone(**VISION, mlp_dim=16)


def vit_det() -> keras.Model:
    return models.ViTDetBackbone(
        hidden_size=8,
        num_layers=DEPTH,
        intermediate_dim=16,
        num_heads=2,
        global_attention_layer_indices=[1],
        patch_size=4,
        num_output_channels=2,
        window_size=2,
        **IMAGE,
    )


def sam() -> keras.Model:
    """Image and prompt encoder; its mask decoder is no part of the backbone's graph."""
    size, channels = 32, 8
    return models.SAMBackbone(
        models.ViTDetBackbone(
            hidden_size=8,
            num_layers=DEPTH,
            intermediate_dim=16,
            num_heads=2,
            global_attention_layer_indices=[1],
            patch_size=8,
            num_output_channels=channels,
            window_size=2,
            image_shape=(size, size, 3),
        ),
        keras_hub.layers.SAMPromptEncoder(
            hidden_size=channels,
            image_embedding_size=(size // 8, size // 8),
            input_image_size=(size, size),
            mask_in_channels=4,
        ),
        keras_hub.layers.SAMMaskDecoder(
            num_layers=2,
            hidden_size=channels,
            intermediate_dim=16,
            num_heads=2,
            embedding_dim=channels,
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=8,
        ),
    )


def rwkv() -> keras.Model:
    return models.RWKV7Backbone(
        vocabulary_size=50,
        num_layers=DEPTH,
        hidden_size=8,
        head_size=4,
        intermediate_dim=16,
        gate_lora=2,
        mv_lora=2,
        aaa_lora=2,
        decay_lora=2,
    )


def video_prism() -> keras.Model:
    return models.VideoPrismBackbone(
        num_frames=2,
        patch_size=4,
        hidden_dim=8,
        intermediate_dim=16,
        num_heads=2,
        num_spatial_layers=DEPTH,
        num_temporal_layers=DEPTH,
        num_auxiliary_layers=0,
        **IMAGE,
    )


def two_towers(prefix: str, **options: object) -> Callable[[], keras.Model]:
    """Builds a model of images and their captions from its two encoders."""

    def build() -> keras.Model:
        vision = getattr(models, f"{prefix}VisionEncoder")
        text = getattr(models, f"{prefix}TextEncoder")
        return getattr(models, f"{prefix}Backbone")(
            vision(**VISION, intermediate_dim=16), text(**CAPTION), **options
        )

    return build


def resnet(block: str, pre: bool = False, stem: int = 1) -> Callable[[], keras.Model]:
    """Builds two stages of 2 and 3 blocks, of 64 and 8 filters, behind 64 channels."""
    return hub(
        "ResNetBackbone",
        input_conv_filters=[8] * (stem - 1) + [64],
        input_conv_kernel_sizes=[3] * stem,
        stackwise_num_filters=[64, 8],
        stackwise_num_blocks=[2, 3],
        stackwise_num_strides=[1, 2],
        block_type=block,
        use_pre_activation=pre,
        **WIDE,
    )


def csp_net(stage: str, block: str) -> Callable[[], keras.Model]:
    """Builds two stages of 1 and 2 blocks; each halves its channels unless dark."""
    return hub(
        "CSPNetBackbone",
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[2, 2],
        stackwise_num_filters=[8, 16],
        stage_type=stage,
        block_type=block,
        block_ratio=[1.0 if stage == "dark" else 0.5],
        **WIDE,
    )


def efficient_net(
    repeats: list[int], channels: list[int], kinds: list[str], **options: object
) -> Callable[[], keras.Model]:
    """Builds stages of given repeats; the first keeps the size, the others halve it."""
    stages = len(repeats)
    return hub(
        "EfficientNetBackbone",
        stackwise_kernel_sizes=[3] * stages,
        stackwise_num_repeats=repeats,
        stackwise_input_filters=channels[:-1],
        stackwise_output_filters=channels[1:],
        stackwise_expansion_ratios=[4] * stages,
        stackwise_strides=[1] + [2] * (stages - 1),
        stackwise_squeeze_and_excite_ratios=[0.25] * stages,
        stackwise_block_types=kinds,
        stackwise_width_coefficients=[1.0] * stages,
        stackwise_depth_coefficients=[1.0] * stages,
        input_shape=(32, 32, 3),
        **options,
    )


def hgnet() -> keras.Model:
    return models.HGNetV2Backbone(
        depths=[1, 3],
        embedding_size=4,
        hidden_sizes=[8, 16],
        stem_channels=[3, 4, 4],
        hidden_act="relu",
        use_learnable_affine_block=False,
        # In, middle and out channels; blocks; layers in each; kernel size.
        stackwise_stage_filters=[(4, 4, 8, 1, 2, 3), (8, 4, 16, 3, 2, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
        **WIDE,
    )


def mobile_net() -> keras.Model:
    return models.MobileNetBackbone(
        stackwise_expansion=[[8, 16], [16, 24]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[8, 8], [8, 16]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [1, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu"] * 2, ["hard_swish"] * 2],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=24,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=8,
        depthwise_filters=8,
        depthwise_stride=1,
        depthwise_residual=True,
        squeeze_and_excite=0.5,
        last_layer_filter=16,
        **WIDE,
    )


def mobile_net_v5() -> keras.Model:
    """Kinds: an edge residual, a universal inverted residual, mobile attention."""
    kinds = [["er", "er"], ["uir", "uir", "mqa"]]

    def stages(first: list, second: list) -> list[list]:
        return [first, second]

    return models.MobileNetV5Backbone(
        stackwise_block_types=kinds,
        stackwise_num_blocks=[2, 3],
        stackwise_num_filters=stages([8, 8], [16, 16, 16]),
        stackwise_strides=stages([2, 1], [2, 1, 1]),
        stackwise_act_layers=stages(["relu"] * 2, ["relu"] * 3),
        stackwise_exp_ratios=stages([4.0] * 2, [4.0, 4.0, 1.0]),
        stackwise_se_ratios=stages([0.0] * 2, [0.0] * 3),
        stackwise_dw_kernel_sizes=stages([0] * 2, [5, 5, 3]),
        stackwise_dw_start_kernel_sizes=stages([0] * 2, [0] * 3),
        stackwise_dw_end_kernel_sizes=stages([0] * 2, [0] * 3),
        stackwise_exp_kernel_sizes=stages([3] * 2, [0] * 3),
        stackwise_pw_kernel_sizes=stages([1] * 2, [0] * 3),
        stackwise_num_heads=stages([0] * 2, [0, 0, 2]),
        stackwise_key_dims=stages([0] * 2, [0, 0, 4]),
        stackwise_value_dims=stages([0] * 2, [0, 0, 4]),
        stackwise_kv_strides=stages([0] * 2, [0, 0, 1]),
        stackwise_use_cpe=stages([False] * 2, [False] * 3),
        stem_size=8,
        num_features=4,
        use_msfa=False,
        **WIDE,
    )


def deeplab() -> keras.Model:
    return models.DeepLabV3Backbone(
        resnet("bottleneck_block")(),
        spatial_pyramid_pooling_key="P3",
        low_level_feature_key="P2",
        upsampling_size=2,
        dilation_rates=[1, 2],
        projection_filters=4,
        **WIDE,
    )


def vae() -> keras.Model:
    # Not exported, but what KerasHub's Stable Diffusion is built from.
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone

    return VAEBackbone([32, 64], [1, 1], [64, 32], [1, 1])


def classifier(name: str, build: Callable[[], keras.Model]) -> Callable:
    """Builds a classifier around a backbone."""
    return lambda: getattr(models, name)(build(), num_classes=3)


ENCODER = "Vaswani et al. 2017 (arXiv:1706.03762), section 3.1: a residual connection "
ENCODER += "around each sub-layer, so one block for each of num_layers layers; {}"
SEQ2SEQ = "Vaswani et al. 2017 (arXiv:1706.03762), section 3.1: one block for each "
SEQ2SEQ += "layer of encoder and decoder, with num_layers of either; {}"
BASIC = "He et al. 2015 (arXiv:1512.03385), section 3.3: 2 + 3 blocks; a projection "
BASIC += "where the shape changes: {}"
MBCONV = "Sandler et al. 2018 (arXiv:1801.04381), section 3: a shortcut where the "
MBCONV += "stride is 1 and the channels stay; {}"

TRANSFORMERS = [
    ("Bert", "BertBackbone", "Devlin et al. 2018"),
    ("Roberta", "RobertaBackbone", "Liu et al. 2019"),
    ("XLMRoberta", "XLMRobertaBackbone", "Conneau et al. 2019"),
    ("DistilBert", "DistilBertBackbone", "Sanh et al. 2019"),
    ("DebertaV3", "DebertaV3Backbone", "He et al. 2021 (arXiv:2111.09543)"),
    ("GPT2", "GPT2Backbone", "Radford et al. 2019"),
    ("OPT", "OPTBackbone", "Zhang et al. 2022"),
]
GROUPED_TRANSFORMERS = [
    ("Llama", "LlamaBackbone", {}, "Touvron et al. 2023"),
    ("Llama3", "Llama3Backbone", {}, "Grattafiori et al. 2024"),
    ("Mistral", "MistralBackbone", {}, "Jiang et al. 2023"),
    ("Phi3", "Phi3Backbone", {}, "Abdin et al. 2024"),
    ("Qwen", "QwenBackbone", {}, "Qwen2.5, arXiv:2412.15115"),
    ("Qwen3", "Qwen3Backbone", {"head_dim": 4}, "arXiv:2505.09388"),
    ("Gemma", "GemmaBackbone", {"head_dim": 4}, "Gemma team 2024"),
    ("Gemma3", "Gemma3Backbone", {"head_dim": 4, "image_size": 16}, "arXiv:2503.19786"),
    ("Gemma4", "Gemma4Backbone", {"head_dim": 4, "image_size": 16},
     "a trained scalar multiplies the sum at the end of each layer"),
    ("Mixtral", "MixtralBackbone", EXPERTS, "experts as the second branch"),
    ("QwenMoe", "QwenMoeBackbone", {**EXPERTS, "moe_intermediate_dim": 4,
     "shared_expert_intermediate_dim": 4}, "experts as the second branch"),
    ("Qwen3Moe", "Qwen3MoeBackbone", {**EXPERTS, "moe_intermediate_dim": 4,
     "head_dim": 4}, "experts as the second branch"),
    ("GptOss", "GptOssBackbone", EXPERTS, "experts as the second branch"),
]  # fmt: skip

HUB = [
    *(
        Row(name, hub(kind, **TEXT, num_heads=2, **POSITIONS), 0, 0, DEPTH,
            ENCODER.format(source))
        for name, kind, source in TRANSFORMERS
    ),
    Row("Bert, short", hub("BertBackbone", **TEXT, num_heads=2, max_sequence_length=8),
        0, 0, DEPTH, "as Bert; the sum of tokens and positions is none"),
    *(
        Row(name, hub(kind, **TEXT, **GROUPED, **extra), 0, 0, DEPTH,
            ENCODER.format(source))
        for name, kind, extra, source in GROUPED_TRANSFORMERS
    ),
    Row("Albert", hub("AlbertBackbone", **{**TEXT, "num_layers": 4}, num_heads=2,
        embedding_dim=4, **POSITIONS), 0, 0, 4, "Lan et al. 2019 (arXiv:1909.11942), "
        "section 3.1: one layer's weights for all num_layers = 4 uses"),
    Row("Albert, two groups", hub("AlbertBackbone", **{**TEXT, "num_layers": 4},
        num_heads=2, embedding_dim=4, num_groups=2, num_inner_repetitions=2,
        **POSITIONS), 0, 0, 8, "Lan et al. 2019 (arXiv:1909.11942), section 3.1 and "
        "their code: each of 4 layers is num_inner_repetitions = 2 of its group's"),
    Row("Electra", electra, 0, 0, DEPTH, ENCODER.format("Clark et al. 2020")),
    Row("FNet", hub("FNetBackbone", **TEXT, **POSITIONS), 0, 0, DEPTH,
        "Lee-Thorp et al. 2021 (arXiv:2105.03824), figure 1: num_layers layers, "
        "Fourier transform and feed-forward, a residual connection around each"),
    Row("Bloom", hub("BloomBackbone", **TEXT, num_heads=2), 0, 0, DEPTH,
        ENCODER.format("Le Scao et al. 2022")),
    Row("Falcon", hub("FalconBackbone", **TEXT, num_attention_heads=2), 0, 0, DEPTH,
        ENCODER.format("Penedo et al. 2023 (arXiv:2306.01116), Falcon-RW: a sum after "
        "the attention and one after the feed-forward")),
    Row("GPTNeoX", hub("GPTNeoXBackbone", **TEXT, num_heads=2, rotary_percentage=0.5),
        0, 0, DEPTH, "Black et al. 2022 (arXiv:2204.06745), section 2.1.2: x + "
        "attention(norm(x)) + feedforward(norm(x)) in each of num_layers layers"),
    Row("ESM2", hub("ESM2Backbone", **TEXT, num_heads=2), 0, 0, DEPTH,
        ENCODER.format("Lin et al. 2022")),
    Row("RoformerV2", hub("RoformerV2Backbone", **TEXT, num_heads=2, head_size=4), 0, 0,
        DEPTH, ENCODER.format("normalised after each sum, by its mean square alone")),
    Row("XLNet", hub("XLNetBackbone", **TEXT, num_heads=2), 0, 0, DEPTH,
        "Yang et al. 2019 (arXiv:1906.08237), appendix A.2: sum and norm after the "
        "attention and after the feed-forward of each of num_layers layers"),
    Row("RWKV7", rwkv, 0, 0, DEPTH, "Peng et al. 2025 (arXiv:2503.14456), section 4: x "
        "+ time mix, then x + channel mix, in each of num_layers layers; the mixing of "
        "neighbouring tokens inside is an interpolation"),
    Row("Qwen3.5", qwen3_5, 0, 0, DEPTH, "as Qwen3; linear attention in layer 1"),
    Row("SmolLM3", smollm3, 0, 0, DEPTH, ENCODER.format("as Llama")),
    Row("T5", hub("T5Backbone", **TEXT, num_heads=2), 0, 0, 2 * DEPTH,
        SEQ2SEQ.format("Raffel et al. 2019 (arXiv:1910.10683), section 2.1")),
    Row("T5Gemma", encoder_and_decoder("T5GemmaBackbone"), 0, 0, 2 * DEPTH,
        SEQ2SEQ.format("arXiv:2504.06225")),
    Row("T5Gemma2", encoder_and_decoder("T5Gemma2Backbone"), 0, 0, 2 * DEPTH,
        SEQ2SEQ.format("self- and cross-attention merged in the decoder")),
    Row("Bart", hub("BartBackbone", **TEXT, num_heads=2, **POSITIONS), 0, 0, 2 * DEPTH,
        SEQ2SEQ.format("Lewis et al. 2019 (arXiv:1910.13461), section 2.1")),
    Row("EdRec", edrec, 0, 0, 2 * DEPTH, SEQ2SEQ.format("")),
    # Its encoder adds sinusoids to the frames: no function of their values.
    Row("Whisper", hub("WhisperBackbone", **TEXT, num_heads=2, num_mels=4,
        max_encoder_sequence_length=16, max_decoder_sequence_length=16), 0, 0,
        2 * DEPTH, SEQ2SEQ.format("Radford et al. 2022 (arXiv:2212.04356), figure 1")),
    Row("Moonshine", moonshine, 0, 0, 2 * DEPTH,
        SEQ2SEQ.format("Jeffries et al. 2024 (arXiv:2410.15608), section 3")),
    Row("ViT", vit, 0, 0, DEPTH, "Dosovitskiy et al. 2020 (arXiv:2010.11929), "
        "equations 2 and 3: two sums in each of num_layers layers"),
    Row("DeiT", hub("DeiTBackbone", **VISION, intermediate_dim=16), 0, 0, DEPTH,
        "Touvron et al. 2020 (arXiv:2012.12877), section 3: ViT's layers"),
    Row("DINOV2", hub("DINOV2Backbone", **VISION, intermediate_dim=16,
        position_embedding_shape=(16, 16, 3)), 0, 0, DEPTH, "Oquab et al. 2023 "
        "(arXiv:2304.07193): ViT's layers, their branches scaled"),
    Row("DINOV3", hub("DINOV3Backbone", **VISION, intermediate_dim=16), 0, 0, DEPTH,
        "Siméoni et al. 2025 (arXiv:2508.10104): ViT's layers with rotary positions"),
    Row("ViTDet", vit_det, 0, 0, DEPTH, "Li et al. 2022 (arXiv:2203.16527), section 3: "
        "ViT's layers, attention within windows in some of them"),
    Row("SAM", sam, 0, 0, DEPTH, "Kirillov et al. 2023 (arXiv:2304.02643), appendix A: "
        "the image encoder is ViTDet's"),
    Row("Swin", swin, 0, 0, 2 + 1, "Liu et al. 2021 (arXiv:2103.14030), equation 3: "
        "depths = 2, 1 layers; none merges patches by a sum"),
    Row("MiT", mit, 0, 0, 2 + 1, "Xie et al. 2021 (arXiv:2105.15203), figure 2: depths "
        "= 2, 1 layers, each with a sum after the attention and after Mix-FFN"),
    Row("SegFormer", segformer, 0, 0, 2 + 1, "as MiT, its encoder; the decoder "
        "concatenates (Xie et al. 2021, section 3.2)"),
    Row("VideoPrism", video_prism, 0, 0, 2 * DEPTH, "Zhao et al. 2024 "
        "(arXiv:2402.13217), factorised encoder: ViT's layers in space, then in time"),
    Row("CLIP vision", hub("CLIPVisionEncoder", **VISION, intermediate_dim=16), 0, 0,
        DEPTH, "Radford et al. 2021 (arXiv:2103.00020), section 2.4: ViT's layers"),
    Row("CLIP text", hub("CLIPTextEncoder", **CAPTION), 0, 0, DEPTH,
        "Radford et al. 2021 (arXiv:2103.00020), section 2.4: GPT-2's layers"),
    Row("CLIP", two_towers("CLIP", projection_dim=4), 0, 0, 2 * DEPTH,
        "the two encoders side by side; their outputs are multiplied"),
    Row("MetaCLIP2", two_towers("MetaCLIP2", projection_dim=4), 0, 0, 2 * DEPTH,
        "as CLIP"),
    # The head's state begins inside the head: it does not come from the layers.
    Row("SigLIP vision", hub("SigLIPVisionEncoder", **VISION, intermediate_dim=16), 1,
        0, DEPTH, "ViT's layers, and in the pooling head (Zhai et al. 2022, "
        "arXiv:2106.04560, appendix) the attention's result + its feed-forward"),
    Row("SigLIP text", hub("SigLIPTextEncoder", **CAPTION), 0, 0, DEPTH,
        "Zhai et al. 2023 (arXiv:2303.15343), section 4: a transformer encoder"),
    Row("SigLIP", two_towers("SigLIP"), 1, 0, 2 * DEPTH, "the two encoders"),
    Row("PaliGemma", paligemma, 0, 0, 2 * DEPTH, "Beyer et al. 2024 "
        "(arXiv:2407.07726), section 3.1: SigLIP's layers, no head, and Gemma's"),
    Row("ResNet, basic", resnet("basic_block"), 4, 1, 0,
        BASIC.format("in the first of stage 2, which strides")),
    Row("ResNet, bottleneck", resnet("bottleneck_block"), 3, 2, 0,
        BASIC.format("in the first of either stage, with four times the filters")),
    Row("ResNetV2, basic", resnet("basic_block", pre=True), 4, 1, 0,
        BASIC.format("in the first of stage 2, of the activated state")),
    Row("ResNetV2, bottleneck", resnet("bottleneck_block", pre=True), 3, 2, 0,
        BASIC.format("in the first of either stage, of the activated state")),
    Row("ResNet-vd, basic", resnet("basic_block_vd", stem=3), 3, 2, 0, "He et al. 2018 "
        "(arXiv:1812.01187), figure 2c: 2 + 3 blocks, pooling and a 1x1 convolution "
        "in the shortcut of the first of stage 2; KerasHub puts a 1x1 convolution into "
        "that of stage 1, too, where it keeps the shape"),
    Row("ResNet-vd, bottleneck", resnet("bottleneck_block_vd", stem=3), 3, 2, 0,
        "He et al. 2018 (arXiv:1812.01187), figure 2c: 2 + 3 blocks, a 1x1 convolution "
        "to four times the filters in the first of stage 1, pooling before it in "
        "that of stage 2"),
    Row("DeepLabV3", deeplab, 3, 2, 0, "the ResNet inside; Chen et al. 2018 "
        "(arXiv:1802.02611), figure 2: the rest concatenates"),
    *(
        Row(f"CSPNet, {stage}, {block}", csp_net(stage, f"{block}_block"), 1 + 2, 0, 0,
            "Redmon and Farhadi 2018 (arXiv:1804.02767), table 1, and Wang et al. 2019 "
            "(arXiv:1911.11929), figure 3: depth = 1, 2 blocks with a plain shortcut; "
            "the two paths of a cross stage are concatenated")
        for stage, block in [("dark", "edge"), ("csp", "dark"), ("cs3", "bottleneck")]
    ),
    Row("Xception", hub("XceptionBackbone", stackwise_conv_filters=[[4, 8], [8, 16],
        [16, 16], [16, 32]], stackwise_pooling=[False, True, False, True], **WIDE), 1,
        1, 0, "Chollet 2017 (arXiv:1610.02357), figure 5: the first and last have no "
        "shortcut; that of a block that pools is a 1x1 convolution"),
    Row("EfficientNet", efficient_net([1, 2, 3], [8, 8, 16, 24], ["v1"] * 3), 4, 0, 0,
        MBCONV.format("1 + 1 + 2 of 1, 2, 3 repeats, the channels of 1 stay")),
    Row("EfficientNetV2", efficient_net([2, 2, 3], [8, 8, 16, 24], ["fused", "fused",
        "unfused"]), 0, 0, 5, MBCONV.format("2 + 1 + 2 of 2, 2, 3 repeats")),
    Row("EfficientNet, plain", efficient_net([2, 2], [8, 8, 16], ["cba", "cba"],
        stackwise_nores_option=[False, True]), 0, 0, 2, MBCONV.format(
        "2 of the 2 repeats of stage 1; stackwise_nores_option forbids those of 2")),
    Row("MobileNetV3", mobile_net, 0, 0, 1 + 1 + 1, MBCONV.format("the depthwise block "
        "(depthwise_residual), the second of stage 1 and the first of stage 2")),
    Row("MobileNetV5", mobile_net_v5, 0, 0, 1 + 2, MBCONV.format("the blocks of "
        "stride 1: one of stage 1, two of stage 2")),
    Row("HGNetV2", hgnet, 0, 0, 2, "PaddleClas's HGNetV2, HG_Stage: a shortcut in all "
        "but the first of a stage's blocks, 1 and 3 of them"),
    Row("VAE", vae, 0, 2, 8, "Rombach et al. 2021 (arXiv:2112.10752), their code: "
        "encoder and decoder each have 1 + 1 residual blocks, the one from 32 to 64 or "
        "64 to 32 channels with a 1x1 convolution, and in the middle two more and an "
        "attention with a plain shortcut; mean + deviation * noise is none"),
    Row("DenseNet", hub("DenseNetBackbone", stackwise_num_repeats=[1, 2],
        growth_rate=4, **WIDE), 0, 0, 0, "Huang et al. 2017 (arXiv:1608.06993)"),
    Row("VGG", hub("VGGBackbone", stackwise_num_repeats=[1, 2],
        stackwise_num_filters=[4, 8], **WIDE), 0, 0, 0, "Simonyan and Zisserman 2014"),
]  # fmt: skip

# The prefix of their blocks' names is the backbone inside.
CLASSIFIERS = [
    Row("ResNet", classifier("ResNetImageClassifier", resnet("basic_block")), 4, 1, 0,
        "the backbone's"),
    Row("ViT", classifier("ViTImageClassifier", vit), 0, 0, DEPTH, "the backbone's"),
    Row("Bert", classifier("BertTextClassifier", hub("BertBackbone", **TEXT,
        num_heads=2, **POSITIONS)), 0, 0, DEPTH, "the backbone's"),
]  # fmt: skip
