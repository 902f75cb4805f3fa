"""A Qwen3-VL of a few hundred thousand parameters that has learnt four answers by heart.

It stands for the weights that cannot be had: the classes, the chat template, the images and the server are the real
ones. What it answers depends on the last lines of this package's own prompts (plan or verdict, tagged or structured)
and, for a verdict, on the colour of the second picture: red is right, anything else is wrong.
"""

import json

import torch
import transformers
from conftest import plain_picture
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from interleaver.agents.prompts import fill, load_prompts, text_of

STEPS = [
    {
        "step_number": 1,
        "step_name": "One",
        "instruction": "A red square.",
        "prompt": "a red square",
        "auxiliary_text": None,
    },
    {
        "step_number": 2,
        "step_name": "Two",
        "instruction": "Redder.",
        "prompt": "make it redder",
        "auxiliary_text": "Enjoy.",
    },
]
ENOUGH = 0.012
"""The loss at which every answer was seen to be right, the colour included."""
REFINED = "a square in bright red"
_TRAINED = []
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen's own template reads for plain conversations."""


def answer(form, tagged, red=True):
    thought = "two steps" if form == "plan" else ("it is red" if red else "it is not red")
    if form == "plan":
        fields = {"execution_plan": STEPS}
    else:
        fields = {"previous_step_success": red, "refine_prompt": "a red square" if red else REFINED}
    if tagged:
        return f"<think>{thought}</think>\n<answer>\n{json.dumps(fields)}\n</answer>"
    return json.dumps({"reasoning": thought, **fields})


def questions():
    """Prompts as the package makes them, with what is to be answered and whether the picture is red."""
    prompts = load_prompts()
    for tagged in (True, False):
        style = "tagged" if tagged else "structured"
        for request in ("a red square", "How to draw a square?"):
            parts = fill(prompts.narrative, text_input=request, answer_format=text_of(f"plan.{style}"))
            yield "".join(map(str, parts)), answer("plan", tagged), None
        for instruction, prompt in ((STEPS[0], "a red square"), (STEPS[0], REFINED), (STEPS[1], "make it redder")):
            for red in (True, False):
                parts = fill(
                    prompts.judging,
                    instruction=instruction["instruction"],
                    original_instruction=instruction["prompt"],
                    rewritten_prompt=prompt,
                    answer_format=text_of(f"verdict.{style}"),
                )
                yield "".join(map(str, parts)), answer("verdict", tagged, red), red


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for question in questions() for text in question[:2]], trainer)
    state = json.loads(tokenizer.to_str())["model"]
    made = transformers.Qwen2Tokenizer(
        vocab=state["vocab"], merges=[tuple(merge) for merge in state["merges"]], eos_token="<|im_end|>"
    )
    made.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    made.chat_template = TEMPLATE
    return made


def make_model(tokenizer):
    ids = {
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    }
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "bos_token_id": end,
            "eos_token_id": end,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        **ids,
    )
    torch.manual_seed(0)
    return transformers.Qwen3VLForConditionalGeneration(config)


def make_processor(tokenizer):
    # As in `tiny_pipelines`: without the video half, which needs torchvision.
    transformers.Qwen3VLProcessor.get_attributes = classmethod(lambda cls: ["image_processor", "tokenizer"])
    image_processor = transformers.Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, temporal_patch_size=2, min_pixels=64 * 64, max_pixels=64 * 64
    )
    return transformers.Qwen3VLProcessor(image_processor, tokenizer, chat_template=TEMPLATE)


def picture(red, shade):
    import io

    from PIL import Image

    colour = (255 - shade, shade, shade) if red else (shade, shade, 255 - shade)
    return Image.open(io.BytesIO(plain_picture(colour).data)).convert("RGB")


def batches(processor, tokenizer):
    """One batch of every question, the pictures in another shade each time."""
    rows = list(questions())
    shade = 0
    while True:
        shade = (shade + 37) % 90
        texts, images = [], []
        for prompt, wanted, red in rows:
            content = [{"type": "text", "text": ("\n" if red is not None else "") + prompt}]
            if red is not None:
                content = [{"type": "image"}, {"type": "image"}, *content]
                images += [picture(False, 0) if shade % 2 else picture(True, 80), picture(red, shade)]
            turn = [{"role": "user", "content": content}]
            question = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            texts.append(question + wanted + "<|im_end|>")
        yield texts, images


def train(folder, steps=300):
    """Make the model, have it learn its answers, and save it as a checkpoint; returns the last loss."""
    tokenizer = make_tokenizer()
    model, processor = make_model(tokenizer), make_processor(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    start = tokenizer.encode("<|im_start|>assistant\n")
    for step, (texts, images) in zip(range(steps), batches(processor, tokenizer), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / steps * 0.9)
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
        labels = inputs["input_ids"].clone()
        for row in labels:
            begin = max(i for i in range(len(row)) if row[i : i + len(start)].tolist() == start) + len(start)
            row[:begin] = -100
        labels[inputs["attention_mask"] == 0] = -100
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < ENOUGH:
            break
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    # vLLM insists on the video half, though no video is ever shown.
    video = {
        "video_processor_type": "Qwen3VLVideoProcessor",
        "patch_size": 16,
        "merge_size": 2,
        "temporal_patch_size": 2,
    }
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    return loss.item()


def trained(factory):
    """The folder of a model that knows its answers, made once however many modules ask for it."""
    if not _TRAINED:
        folder = factory.mktemp("tiny-vlm")
        assert train(folder) < 2 * ENOUGH
        _TRAINED.append(folder)
    return _TRAINED[0]


def adapter(checkpoint, folder):
    """A LoRA adapter that changes nothing yet, as training begins with."""
    from peft import LoraConfig, get_peft_model

    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(checkpoint)
    config = LoraConfig(r=8, target_modules=r".*language_model.*\.(q_proj|v_proj)")
    get_peft_model(model, config).save_pretrained(folder)
    return str(folder)
