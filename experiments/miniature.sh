#!/usr/bin/env bash
# The whole method of the paper on a laptop: traces, datasets, a tiny planner and a tiny critic trained from scratch,
# GRPO with an exact judge, and a table that compares the variants. One seed takes about 45 minutes on two CPU cores.
#
#   experiments/miniature.sh [SEED]       writes to out/miniature/seed-SEED; run the same command again to resume
#
# With several seeds: experiments/miniature.sh 0; experiments/miniature.sh 1; experiments/miniature.sh 2; the table covers all of them.
set -euo pipefail
SEED=${1:-0}
REQUESTS=${REQUESTS:-2000}     # number of requests for the training traces
HELD_OUT=${HELD_OUT:-200}      # number of held-out requests for the table
STEPS=${STEPS:-}               # optimizer steps of each training job; 2 are enough to try out the script
HERE=$(cd "$(dirname "$0")/miniature" && pwd)
OUT=${OUT:-out/miniature}/seed-$SEED
mkdir -p "$OUT" && cd "$OUT" && ln -sfn "$HERE/profiles" profiles
say() { printf '\n== %s (%dm %ds)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }
drawn() { interleaver batch "$@" || [ $? -eq 3 ]; }    # exit status 3: some documents are partial, which the table measures
once() { [ -e "$1" ] || "${@:2}"; }    # skips a command whose result exists
train() {    # TASK MODEL DATA OUT [SETTING...]
    local settings=("seed=$SEED" "${@:5}" ${STEPS:+"max_steps=$STEPS"})
    once "$4/model" interleaver train "$1" --config "$HERE/train.toml" --model "$2" --data "$3" --out "$4" --resume "${settings[@]/#/--set=}"
}

say "1. Requests, and their traces: a rule-based planner, and a lenient critic with access to the ground truth"
once requests.jsonl interleaver prompts sample --taxonomy miniature --count $((REQUESTS + HELD_OUT)) --seeds --seed "$SEED" --out requests.jsonl
[ "$(wc -l < requests.jsonl)" -eq $((REQUESTS + HELD_OUT)) ] || { echo "requests.jsonl was made with other values of REQUESTS and HELD_OUT; set another OUT"; exit 1; }
head -n "$REQUESTS" requests.jsonl > train.jsonl
tail -n "$HELD_OUT" requests.jsonl > held-out.jsonl
drawn train.jsonl --out traces --profile profiles/teacher.toml --workers 6 &
drawn train.jsonl --out traces --profile profiles/teacher.toml --workers 6 > /dev/null 2>&1    # two processes share the work
wait

say "2. Datasets"
interleaver traces label traces --by judge --profile profiles/teacher.toml --workers 6 > /dev/null
once planner-data interleaver data planner-sft traces --prompts miniature --out planner-data
once critic-data interleaver data critic-sft traces --prompts miniature --out critic-data
once rl-data interleaver data critic-rl traces --prompts miniature --balance kinds --balance verdicts --validation 0 --out rl-data

say "3. Two tiny models from scratch, fine-tuned on the recorded answers"
make_models() {
    rm -rf models.part
    python "$HERE/make_models.py" --planner-data planner-data --critic-data critic-data --out models.part --seed "$SEED" \
        ${STEPS:+--steps "$STEPS" --pairs 100}
    mv models.part models
}
once models make_models
train sft-planner models/planner planner-data planner
train sft-critic models/critic models/sight-data critic-sight max_steps=400
train sft-critic critic-sight/model critic-data critic-sft

say "4. GRPO of the critic: the refined prompt of each answer is drawn, and the picture is scored"
train grpo-critic critic-sft/model rl-data critic-grpo

say "5. Documents for the held-out requests, by each variant"
for variant in alone planner sft grpo rules exact; do
    drawn held-out.jsonl --out "held-out/$variant" --profile "profiles/$variant.toml" --workers 48
done
for critic in sft grpo rules exact; do
    interleaver traces label held-out/exact --by critic --name "$critic" --profile "profiles/$critic.toml" --workers 48
done
python "$HERE/table.py" measure --runs held-out --pool exact --critics sft grpo rules exact --out results.json
cd .. && python "$HERE/table.py" print seed-*/results.json --out table.md
say "Done"
