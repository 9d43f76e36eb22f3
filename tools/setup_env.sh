#!/usr/bin/env bash
# Makes or completes castkd's environment; a finished step is not repeated.
#
#   tools/setup_env.sh [VENV]        VENV defaults to .venv
#
# PYTHON       interpreter for a new environment (default: python3.11, then 3.12, then 3.10)
# TORCH_INDEX  index that serves PyTorch (default: pip's own configuration decides); remembered
# EXTRAS       requirement files to install (default: "mm vfm dev")
# MAX_JOBS     parallel compilations (default: number of cores)
#
# Exit status 2: the machine lacks something that only its owner can install; one line says what.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${1:-.venv}
extras=${EXTRAS:-mm vfm dev}
stamps=$venv/.castkd

say() { printf 'castkd: %s\n' "$*" >&2; }
refuse() { say "$*"; exit 2; }

# The version fits, environments can be made, and the headers for compiling extensions are there.
usable_python() {
  "$1" - <<'PY' 2>/dev/null
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')
sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 12) and os.path.isfile(header)))
PY
}

pick_python() {
  local seen='' name
  for name in ${PYTHON:-python3.11 python3.12 python3.10 python3}; do
    command -v "$name" >/dev/null || continue
    if usable_python "$name"; then
      echo "$name"
      return
    fi
    seen+=" $name ($("$name" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo broken))"
  done
  refuse "needs Python 3.10, 3.11 or 3.12 with its venv module and headers (python3-venv, python3-dev);" \
    "found${seen:- none}. Install one, or name it: make env PYTHON=/path/to/python3.11"
}

pick_compiler() {
  local name candidates=(g++ c++ clang++)
  [[ -n ${CXX:-} ]] && candidates=("$CXX")
  for name in "${candidates[@]}"; do
    # Unquoted: CXX may hold a launcher and a compiler, as in "ccache g++".
    if echo '#include <vector>' | $name -std=c++17 -x c++ -fsyntax-only - 2>/dev/null; then
      export CXX=$name
      return
    fi
  done
  refuse "needs a C++17 compiler to build mmcv's operators, none of these works: ${candidates[*]};" \
    'install g++, or name one: make env CXX=/path/to/g++'
}

# key_of TEXT FILE...: changes when the text or the content of a file changes.
key_of() { { echo "$1"; cat "${@:2}"; } | cksum; }
done_before() { [[ -f $stamps/$1 && $(<"$stamps/$1") == "$2" ]]; }

# step NAME KEY COMMAND...: run the command unless it succeeded before with the same key.
step() {
  local name=$1 key=$2
  shift 2
  done_before "$name" "$key" && return
  say "$name ..."
  rm -f "$stamps/$name" "$stamps/castkd"
  "$@"
  mkdir -p "$stamps"
  echo "$key" >"$stamps/$name"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check install -c requirements/constraints.txt "$@"; }

create_venv() {
  if [[ -x $venv/bin/python ]]; then
    "$venv/bin/python" -m ensurepip
  else
    "$python" -m venv "$venv"
  fi
}

install_torch() {
  # Without force, pip would keep another build of the same version.
  pip ${torch_index:+--force-reinstall --index-url "$torch_index"} -r requirements/torch.txt
  mkdir -p "$stamps"
  echo "$torch_index" >"$stamps/torch-index"
}

# Prints "cuda", "cpu", or "cpu" and the reason why a GPU stays without mmcv's operators.
mmcv_target() {
  "$venv/bin/python" - <<'PY'
import torch
from torch.utils.cpp_extension import CUDA_HOME
if torch.version.cuda and CUDA_HOME:
    print('cuda')
elif torch.cuda.is_available():
    print(f'cpu (for the GPU, install nvcc of CUDA {torch.version.cuda} or set CUDA_HOME, and call again)')
else:
    print('cpu')
PY
}

# Loads the operators and runs one.
mmcv_works() {
  "$venv/bin/python" - "$1" <<'PY'
import sys
import torch
from mmcv.ops import get_compiling_cuda_version, nms
nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
major = get_compiling_cuda_version().split('.')[0]
sys.exit(sys.argv[1] == 'cuda' and major != torch.version.cuda.split('.')[0])
PY
}

install_mmcv() {
  local target wanted
  target=$(mmcv_target)
  wanted=$(grep '^onedl-mmcv==' requirements/mm.txt)
  say "mmcv's operators for $target: compiled once, 10 to 20 minutes on 2 cores; pip keeps the result"
  target=${target%% *}
  export MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}
  if [[ $target == cuda ]]; then export FORCE_CUDA=1; else export FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=; fi
  pip --no-build-isolation -c requirements/mm.txt "$wanted"
  mmcv_works "$target" 2>/dev/null && return
  say 'these operators were compiled for another build of torch; compiling them afresh'
  pip --no-build-isolation --no-cache-dir --force-reinstall --no-deps "$wanted"
  mmcv_works "$target" || { say "mmcv's operators do not load (see above)"; exit 1; }
}

install_packages() {
  pip --no-build-isolation "${extra_files[@]/#/-r}"
  # Both OpenCV wheels own the folder cv2. The headless one comes last: it needs no display libraries.
  pip --quiet --force-reinstall --no-deps "$(grep '^opencv-python-headless==' requirements/mm.txt)"
}

install_castkd() {
  pip --quiet --no-build-isolation --no-deps -e .
}

extra_files=()
for extra in $extras; do
  [[ -f requirements/$extra.txt ]] || refuse "EXTRAS names $extra, but requirements/$extra.txt does not exist"
  extra_files+=("requirements/$extra.txt")
done
torch_index=${TORCH_INDEX-$(cat "$stamps/torch-index" 2>/dev/null || true)}

torch_key=$(key_of "$torch_index" requirements/torch.txt)
mmcv_key=$(key_of "$torch_key" requirements/build.txt <(grep '^onedl-mmcv==' requirements/mm.txt))
packages_key=$(key_of "$mmcv_key" requirements/constraints.txt "${extra_files[@]}")
castkd_key=$(key_of "$packages_key $PWD" setup.py)

if [[ -x $venv/bin/python ]]; then
  done_before castkd "$castkd_key" && exit
  usable_python "$venv/bin/python" ||
    refuse "the Python in $venv is none of 3.10 to 3.12 with headers; remove it (rm -r $venv) and call again"
else
  rm -rf "$stamps"
  python=$(pick_python)
fi
done_before mmcv "$mmcv_key" || pick_compiler

step python ready create_venv
step torch "$torch_key" install_torch
step build-tools "$mmcv_key" pip -r requirements/build.txt
step mmcv "$mmcv_key" install_mmcv
step packages "$packages_key" install_packages
step castkd "$castkd_key" install_castkd
say "environment ready: $venv"
