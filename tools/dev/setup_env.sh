#!/usr/bin/env bash
# Make the Python environment that `make` works in, or bring it up to date.
# Silent and quick when there is nothing to do; interrupted, it goes on.
#
#   VENV      where it lives (default .venv)
#   PYTHON    what it is made from (default: python3, or the newest of
#             python3.13, python3.12, python3.11 that runs)
#   CFLAGS, MAX_JOBS, FORCE_CUDA, CUDA_HOME, TORCH_CUDA_ARCH_LIST
#             reach the compilation of mmcv's operators
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

VENV=${VENV:-.venv}
PYTHON=${PYTHON:-}
MIN_MINOR=11
MAX_MINOR=13
NEEDED_GIB=8 # torch with its CUDA libraries is most of it
INPUTS=(requirements.txt requirements/*.txt setup.py mmssd/version.py
    tools/dev/setup_env.sh tools/dev/check_env.py)
STAMP=$VENV/.mmssd-ready           # fingerprint of what was set up
UNFINISHED=$VENV/.mmssd-unfinished # there while packages are installed
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '[setup] %s\n' "$*"; }

fail() {
    printf '[setup] ERROR: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '[setup]   %s\n' "$line" >&2; done
    exit 1
}

fingerprint() { # the checkout's place counts: the install is editable
    { echo "$PWD" && cat "${INPUTS[@]}"; } | cksum
}

is_ready() {
    [ -x "$VENV/bin/python" ] && [ -f "$STAMP" ] &&
        [ "$(cat "$STAMP")" = "$(fingerprint)" ] &&
        check_env packages >/dev/null # somebody may have removed one
}

minor_of() { # 11 for Python 3.11; nothing for what does not run
    "$1" -c 'import sys
print(sys.version_info[1] if sys.version_info[0] == 3 else 0)' 2>/dev/null
}

is_supported() {
    local minor
    minor=$(minor_of "$1") &&
        [ "$minor" -ge $MIN_MINOR ] && [ "$minor" -le $MAX_MINOR ]
}

find_python() {
    local wanted="Python 3.$MIN_MINOR to 3.$MAX_MINOR" candidate
    if [ -n "$PYTHON" ]; then
        is_supported "$PYTHON" ||
            fail "PYTHON=$PYTHON is not $wanted; it says: \
$("$PYTHON" --version 2>&1 | tail -n 1 || true)" \
                "Name another one, for example PYTHON=python3.12"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if is_supported "$candidate"; then
            PYTHON=$candidate
            return
        fi
    done
    fail "no $wanted was found; python3 says: \
$(python3 --version 2>&1 | tail -n 1 || true)" \
        "Debian 12 and later, Ubuntu 24.04 and later have one:" \
        "  sudo apt-get install python3 python3-venv python3-dev" \
        "One that is elsewhere can be named: PYTHON=/path/to/python3"
}

compiles() {
    local folder status=0
    folder=$(mktemp -d)
    echo '#include <string>
int main() { return std::string().size(); }' >"$folder/probe.cpp"
    "${CXX:-c++}" -std=c++17 -o "$folder/probe" "$folder/probe.cpp" \
        &>/dev/null || status=1
    rm -rf "$folder"
    return $status
}

check_machine() {
    local missing=() parent=$VENV free
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        missing+=(python3-venv)
    "$PYTHON" -c 'import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not os.path.exists(header))' || missing+=(python3-dev)
    compiles || missing+=(build-essential)
    if [ ${#missing[@]} -gt 0 ]; then
        fail "missing on this machine (as Debian's packages):" \
            "  sudo apt-get install ${missing[*]}" \
            "mmcv's operators are compiled here. A Python that is not the" \
            "system's has packages of its own, such as python3.12-dev;" \
            "another compiler can be named: CXX=/path/to/g++"
    fi
    while [ ! -d "$parent" ]; do parent=$(dirname "$parent"); done
    free=$(df -Pk "$parent" | awk 'NR == 2 { print int($4 / 1048576) }')
    if [ ! -e "$VENV/bin/python" ] && [ "$free" -lt $NEEDED_GIB ]; then
        fail "$free GiB are free for $VENV, $NEEDED_GIB GiB are needed." \
            "Make room, or choose a place: VENV=/large/disk/venv"
    fi
}

check_env() { "$VENV/bin/python" tools/dev/check_env.py "$@"; }

remove_venv() { # $1: why; nothing is deleted that is not an environment
    say "$VENV $1; making it anew"
    [ -e "$VENV/pyvenv.cfg" ] || fail "$VENV is no Python environment." \
        "Move it away, or choose another place: VENV=..."
    rm -rf "$VENV"
}

make_venv() {
    if [ ! -e "$VENV" ]; then
        :
    elif ! "$VENV/bin/python" -m pip --version &>/dev/null; then
        remove_venv "is broken or unfinished"
    elif [ "$(minor_of "$VENV/bin/python")" != "$(minor_of "$PYTHON")" ]; then
        remove_venv "is of another Python than $PYTHON"
    elif [ -e "$UNFINISHED" ] && ! check_env files; then
        remove_venv "was cut short while files were written"
    fi
    if [ ! -e "$VENV" ]; then
        say "making $VENV with $("$PYTHON" --version)"
        "$PYTHON" -m venv "$VENV" || fail "$PYTHON -m venv $VENV failed."
    fi
    touch "$UNFINISHED"
}

pip_install() {
    local status=0
    "$VENV/bin/python" -m pip install "$@" ||
        status=$?
    [ $status -eq 0 ] || fail "pip could not install this; see above." \
        "If the connection broke, run the same command again." \
        "If the compiler was killed, memory was short: MAX_JOBS=1 helps."
}

choose_operators() { # for which devices mmcv's operators are compiled
    local cuda nvcc=nvcc release
    cuda=$("$VENV/bin/python" -c 'import torch
print(torch.version.cuda if torch.cuda.is_available() else "")')
    if [ -z "$cuda" ] && [ "${FORCE_CUDA:-0}" != 1 ]; then
        say "no GPU: mmcv's operators are compiled for the CPU"
        return
    fi
    [ -z "${CUDA_HOME:-}" ] || nvcc=$CUDA_HOME/bin/nvcc
    release=$({ "$nvcc" --version || true; } 2>/dev/null |
        sed -n 's/.*release \([0-9.]*\).*/\1/p')
    if [ "${FORCE_CUDA:-0}" = 1 ] ||
        [ "${release%%.*}" = "${cuda%%.*}" ]; then
        say "mmcv's operators are compiled for CUDA too: 10 to 30 minutes"
    else
        # mmcv would try all the same, and fail at its end
        export CUDA_VISIBLE_DEVICES=
        say "a GPU, but no nvcc ${cuda%%.*}.x (found: ${release:-none}):" \
            "mmcv's operators are compiled for the CPU only. Detection on" \
            "the GPU needs them: docs/install.md says how"
    fi
}

install_packages() {
    say "step 1 of 3: torch and build tools (1 to 5 minutes, mostly download)"
    pip_install -r requirements/build.txt -c requirements/runtime.txt
    say "step 2 of 3: OpenMMLab's libraries and the rest. mmcv is compiled," \
        "without a word, for about 5 minutes on 2 cores; half a minute in" \
        "all where pip has kept it"
    choose_operators
    # debug information would nearly double the time
    export CFLAGS=${CFLAGS:--g0} MMCV_WITH_OPS=1
    export MAX_JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}
    pip_install --no-build-isolation -r requirements.txt
    pip_install --no-deps --no-build-isolation -e .
}

repair() { # $1: the trouble that check_env names
    case $1 in
    operators)
        say "this mmcv has no operators that work here: pip kept it from a" \
            "build without torch, or with another one. Compiling it again"
        "$VENV/bin/python" -m pip cache remove onedl_mmcv || true
        pip_install --no-build-isolation --no-deps --force-reinstall \
            "$(grep '^onedl-mmcv==' requirements/openmmlab.txt)"
        ;;
    opencv)
        # Two flavours fill one folder and the last one written counts; the
        # headless one needs nothing from the machine.
        say "no libGL on this machine: OpenCV's headless flavour goes on top"
        pip_install --no-deps --force-reinstall \
            "$(grep '^opencv-python-headless==' requirements/runtime.txt)"
        ;;
    *) return 1 ;;
    esac
}

verify() {
    local trouble repaired=
    say "step 3 of 3: does everything import? (10 seconds)"
    until trouble=$(check_env imports); do
        # each repair once
        if [[ " $repaired " == *" $trouble "* ]] || ! repair "$trouble"; then
            check_env imports --explain >&2
            exit 1
        fi
        repaired+=" $trouble"
    done
}

main() {
    if is_ready; then return; fi
    find_python
    check_machine
    if command -v flock >/dev/null; then
        exec 9>"${TMPDIR:-/tmp}/mmssd-setup-$(id -u).lock"
        flock -n 9 || { say "another set-up is running; waiting" && flock 9; }
        if is_ready; then return; fi
    fi
    trap 'say "interrupted; the same command goes on from here"; exit 130' INT
    say "setting up $VENV: about 8 minutes on 2 cores, once"
    rm -f "$STAMP"
    make_venv
    install_packages
    verify
    rm -f "$UNFINISHED"
    fingerprint >"$STAMP"
    say "ready after $SECONDS s: $VENV"
}

main
