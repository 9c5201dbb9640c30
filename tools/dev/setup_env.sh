#!/usr/bin/env bash
# Create or complete the virtual environment that `make` works in.
#
# Environment variables:
#   VENV    folder of the environment             (default .venv)
#   PYTHON  interpreter that creates it           (default: python3, else the
#           newest of python3.13, python3.12, python3.11 that runs)
#   CFLAGS, MAX_JOBS, FORCE_CUDA, TORCH_CUDA_ARCH_LIST
#           passed on to the compilation of mmcv's operators
#
# Where nothing has changed since the last success it returns at once. A set-up
# that was interrupted goes on where it stopped.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
venv="${VENV:-$root/.venv}"
case "$venv" in
    /*) ;;
    *) venv="$PWD/$venv" ;;
esac
stamp="$venv/.mmssd-setup"

fail() {
    printf '\nset-up: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

say() {
    printf '\n==> %s\n' "$*"
}

# What the environment was made from: the requirement files, the package's
# own metadata and the place of the checkout.
fingerprint() {
    { printf '%s\n' "$root"
      cat "$root"/requirements.txt "$root"/requirements/*.txt \
          "$root"/setup.py "$root"/mmssd/version.py "${BASH_SOURCE[0]}"
    } | cksum
}

wanted="$(fingerprint)"
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] &&
    [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

# ---------------------------------------------------------------- checks
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c 'import sys' >/dev/null 2>&1 ||
            fail "PYTHON=$PYTHON does not run." \
                'Give the path of a Python 3.11, 3.12 or 3.13.'
        "$PYTHON" -c "$supported" ||
            fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1); \
Python 3.11, 3.12 or 3.13 is needed."
        python="$PYTHON"
        return
    fi
    for python in python3 python3.13 python3.12 python3.11; do
        if "$python" -c "$supported" >/dev/null 2>&1; then return; fi
    done
    fail "no Python 3.11, 3.12 or 3.13 was found \
(python3 is: $(python3 --version 2>&1 || true))." \
        'Debian, Ubuntu: apt install python3 python3-venv python3-dev' \
        'Elsewhere:      PYTHON=/path/to/python3.12 make setup'
}

find_python
version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    fail "$python cannot create virtual environments." \
        'Debian, Ubuntu: apt install python3-venv'

header="$("$python" -c \
    'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
[ -f "$header" ] ||
    fail "the headers of $python are missing ($header); mmcv's operators are \
compiled with them." \
        'Debian, Ubuntu: apt install python3-dev'

compiler="${CXX:-c++}"
probe="$(mktemp -d)"
trap 'rm -rf "$probe"' EXIT
printf '#include <string>\nint main() { return std::string().size(); }\n' \
    >"$probe/probe.cpp"
"$compiler" -std=c++17 -o "$probe/probe" "$probe/probe.cpp" \
    >/dev/null 2>&1 ||
    fail "no working C++ compiler ($compiler); mmcv's operators are compiled \
with it." \
        'Debian, Ubuntu: apt install build-essential' \
        'Elsewhere:      CXX=/path/to/g++ make setup'

# ---------------------------------------------------------- environment
mkdir -p "$venv"
if command -v flock >/dev/null 2>&1; then
    exec 9>"$venv/.mmssd-lock"
    flock -n 9 || {
        say 'Another set-up works on this environment; waiting for it.'
        flock 9
        if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
            exit 0
        fi
    }
fi
rm -f "$stamp"
started=$SECONDS
pip() {
    "$venv/bin/python" -m pip "$@"
}
export PIP_DISABLE_PIP_VERSION_CHECK=1

cat <<EOF
Setting up $venv.
From nothing this takes about 7 minutes on two cores and a fast line, and
about 7 GB of disk: torch is a large download (minutes), compiling mmcv's
operators takes 5 minutes on two cores, less on more. It is done once;
interrupted, it goes on where it stopped.
EOF

say "1/4 virtual environment with Python $version"
if ! pip --version >/dev/null 2>&1; then
    "$python" -m venv "$venv" || fail "$python -m venv $venv failed."
fi
"$venv/bin/python" -c "$supported" ||
    fail "$venv was made with $("$venv/bin/python" --version); Python 3.11, \
3.12 or 3.13 is needed." "Remove the folder $venv and run again."

say '2/4 torch and build tools (1 to 5 minutes, mostly download)'
pip install -r "$root/requirements/build.txt" \
    -c "$root/requirements/runtime.txt" ||
    fail 'torch or a build tool could not be installed; see above.' \
        'If the connection broke, run again: it goes on where it stopped.'

# Built for CUDA only where a compiler for torch's CUDA is at hand: with a GPU
# and no nvcc, mmcv's build would fail at its end.
"$venv/bin/python" - <<'EOF' >"$probe/cuda"
import re
import subprocess

import torch
from torch.utils.cpp_extension import CUDA_HOME

found = 'none'
if CUDA_HOME:
    try:
        text = subprocess.run(
            [f'{CUDA_HOME}/bin/nvcc', '--version'],
            capture_output=True,
            text=True,
        ).stdout
        found = re.search(r'release (\d+\.\d+)', text).group(1)
    except (OSError, AttributeError):
        pass
print(int(torch.cuda.is_available()), torch.version.cuda or 'none', found)
EOF
read -r has_gpu torch_cuda nvcc_cuda <"$probe/cuda"
built_for='the CPU'
if [ "$has_gpu" = 1 ] || [ "${FORCE_CUDA:-0}" = 1 ]; then
    if [ "${torch_cuda%%.*}" = "${nvcc_cuda%%.*}" ] &&
        [ "$nvcc_cuda" != none ]; then
        built_for="the CPU and CUDA $nvcc_cuda"
    elif [ "${FORCE_CUDA:-0}" = 1 ]; then
        fail "FORCE_CUDA=1 needs nvcc of CUDA ${torch_cuda%%.*}, as torch's \
($torch_cuda); found: $nvcc_cuda." \
            'Install that CUDA toolkit, or point CUDA_HOME at it.'
    else
        export CUDA_VISIBLE_DEVICES=
        cat <<EOF

Note: there is a GPU, but no nvcc of CUDA ${torch_cuda%%.*} as torch's \
($torch_cuda; found: $nvcc_cuda).
mmcv's operators are compiled for the CPU only. Pretraining, probes and
segmentation run on the GPU all the same; detection on the GPU needs the CUDA
operators: docs/install.md, "With CUDA operators".
EOF
    fi
fi

jobs="${MAX_JOBS:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}"
say "3/4 OpenMMLab's libraries and the rest; mmcv's operators are compiled \
for $built_for with $jobs jobs (about 5 minutes on 2 cores; half a minute \
where pip has kept the result)"
# Debug information would nearly double the time and fill the disk.
CFLAGS="${CFLAGS:--g0}" MAX_JOBS="$jobs" pip install --no-build-isolation \
    -r "$root/requirements.txt" ||
    fail 'a requirement could not be installed; see above.' \
        'If the connection broke, run again: it goes on where it stopped.' \
        "If the compiler was killed, memory was short: MAX_JOBS=1 make setup"
pip install --no-deps --no-build-isolation -e "$root" ||
    fail 'mmssd itself could not be installed; see above.'

say '4/4 does everything import?'
import_or_fail() {
    if ! (cd / && "$venv/bin/python" -W ignore -c "import $1") \
        >"$probe/import" 2>&1; then
        cat "$probe/import" >&2
        fail "'import $1' failed in $venv." "${@:2}"
    fi
    printf '%s ' "$1"
}
again="If that does not help, remove the folder $venv and run again."
import_or_fail mmcv.ops \
    'mmcv was built without its operators, or for another torch, and pip has' \
    'kept that build. Remove both and run again:' \
    "  $venv/bin/python -m pip cache remove onedl_mmcv" \
    "  $venv/bin/python -m pip uninstall -y onedl-mmcv" \
    '  make setup'
for module in mmpretrain mmdet.apis mmseg.apis mmssd; do
    import_or_fail "$module" 'Run again: make setup' "$again"
done

printf '%s\n' "$wanted" >"$stamp"
printf '\n\nReady after %d s: %s\n' $((SECONDS - started)) "$venv"
