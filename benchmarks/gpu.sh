#!/usr/bin/env bash
# What a GPU does, in 8 minutes, on a machine where nothing is installed but Python and JAX for it.
#
#   benchmarks/gpu.sh [--wheels DIR] [flags of `python -m benchmarks gpu`]
#
# What purerl needs beside JAX is taken from DIR without a network, or from the package index into
# build/gpu; what is there already is used as it is. Nothing outside this directory is changed.
set -euo pipefail
export PURERL_GPU_BEGAN=$(date +%s)
called=$PWD
cd "$(dirname "$0")/.."

fail() { echo "gpu.sh: $1" >&2; exit 2; }

wheels=
if [[ ${1:-} == --wheels ]]; then
  wheels=$(cd "$called" && cd "${2:?}" 2>/dev/null && pwd) || fail "--wheels ${2:-}: is no directory"
  shift 2
fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' ||
  fail "needs Python >= 3.12, not $("$python" -V 2>&1); PYTHON=... names another"

site=$PWD/build/gpu
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
[[ ! -d $site ]] || export PYTHONPATH="$site:$PYTHONPATH"

missing() { "$python" benchmarks/needs.py "$@" | paste -sd' ' -; }

lacks=$(missing)
if grep -qE '\bjax(lib)?([^a-z]|$)' <<<"$lacks"; then
  fail "needs jax >= 0.11, < 0.12 for this accelerator: pip install 'jax[cuda13]>=0.11,<0.12'"
fi
if [[ -n $lacks ]]; then
  # Without their own needs, which the list has: so that JAX stays as it is on this machine.
  install=("$python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade
    --target "$site" --only-binary :all:)
  if [[ -n $wheels ]]; then
    absent=$(missing "$wheels")
    [[ -z $absent ]] || fail "missing wheels in $wheels: $absent"
    install+=(--no-index --find-links "$wheels")
  else
    install+=(--retries 0 --timeout 10)
  fi
  read -ra wanted <<<"$lacks"
  said=$("${install[@]}" "${wanted[@]}" 2>&1) ||
    fail "missing wheels: $lacks; pip: $({ grep '^ERROR' <<<"$said" || echo "$said"; } | tail -n 1 | cut -c1-120);\
 pip download --no-deps -d DIR them where there is an index, then --wheels DIR"
  export PYTHONPATH="$site:$PYTHONPATH"
  lacks=$(missing)
  [[ -z $lacks ]] || fail "missing wheels: $lacks"
fi

exec "$python" -W ignore -m benchmarks gpu "$@"
