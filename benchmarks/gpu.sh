#!/usr/bin/env bash
# The benchmarks on a machine with a GPU, JAX and PyTorch, but no network.
#
#   benchmarks/gpu.sh pack     where there is a network: wheels into outputs/gpu
#   benchmarks/gpu.sh run      where there is a GPU: installs them beside, times
#
# PYTHON is the interpreter, PYTHON_VERSION that of the other machine ("3.12"),
# VISION_TRANSFORMER a checkout of the official model, if it is to be timed too.
# Arguments after `run` take the place of the three `speed.py` runs.
# Results: outputs/gpu/*.json, and tables on the screen.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
here=outputs/gpu

case "${1:-}" in
pack)
    mkdir -p "$here/wheels"
    "$python" -m pip download --quiet --no-deps --only-binary=:all: \
        ${PYTHON_VERSION:+--python-version "$PYTHON_VERSION"} \
        --dest "$here/wheels" --requirement benchmarks/gpu_wheels.txt
    du -sh "$here/wheels"
    ;;
run)
    shift
    rm -rf "$here/site"
    "$python" -m pip install --quiet --no-index --no-deps \
        --target "$here/site" "$here"/wheels/*.whl
    export PYTHONPATH="$PWD:$PWD/$here/site${PYTHONPATH:+:$PYTHONPATH}"
    "$python" benchmarks/flash_attention.py
    speed() {
        "$python" benchmarks/speed.py --gpu --backends jax torch "$@"
    }
    if [ $# -gt 0 ]; then
        speed --output "$here/speed.json" "$@"
    else
        # By `keras_vit.cost` these take 30 to 40 GB of activations in 16 bits.
        # Not tried: raise them to what the device holds.
        speed --dtypes bfloat16 --variants B/16 --batch 512 \
            --output "$here/b16.json"
        speed --dtypes bfloat16 --variants L/16 --batch 256 \
            --output "$here/l16.json"
        speed --dtypes bfloat16 --variants B/16 --sizes 384 1024 --batch 16 \
            --output "$here/large_images.json"
    fi
    ;;
*)
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
