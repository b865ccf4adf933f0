"""Networks of several parts, and how many residual blocks their sources give them.

Detectors, models of images, sound and text together, generators and quantisers; and two
plain networks of our own, for what no library builds. Each count was read off the sums
in the code that is named, not off what a search finds.
"""

from __future__ import annotations

import keras

from support.architectures import (
    DEPTH,
    GROUPED,
    IMAGE,
    TEXT,
    VISION,
    WIDE,
    Row,
    hgnet,
    mobile_net_v5,
    models,
    resnet,
)

if models is not None:
    from keras_hub import layers as hub_layers

L = keras.layers


# Gemma3n's encoder of sound: one layer.
SOUND = {
    "hidden_size": 8,
    "input_feat_size": 16,
    "sscp_conv_channel_size": [2, 4],
    "sscp_conv_kernel_size": [(3, 3), (3, 3)],
    "sscp_conv_stride_size": [(2, 2), (2, 2)],
    "sscp_conv_group_norm_eps": 1e-5,
    "num_hidden_layers": 1,
    "rms_norm_eps": 1e-6,
    "gradient_clipping": 1.0,
    "residual_weight": 0.5,
    "num_attention_heads": 2,
    "attention_chunk_size": 4,
    "num_attention_context_right": 0,
    "num_attention_context_left": 5,
    "attention_logit_cap": 50.0,
    "conv_kernel_size": 5,
    "reduction_factor": 1,
}


def dncnn() -> keras.Model:
    """The residual is what is subtracted: noise."""
    noisy = keras.Input((8, 8, 1))
    x = L.Conv2D(4, 3, padding="same", activation="relu")(noisy)
    x = L.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = L.ReLU()(L.BatchNormalization()(x))
    noise = L.Conv2D(1, 3, padding="same")(x)
    return keras.Model(noisy, L.Subtract()([noisy, noise]))


def resnet_d() -> keras.Model:
    """Bottlenecks of 8 channels, then 16; the first keeps the shape of its state."""

    def block(x: keras.KerasTensor, filters: int, strides: int, first: bool):
        y = L.Conv2D(filters // 4, 1, activation="relu")(x)
        y = L.Conv2D(filters // 4, 3, strides, "same", activation="relu")(y)
        y = L.BatchNormalization()(L.Conv2D(filters, 1)(y))
        if first:
            x = L.AveragePooling2D(strides, strides)(x) if strides > 1 else x
            x = L.BatchNormalization()(L.Conv2D(filters, 1)(x))
        return L.ReLU()(L.add([x, y]))

    image = keras.Input((8, 8, 3))
    x = L.Conv2D(8, 3, padding="same")(image)
    for filters, strides in [(8, 1), (16, 2)]:
        for number in range(2):
            first = number == 0
            x = block(x, filters, strides if first else 1, first)
    return keras.Model(image, x)


def depth_anything() -> keras.Model:
    """Two stages: as many features, each from one layer of the image encoder."""
    encoder = models.DINOV2Backbone(
        **VISION, intermediate_dim=16, position_embedding_shape=(16, 16, 3)
    )
    return models.DepthAnythingBackbone(
        encoder,
        reassemble_factors=[2, 1],
        neck_hidden_dims=[4, 8],
        fusion_hidden_dim=8,
        head_hidden_dim=4,
        head_in_index=-1,
        feature_keys=["stage1", "stage2"],
    )


def mmdit(dual: tuple[int, ...] = ()) -> keras.Model:
    """Three layers; the last has no second stream any more."""
    # Not exported, but what KerasHub's Stable Diffusion 3 is built from.
    from keras_hub.src.models.stable_diffusion_3.mmdit import MMDiT

    return MMDiT(
        patch_size=2,
        hidden_dim=8,
        num_layers=3,
        num_heads=2,
        position_size=8,
        latent_shape=(8, 8, 4),
        context_shape=(6, 12),
        pooled_projection_shape=(16,),
        dual_attention_indices=dual,
    )


def flux() -> keras.Model:
    """One layer of two streams, and two of one."""
    shape = (6, 8)
    return models.FluxBackbone(
        input_channels=8,
        hidden_size=8,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=2,
        axes_dim=[4],
        theta=10_000,
        use_bias=True,
        image_shape=shape,
        text_shape=shape,
        image_ids_shape=(6, 1),
        text_ids_shape=(6, 1),
        y_shape=(8,),
    )


def d_fine() -> keras.Model:
    """Two levels, one encoder layer and one decoder layer."""
    return models.DFineBackbone(
        backbone=hgnet(),
        decoder_in_channels=[8, 8],
        encoder_hidden_dim=8,
        num_labels=3,
        num_denoising=0,
        learn_initial_query=False,
        num_queries=5,
        anchor_image_size=(32, 32),
        feat_strides=[4, 8],
        num_feature_levels=2,
        hidden_dim=8,
        encoder_in_channels=[8, 16],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=16,
        num_encoder_layers=1,
        hidden_expansion=1.0,
        depth_multiplier=1 / 3,  # of three bottlenecks: one
        eval_idx=-1,
        num_decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=8,
        num_lqe_layers=2,
        out_features=["stage1", "stage2"],
        **WIDE,
    )


def basnet() -> keras.Model:
    """One block in each stage of the ResNet, and six of BASNet's own behind them."""
    encoder = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 8, 16, 32],
        stackwise_num_blocks=[1] * 4,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )
    return models.BASNetBackbone(encoder, num_classes=1, image_shape=(64, 64, 3))


def retina_net() -> keras.Model:
    return models.RetinaNetBackbone(
        resnet("basic_block")(), min_level=2, max_level=4, use_p5=False, **WIDE
    )


def blip2(language: str) -> keras.Model:
    """Of two layers of the Q-Former, the first looks at the image."""
    sizes = {"num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    rates = {"layer_norm_epsilon": 1e-6, "dropout": 0.0}
    vision = models.BLIP2VisionEncoder(
        image_size=16,
        patch_size=4,
        num_layers=DEPTH,
        **sizes,
        use_patch_bias=True,
        use_class_token=True,
        use_mha_bias=True,
        use_mlp_bias=True,
        dropout_rate=0.0,
        layer_norm_epsilon=1e-6,
        initializer_range=0.02,
    )
    qformer = models.BLIP2QFormer(
        num_query_tokens=3,
        num_layers=2,
        **sizes,
        vision_dim=8,
        cross_attention_frequency=2,
        **rates,
    )
    options = {"max_sequence_length": 16} if language == "BLIP2CustomOPT" else {}
    decoder = getattr(models, language)(
        **TEXT,
        num_heads=2,
        num_query_tokens=3,
        qformer_hidden_dim=8,
        **rates,
        **options,
    )
    return models.BLIP2Backbone(vision, qformer, decoder)


def gemma3n(audio: bool = False) -> keras.Model:
    """Text of one layer, whose gate is sparse, images and, if wanted, sound."""
    sound = {"audio_encoder_config": SOUND, "audio_hidden_size": 8} if audio else {}
    return models.Gemma3nBackbone(
        text_vocab_size=50,
        text_hidden_size=8,
        num_hidden_layers=1,
        pad_token_id=0,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        intermediate_size=[16],
        hidden_activation="gelu_approximate",
        layer_types=["full_attention"],
        sliding_window=4,
        rope_theta=1e4,
        max_position_embeddings=16,
        vocab_size_per_layer_input=50,
        hidden_size_per_layer_input=2,
        altup_num_inputs=2,
        laurel_rank=1,
        activation_sparsity_pattern=[0.9],
        vision_encoder_config=mobile_net_v5().get_config(),
        vision_hidden_size=16,
        **sound,
    )


def gemma3n_audio() -> keras.Model:
    """The encoder of sound alone."""
    sound, mask = keras.Input((16, 16)), keras.Input((16,), dtype="bool")
    encoder = gemma3n(audio=True).audio_encoder
    return keras.Model([sound, mask], encoder((sound, mask))[0])


def gemma4() -> keras.Model:
    vision = models.Gemma4VisionEncoder(
        image_size=16,
        patch_size=4,
        num_heads=2,
        hidden_dim=8,
        num_layers=DEPTH,
        intermediate_dim=16,
        head_dim=4,
        output_dim=8,
        pool_size=2,
        position_embedding_size=16,
    )
    audio = models.Gemma4AudioEncoder(
        input_feat_size=16,
        hidden_size=8,
        num_heads=2,
        num_layers=1,
        chunk_size=4,
        context_left=5,
        sscp_conv_channels=(2, 4),
        output_proj_dims=8,
        output_dim=8,
    )
    return models.Gemma4Backbone(
        **TEXT,
        **GROUPED,
        head_dim=4,
        image_size=16,
        vision_encoder=vision,
        audio_encoder=audio,
        num_audio_tokens_per_clip=4,
        hidden_size_per_layer_input=2,
        vocab_size_per_layer_input=50,
    )


def rqvae() -> keras.Model:
    # Not exported.
    from keras_hub.src.models.rqvae.rqvae_backbone import RQVAEBackbone

    return RQVAEBackbone(
        input_dim=8,
        encoder_layer_dims=[6],
        output_dim=4,
        decoder_layer_dims=[6],
        num_embeddings=5,
        num_quantizers=2,
    )


def parseq() -> keras.Model:
    return models.PARSeqBackbone(
        models.ViTBackbone(**VISION, mlp_dim=16, use_class_token=False),
        vocabulary_size=50,
        max_label_length=8,
        decoder_hidden_dim=8,
        num_decoder_layers=1,
        num_decoder_heads=2,
        decoder_mlp_dim=16,
    )


def sam3() -> keras.Model:
    """One layer in each of five transformers, two in the last."""
    sizes = {
        "num_layers": 1,
        "hidden_dim": 8,
        "intermediate_dim": 16,
        "num_heads": 2,
    }
    return models.SAM3PromptableConceptBackbone(
        vision_encoder=hub_layers.SAM3VisionEncoder(
            **sizes,
            **IMAGE,
            patch_size=4,
            fpn_hidden_dim=8,
            fpn_scale_factors=[2.0, 1.0, 0.5],
            pretrain_image_shape=(8, 8, 3),
            window_size=2,
            global_attn_indexes=[],
        ),
        text_encoder=hub_layers.SAM3TextEncoder(
            **sizes, vocabulary_size=50, embedding_dim=8, max_sequence_length=8
        ),
        geometry_encoder=hub_layers.SAM3GeometryEncoder(**sizes, roi_size=2),
        detr_encoder=hub_layers.SAM3DetrEncoder(**sizes),
        detr_decoder=hub_layers.SAM3DetrDecoder(
            **{**sizes, **IMAGE, "num_layers": 2}, patch_size=4, num_queries=5
        ),
        mask_decoder=hub_layers.SAM3MaskDecoder(
            num_upsampling_stages=2, hidden_dim=8, num_heads=2
        ),
    )


# A transformer layer counts once, whatever its number of sums, if they carry its state.
OWN = [
    Row("DnCNN", dncnn, 1, 0, 0, "Zhang et al. 2017 (arXiv:1608.03981), figure 1: the "
        "clean image is y - R(y), one sum around the whole network"),
    Row("ResNet-D", resnet_d, 2, 2, 0, "He et al. 2018 (arXiv:1812.01187), figure 2c: "
        "2 + 2 blocks, a 1x1 convolution in the shortcut of the first of each stage, "
        "behind a pooling where it strides; stage 1's keeps the shape"),
]  # fmt: skip
COMPOSITE = [
    Row("DepthAnything", depth_anything, 0, 0, DEPTH + 3, "DINOV2's layers; in "
        "DepthAnythingNeck a DepthAnythingPreActResidualLayer (x + conv(conv(x))) "
        "twice in each of 2 fusion stages, but once in the first, which gets no "
        "`residual`; the sum of fused and new features adds parallel branches"),
    Row("MMDiT", mmdit, 0, 0, 2 + 2 + 1, "mmdit.py, DismantledBlock."
        "_compute_post_attention: x + gate * attention, then x + gate * MLP, so 2 of "
        "10 sums in each of 5 uses: image and context in each of 3 layers, but no "
        "context in the last"),
    Row("MMDiT, dual attention", lambda: mmdit((0,)), 0, 0, 2 + 2 + 1, "as MMDiT, a "
        "third sum (x + gate * second attention) for the image in layer 0"),
    Row("Flux", flux, 0, 0, 2 + 2, "flux_layers.py, DoubleStreamBlock: two states, two "
        "sums each, of image and text; SingleStreamBlock: x + gate * output, twice"),
    Row("DFine", d_fine, 2, 2 * 2, 2 + 1, "HGNetV2's 2; DFineEncoderLayer: 1 layer of "
        "two sums; DFineDecoderLayer: x + attention and x + feed-forward, apart, for a "
        "gate (DFineGate) mixes state and branch between them; DFineRepVggBlock: 3x3 + "
        "1x1 convolution of x (Ding et al. 2021, arXiv:2101.03697: a convolutional "
        "shortcut), 2 in each of an FPN and a PAN block"),
    Row("BASNet", basnet, 1 + 2 * 3 + 1, 3, 0, "the ResNet's 4, of which those of "
        "stages 2 to 4 project; basnet_predict: 3 basic blocks in each of 2 stages "
        "more; basnet_rrm: refined = coarse + residual"),
    Row("RetinaNet", retina_net, 4, 1, 0, "the ResNet inside; FeaturePyramid adds a "
        "1x1 convolution of a level to the level above, which goes around the blocks "
        "of a stage"),
    *(
        Row(f"BLIP2, {name}", lambda language=language: blip2(language), 2, 0,
            DEPTH + 2 + 1 + text, "BLIP2VisionEncoder: ViT's layers; QFormerLayer: x + "
            "feed-forward in 2, and a QFormerAttention (query + attention) in 2 for "
            f"the queries, in the first for the image; {source}")
        for name, language, text, source in [
            ("OPT", "BLIP2CustomOPT", DEPTH, "OPT's layers"),
            ("Flan-T5", "BLIP2FlanT5", 2 * DEPTH, "T5's layers"),
        ]
    ),
    # The attention's sum goes around a laurel block: a long skip, not the innermost.
    Row("Gemma3n", gemma3n, 2, 0, 1 + 3, "Gemma3nTextDecoderBlock: AltUp's prediction "
        "(matmul(x) + x) and x + feed-forward, and a Gemma3nTextLaurelBlock (x + low "
        "rank of x) on the way of x + attention + laurel; AltUp's correction goes "
        "around them; MobileNetV5's 3"),
    Row("Gemma3n, audio", gemma3n_audio, 0, 0, 4, "Gemma3nAudioConformerBlock: "
        "feed-forward, attention, convolution, feed-forward, each a layer with a sum"),
    Row("Gemma4, with encoders", gemma4, 0, 0, DEPTH + DEPTH + 4, "Gemma4's layers, "
        "with a third sum (per_layer_input); Gemma4VisionDecoderBlock: two sums in "
        "each of 2 layers; Gemma4AudioConformerBlock: as Gemma3n's"),
    Row("RQVAE", rqvae, 2, 0, 0, "ResidualVectorQuantizer: x - q_1(x), the next "
        "quantiser's input, and q_1 + q_2, where q_2 is computed from x - q_1"),
    Row("PARSeq", parseq, 0, 0, DEPTH + 1, "ViT's layers; PARSeqDecoderBlock."
        "forward_stream: three sums for the query in 1 layer; positions + tokens are "
        "no block"),
    Row("SAM3", sam3, 2, 0, 4 + 2, "SAM3ViTLayer, CLIPEncoderLayer, "
        "SAM3GeometryEncoderLayer, SAM3DetrEncoderLayer, SAM3DetrDecoderLayer: two to "
        "four sums in each layer of the five transformers; SAM3MaskDecoder: x + "
        "attention of the prompt; SAM3DotProductScoring: x + MLP of the text"),
]  # fmt: skip
