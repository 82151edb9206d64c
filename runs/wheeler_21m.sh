#!/usr/bin/env bash
# Trains a model like the one in checkpoints/wheeler-21m from a random start, evaluates it and packs it.
#
#   bash runs/wheeler_21m.sh                             # TinyStories from the hub, 4 epochs, on a GPU
#   DATA=stories EPOCHS=1 bash runs/wheeler_21m.sh       # a folder with train.jsonl and validation.jsonl
#   DATA=sample MAX_STEPS=5 SIZE="--grid_size 32 --d_model 64" FLAGS= SAMPLES=4 bash runs/wheeler_21m.sh
#
# The weights in the box have a longer history: every command of it is on their card.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

DATA=${DATA:-roneneldan/TinyStories}
OUT=${OUT:-checkpoints/from-scratch}
EPOCHS=${EPOCHS:-4}
MAX_STEPS=${MAX_STEPS:--1}                # -1: as many as the epochs have
SIZE=${SIZE:-}                            # flags of the model, default its own sizes
FLAGS=${FLAGS---bf16 --compile}           # of the hardware; on a card before Ampere: --fp16
TEACHER=${TEACHER:-}                      # a sentence encoder, as sentence-transformers/all-MiniLM-L6-v2
SAMPLES=${SAMPLES:-100}                   # texts of each figure

# Most of a batch is decoded from meaning tiles or as a language model: copying through the grid is there from the start.
# shellcheck disable=SC2086
python train.py --dataset "$DATA" --output_dir "$OUT" --epochs "$EPOCHS" --max_steps "$MAX_STEPS" $SIZE $FLAGS \
    ${TEACHER:+--teacher "$TEACHER"} --batch_size 64 --meaning_share 0.5 --blank_share 0.375 --random_text_share 0.5 \
    --warmup_steps 500 --weight_decay 0.05 --num_workers 2

python evaluate.py text --checkpoint "$OUT/best.pt" --dataset "$DATA" --num_samples "$SAMPLES" --output_dir "$OUT"
python evaluate.py meaning --parts bits gist interpolation --checkpoint "$OUT/best.pt" --dataset "$DATA" \
    --num_samples "$SAMPLES" --output_dir "$OUT"
python -c "import sys; from models import WheelerTextAutoencoder as W
W.load_from_checkpoint(sys.argv[1]).half().save_pretrained(sys.argv[2])" "$OUT/best.pt" "$OUT/packed"
echo "packed into $OUT/packed: python sample.py --checkpoint $OUT/packed \"Once upon a time there was a cat.\""
