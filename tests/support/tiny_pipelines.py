"""Pipelines of exactly the classes that the presets name, with a few thousand random weights, as folders on disk."""

import diffusers
import torch
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

SIDE = 16


# The video half of this processor needs torchvision, and there is no build of that for the CPU torch; nobody misses it.
transformers.Qwen2VLProcessor.get_attributes = classmethod(lambda cls: ["image_processor", "tokenizer"])


def qwen_tokenizer(kind=transformers.Qwen2Tokenizer):
    vision = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *vision]
    vocab = {letter: number for number, letter in enumerate([*bytes_to_unicode().values(), *special])}
    tokenizer = kind(vocab=vocab, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def qwen_vl(tokenizer):
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }.items()}  # fmt: skip
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": SIDE,
        "intermediate_size": SIDE,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }
    vision = {"depth": 2, "hidden_size": SIDE, "intermediate_size": SIDE, "num_heads": 2, "out_hidden_size": SIDE}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen_vae():
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def qwen_image(kind):
    tokenizer = qwen_tokenizer()
    parts = {
        "transformer": diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=SIDE,
            axes_dims_rope=(8, 4, 4),
        ),
        "vae": qwen_vae(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "text_encoder": qwen_vl(tokenizer),
        "tokenizer": tokenizer,
    }
    if kind is not diffusers.QwenImagePipeline:
        parts["processor"] = processor(tokenizer)
    return kind(**parts)


def processor(tokenizer):
    image_processor = transformers.Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56)
    return transformers.Qwen2VLProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template)


def flux_vae(channels=4):
    return diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4, 4, 4, 4],
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=channels,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


def flux(kind):
    letters = [*bytes_to_unicode().values()]
    clip_vocab = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    t5_vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(n), -3.0) for n in range(33, 127))]
    channels = 4
    inputs = 4 * channels
    if kind is diffusers.FluxFillPipeline:  # it sees the masked picture and the mask beside the noise
        inputs = 8 * channels + 256
    return kind(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux_vae(),
        text_encoder=transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=len(clip_vocab),
                hidden_size=SIDE,
                intermediate_size=SIDE,
                num_hidden_layers=2,
                num_attention_heads=2,
                projection_dim=SIDE,
                bos_token_id=len(clip_vocab) - 2,
                eos_token_id=len(clip_vocab) - 1,
            )
        ),
        tokenizer=transformers.CLIPTokenizer(
            vocab={letter: number for number, letter in enumerate(clip_vocab)}, merges=[], model_max_length=77
        ),
        text_encoder_2=transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=len(t5_vocab), d_model=SIDE, d_ff=SIDE, d_kv=8, num_layers=2, num_heads=2)
        ),
        tokenizer_2=transformers.T5Tokenizer(vocab=t5_vocab, extra_ids=0, model_max_length=512),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=inputs,
            out_channels=4 * channels,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=SIDE,
            pooled_projection_dim=SIDE,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def longcat(kind):
    tokenizer = qwen_tokenizer()
    return kind(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux_vae(16),
        text_encoder=qwen_vl(tokenizer),
        tokenizer=tokenizer,
        text_processor=processor(tokenizer),
        transformer=diffusers.LongCatImageTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=SIDE,
            pooled_projection_dim=SIDE,
            axes_dims_rope=[4, 4, 8],
        ),
    )


def flux2_klein(kind):
    tokenizer = qwen_tokenizer()
    # The pipeline listens to layers 9, 18 and 27.
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=SIDE,
        intermediate_size=SIDE,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    return kind(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLFlux2(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 4, 4),
            layers_per_block=1,
            norm_num_groups=1,
            latent_channels=4,
        ),
        text_encoder=transformers.Qwen3ForCausalLM(config).eval(),
        tokenizer=tokenizer,
        transformer=diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * SIDE,
            timestep_guidance_channels=256,
            axes_dims_rope=[4, 4, 4, 4],
        ),
        is_distilled=True,
    )


BUILDERS = {
    "QwenImagePipeline": qwen_image,
    "QwenImageEditPipeline": qwen_image,
    "QwenImageEditPlusPipeline": qwen_image,
    "FluxPipeline": flux,
    "FluxKontextPipeline": flux,
    "FluxFillPipeline": flux,
    "LongCatImageEditPipeline": longcat,
    "Flux2KleinPipeline": flux2_klein,
}


def save(name, folder):
    """Make a pipeline of a class and save it; the same weights each time."""
    torch.manual_seed(0)
    BUILDERS[name](getattr(diffusers, name)).save_pretrained(folder)
    return str(folder)


def save_lora(weights, folder, name):
    """A random LoRA for the attention of a pipeline's transformer, as `load_lora_weights` reads it."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    torch.manual_seed(1)
    transformer = diffusers.QwenImageTransformer2DModel.from_pretrained(weights / "transformer")
    transformer.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"]))
    state = get_peft_model_state_dict(transformer)
    folder.mkdir(exist_ok=True)
    save_file({f"transformer.{key}": value.contiguous() for key, value in state.items()}, folder / name)
    return str(folder)
