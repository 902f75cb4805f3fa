"""A Qwen3-VL of a few hundred thousand parameters that has learnt four answers by heart.

It stands for the weights that cannot be had: the classes, the chat template, the images and the server are the real
ones. What it answers depends on the last lines of this package's own prompts (plan or verdict, tagged or structured)
and, for a verdict, on the colour of the second picture: red is right, anything else is wrong.
"""

import json
import os

import torch
import transformers
from filelock import FileLock

from interleaver.agents.hf_processors import load_processor
from interleaver.agents.prompts import fill, load_prompts
from interleaver.agents.tagged import answer_format, plan_parts
from interleaver.training.tiny import make_tiny
from support.fakes import plain_picture

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
STEPS_TO_PASS = 8
"""Training ends when every token of every answer was right in so many steps running, each with other shades."""
REFINED = "a square in bright red"
PICTURE = "[[picture]]"
"""Where a picture stands in a question."""
MANY_PICTURES = "go on with <image>" + ", <image>" * 5


def answer(kind, tagged, red=True):
    thought = "two steps" if kind == "plan" else ("it is red" if red else "it is not red")
    if kind == "plan":
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
        parts = plan_parts(prompts, MANY_PICTURES, [PICTURE] * 6, answer_format("plan", style))
        yield "".join(map(str, parts)), answer("plan", tagged), None
        for request in ("a red square", "How to draw a square?"):
            parts = fill(prompts.narrative, text_input=request, answer_format=answer_format("plan", style))
            yield "".join(map(str, parts)), answer("plan", tagged), None
        for instruction, prompt in ((STEPS[0], "a red square"), (STEPS[0], REFINED), (STEPS[1], "make it redder")):
            for red in (True, False):
                parts = fill(
                    prompts.review,
                    instruction=instruction["instruction"],
                    original_instruction=instruction["prompt"],
                    rewritten_prompt=prompt,
                    answer_format=answer_format("verdict", style),
                )
                yield "".join(map(str, parts)), answer("verdict", tagged, red), red


def picture(red, shade):
    import io

    from PIL import Image

    colour = (255 - shade, shade, shade) if red else (shade, shade, 255 - shade)
    return Image.open(io.BytesIO(plain_picture(colour).data)).convert("RGB")


def batches(processor):
    """One batch of every question, the pictures in another shade each time."""
    rows = list(questions())
    shade = 0
    while True:
        shade = (shade + 37) % 90
        texts, images = [], []
        for prompt, answer_text, red in rows:
            content = []
            for number, text in enumerate(prompt.split(PICTURE)):
                content += [{"type": "image"}] if number else []
                content += [{"type": "text", "text": ("\n" if red is not None else "") + text}]
                images += [picture(False, 9 * number)] if number else []
            if red is not None:
                content = [{"type": "image"}, {"type": "image"}, *content]
                images += [picture(False, 0) if shade % 2 else picture(True, 80), picture(red, shade)]
            turn = [{"role": "user", "content": content}]
            question = processor.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            texts.append(question + answer_text + "<|im_end|>")
        yield texts, images


def train(folder, steps=300):
    """Make the model, have it learn its answers, and save it.

    Raises:
        AssertionError: it has not learnt them in so many steps.
    """
    texts = [text for question in questions() for text in question[:2]]
    make_tiny(texts, folder, width=64, layers=3, vision_layers=2, pixels=64 * 64, vocabulary=1500)
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(folder)
    processor = load_processor(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    start = processor.tokenizer.encode("<|im_start|>assistant\n")
    passed = 0
    for step, (texts, images) in zip(range(steps), batches(processor), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / steps * 0.9)
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
        labels = inputs["input_ids"].clone()
        for row in labels:
            begin = max(i for i in range(len(row)) if row[i : i + len(start)].tolist() == start) + len(start)
            row[:begin] = -100
        labels[inputs["attention_mask"] == 0] = -100
        output = model(**inputs, labels=labels)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        learnt = (output.logits[:, :-1].argmax(-1) == labels[:, 1:]) | (labels[:, 1:] == -100)
        passed = passed + 1 if learnt.all() else 0
        if passed == STEPS_TO_PASS:
            break
    assert passed == STEPS_TO_PASS
    model.save_pretrained(folder)


def trained(factory):
    """The folder of a model that knows its answers, trained once for all processes of a test session."""
    root = factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "tiny-vlm"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            partial = folder.with_name("tiny-vlm-partial")
            train(partial)
            partial.rename(folder)
    return folder


def adapter(weights, folder):
    """A LoRA adapter that changes nothing yet, as training begins with."""
    from peft import LoraConfig, get_peft_model

    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(weights)
    config = LoraConfig(r=8, target_modules=r".*language_model.*\.(q_proj|v_proj)")
    get_peft_model(model, config).save_pretrained(folder)
    return str(folder)
