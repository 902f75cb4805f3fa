"""Answers of a critic and a plan, as models write them."""

RIGHT = '<think>\nred, as asked\n</think>\n<answer>\n{"previous_step_success": true, "refine_prompt": "p"}\n</answer>'


WRONG = "<think>blue</think><answer>{'previous_step_success': False, 'refine_prompt': 'red!'}</answer>"


NONSENSE = "I like it."


PLAN = {"execution_plan": [{"step_number": n, "prompt": "draw", "instruction": "i"} for n in (1, 2, 3)]}
