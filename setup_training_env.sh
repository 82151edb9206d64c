#!/usr/bin/env bash
# Prepare (and repair) the Python environment of Wheeler AI, then check the device or run a command inside it.
# Safe to run again: when nothing changed, nothing is installed. No sudo, nothing outside the venv is written.
set -euo pipefail

TORCH_VERSION=2.13.0
WHEELS=https://download.pytorch.org/whl # for --index-url: with --extra-index-url pip may take another backend's build
PYTHON_ORDER="3.12 3.13 3.11 3.10 3.14" # 3.15 is left out: torch.compile does not support it

usage() {
    cat <<USAGE
usage: bash setup_training_env.sh [options] [command ...]

Without a command: make the virtual environment, install what is needed, check the device.
With a command:    do the same (in seconds when already done), then run the command inside the environment,
                   in the current folder; the exit status is the command's.

  bash setup_training_env.sh
  bash setup_training_env.sh python train.py --dataset sample
  bash setup_training_env.sh pytest

options (before the command):
  --backend rocm|cuda|cpu   the build of torch; default: what is found on this machine
  --python PATH             the Python for the environment ($PYTHON_ORDER, in this order, where several are on PATH)
  --venv DIR                the environment's folder; default: venv beside this script
  --dry-run                 only say what would be done
  -h, --help                this text
USAGE
}

say() { printf '%s\n' "$*" >&3; } # 3 is stdout, or stderr when a command follows: its stdout holds only its own output
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'setup_training_env.sh: %s\n' "$*" >&2
    exit 1
}
bad_option() {
    printf 'setup_training_env.sh: %s (--help shows the options)\n' "$*" >&2
    exit 2
}

# ---------------------------------------------------------------------------------------------------------- options
unset PYTHONHOME
HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
SCRIPT=$HERE/$(basename -- "${BASH_SOURCE[0]}")
BACKEND='' PYTHON='' VENV=$HERE/venv DRY_RUN=''
while [ $# -gt 0 ]; do
    case $1 in
        --backend | --python | --venv)
            if [ -z "${2:-}" ]; then bad_option "$1 needs a value"; fi
            option=$1 value=$2
            shift 2
            ;;
        --backend=?* | --python=?* | --venv=?*)
            option=${1%%=*} value=${1#*=}
            shift
            ;;
        --dry-run)
            DRY_RUN=yes
            shift
            continue
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        --)
            shift
            break
            ;;
        -*) bad_option "unknown option $1" ;;
        *) break ;;
    esac
    case $option in
        --backend) BACKEND=$value ;;
        --python) PYTHON=$value ;;
        --venv) case $value in /*) VENV=${value%/} ;; *) VENV=$PWD/${value%/} ;; esac ;;
    esac
done
VENV=$(readlink -f -- "$VENV" || printf '%s' "$VENV") # one name for one folder, whatever links lead to it
case $BACKEND in '' | rocm | cuda | cpu) ;; *) bad_option "--backend is rocm, cuda or cpu, not '$BACKEND'" ;; esac
if [ $# -gt 0 ]; then exec 3>&2; else exec 3>&1; fi

# ---------------------------------------------------------------------------------------------------------- backend
has_amd() { # the in-kernel driver is enough: the rocm wheels of torch bring the rest of ROCm with them
    { [ -e /dev/kfd ] && [ -d /sys/module/amdgpu ]; } || rocminfo 2>/dev/null | grep -q 'Device Type: *GPU'
}
has_nvidia() { nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

why="--backend $BACKEND"
if [ -z "$BACKEND" ]; then
    if has_nvidia; then # asked first: many machines with an NVIDIA card also have a small AMD GPU inside the processor
        BACKEND=cuda why="nvidia-smi lists a GPU"
        if has_amd; then why="$why; an AMD GPU was found too: --backend rocm takes that"; fi
    elif has_amd; then
        BACKEND=rocm why="AMD GPU found"
    else
        BACKEND=cpu why="no AMD or NVIDIA GPU found"
    fi
fi
case $BACKEND in
    rocm) INDEX=$WHEELS/rocm7.2 ;; # the first index of torch 2.13 for RDNA4 (gfx1200, gfx1201); rocm6.2 lacks it
    cpu) INDEX=$WHEELS/cpu ;;
    cuda)
        # torch 2.13 is built for CUDA 12.6, 13.0 and 13.2. 13.0 is the stable one, from Turing (2018) to Blackwell, and
        # needs driver 580; 13.2 is experimental; 12.6 serves older drivers and cards up to Hopper.
        INDEX=$WHEELS/cu130
        while IFS=', ' read -r capability driver; do
            case ${capability%%.*}${driver%%.*} in '' | *[!0-9]*) continue ;; esac # "[N/A]", an error message
            capability=${capability/./}
            if [ "$capability" -lt 75 ] || { [ "${driver%%.*}" -lt 580 ] && [ "$capability" -le 90 ]; }; then
                INDEX=$WHEELS/cu126
            fi
        done < <(nvidia-smi --query-gpu=compute_cap,driver_version --format=csv,noheader 2>/dev/null || true)
        ;;
esac

if [ -n "${HSA_OVERRIDE_GFX_VERSION:-}" ]; then
    warn "HSA_OVERRIDE_GFX_VERSION=$HSA_OVERRIDE_GFX_VERSION is set. It makes ROCm take the GPU for another chip (12.0.0" \
        "is gfx1200, an RX 9070 is gfx1201): hangs, no fused attention. To remove it: unset HSA_OVERRIDE_GFX_VERSION"
fi
if [ "$BACKEND" = rocm ] && [ "$(id -u)" != 0 ]; then
    lacking=''
    for group in render video; do
        case " $(id -nG) " in *" $group "*) ;; *) lacking="$lacking $group" ;; esac
    done
    if [ -n "$lacking" ]; then
        warn "this login lacks the groups:$lacking, so ROCm may not see the GPU. Type" \
            "\`sudo usermod -aG render,video \$USER\`, then log out and in again"
    fi
fi

# ----------------------------------------------------------------------------------------------------------- python
# Each candidate has to run: a pyenv shim may be on PATH for a version that is not installed, Debian splits ensurepip
# off, and a Python built without bz2 or lzma fails later, inside `datasets`. Prints the version, as 3.12. -I, here and
# below: neither PYTHONPATH nor a file of the current folder may stand in for a module.
probe_python() {
    "$1" -I - <<'PROBE' 2>/dev/null
import bz2, ctypes, ensurepip, lzma, ssl, sys, sysconfig, venv, zlib
free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED")
usable = sys.implementation.name == "cpython" and sys.maxsize > 2**32 and not free_threaded
print("%d.%d" % sys.version_info[:2] if usable else "unsupported")
PROBE
}
accepted() { case " $PYTHON_ORDER " in *" ${1:-none} "*) ;; *) return 1 ;; esac; }

find_python() { # sets PYTHON, python_version
    local version candidate found generic=()
    for candidate in python3 python; do
        while IFS= read -r found; do generic+=("$found"); done < <(type -aP "$candidate" || true)
    done
    for version in $PYTHON_ORDER; do
        while IFS= read -r candidate; do
            if [ -n "$candidate" ] && [ "$(probe_python "$candidate")" = "$version" ]; then
                PYTHON=$candidate python_version=$version
                return
            fi
        done < <(
            type -aP "python$version" || true
            printf '%s\n' ${generic[@]+"${generic[@]}"}
        )
    done
    die "no usable Python ($PYTHON_ORDER) with venv on PATH. For example: \`uv python install 3.12\` or \`pyenv install" \
        "3.12\` (Debian, Ubuntu: the package python3-venv), or name one with --python PATH"
}

wanted_version=''
if [ -n "$PYTHON" ]; then
    wanted_version=$(probe_python "$PYTHON") || bad_option "--python $PYTHON does not run, or lacks venv, bz2 or lzma"
    accepted "$wanted_version" || bad_option "--python $PYTHON is not one of CPython $PYTHON_ORDER"
fi

# ------------------------------------------------------------------------------------------------------ environment
PY=$VENV/bin/python
UNFINISHED=$VENV/.setup-unfinished # there while the environment is being written
STATE=$VENV/.setup-state           # what was installed, and for which place
REQUIREMENTS=$HERE/requirements.txt
[ -f "$REQUIREMENTS" ] || die "$REQUIREMENTS is missing: run the script from a complete copy of the project"

# Why the environment must be made (again); empty when it can be used as it is.
rebuild_reason() {
    if [ ! -e "$VENV" ]; then
        echo 'it does not exist'
    elif [ -e "$UNFINISHED" ]; then
        echo 'the last set-up was interrupted' # pip cannot tell a half-copied package from a whole one
    elif ! "$PY" -I -c 'import pip' 2>/dev/null; then
        echo 'its Python no longer runs'
    elif [ -f "$STATE" ] && ! grep -qxF "place $VENV" "$STATE"; then
        echo 'its folder was moved' # the commands in bin/ hold the old path
    fi
}

make_venv() { # $1: the reason
    if [ -e "$VENV" ]; then
        # Only an environment may be deleted here, never a folder of something else that --venv names by mistake.
        if [ ! -f "$VENV/pyvenv.cfg" ] && [ ! -e "$UNFINISHED" ] && [ -n "$(ls -A "$VENV" 2>&1)" ]; then
            die "$VENV exists and is not a Python environment; choose another folder with --venv"
        fi
        say "remaking the environment $VENV: $1"
    fi
    # The mark goes last, so that a deletion cut short is still known as ours.
    if [ -d "$VENV" ]; then
        : >"$UNFINISHED"
        find "${VENV:?}" -mindepth 1 -maxdepth 1 ! -name .setup-unfinished -exec rm -rf -- {} +
    fi
    mkdir -p -- "$VENV"
    : >"$UNFINISHED"
    "$PYTHON" -m venv "$VENV" || die "could not make the environment with $PYTHON"
}

# Prints "<torch version> <backend>" of the installed torch, or "none none", and then any requirement that is absent.
# Read from the files, since importing torch takes seconds.
installed() {
    "$PY" -I - "$REQUIREMENTS" <<'INSTALLED'
import re, runpy, sys, sysconfig
from importlib.metadata import PackageNotFoundError, version
def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
torch, backend = installed("torch"), "none"
if torch:
    try:
        facts = runpy.run_path(sysconfig.get_paths()["purelib"] + "/torch/version.py")
        backend = "rocm" if facts.get("hip") else "cuda" if facts.get("cuda") else "cpu"
    except OSError:
        torch = None
lines = (line.split("#")[0].strip() for line in open(sys.argv[1], encoding="utf-8"))
names = [re.match(r"[\w.-]+", line).group() for line in lines if line]
print(torch or "none", backend, *[name for name in names if name != "torch" and not installed(name)])
INSTALLED
}

# One short try, where pip would retry for minutes. A failed certificate check still means that the host answers:
# pip has certificate settings of its own. Prints the reason when the index cannot be used.
index_problem() {
    "$PY" -I - "$INDEX/torch/" <<'TRY'
import ssl, sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="HEAD"), timeout=8).close()
except (OSError, ValueError) as error:
    reason = getattr(error, "reason", error)
    if not isinstance(reason, ssl.SSLCertVerificationError):
        print(getattr(reason, "strerror", None) or reason)
TRY
}

pip_run() { # quiet, except for the progress bar of the big download when a person watches
    "$PY" -I -m pip --disable-pip-version-check --no-input "$@" >&3 ||
        die "pip failed, see above; running this script again starts afresh (what was downloaded is kept)"
}

install_torch() {
    local problem quiet=-qq # errors are printed all the same
    if [ -t 3 ]; then quiet=''; fi
    problem=$(index_problem) || problem='the attempt failed'
    if [ -n "$problem" ]; then
        if [ "${torch%%+*}" = "$TORCH_VERSION" ]; then # pip's own choice again would be the same build again
            warn "PyTorch's index $INDEX cannot be reached ($problem): torch $torch ($torch_backend) stays"
            return
        fi
        say "PyTorch's index $INDEX cannot be reached ($problem): pip's own configuration chooses the build of torch"
    fi
    : >"$UNFINISHED"
    # pip takes any build of the same version as good enough, so another backend's build has to go first.
    if [ "$torch" != none ]; then pip_run uninstall -qq -y torch; fi
    say "installing torch $TORCH_VERSION for $BACKEND (once; up to several GB with a GPU)"
    if [ -n "$problem" ]; then
        pip_run install ${quiet:+"$quiet"} "torch==$TORCH_VERSION"
    else # the variable keeps an extra index of the user's configuration from bringing in another build
        PIP_EXTRA_INDEX_URL=$INDEX pip_run install ${quiet:+"$quiet"} --index-url "$INDEX" "torch==$TORCH_VERSION"
    fi
}

prepare() {
    local reason missing wanted_state
    reason=$(rebuild_reason)
    if [ -z "$reason" ]; then
        python_version=$(probe_python "$PY" || true)
        if [ -n "$wanted_version" ] && [ "$wanted_version" != "$python_version" ]; then
            die "$VENV has Python $python_version, not $wanted_version: delete it, or choose another folder with --venv"
        fi
        accepted "$python_version" || die "$VENV has Python ${python_version:-without bz2 or lzma}, which is not" \
            "supported: delete it and try again"
    elif [ -n "$wanted_version" ]; then
        python_version=$wanted_version
    else
        find_python
    fi
    if [ -n "$DRY_RUN" ]; then
        say "backend: $BACKEND ($why)"
        say "torch:   $TORCH_VERSION from $INDEX"
        if [ -n "$reason" ]; then say "python:  $python_version ($PYTHON)"; else say "python:  $python_version"; fi
        say "venv:    $VENV${reason:+ (to be made: $reason)}"
        return
    fi
    # One set-up at a time: a second one would take the first one's unfinished environment for an interrupted one.
    exec 9<"$SCRIPT"
    if command -v flock >/dev/null && ! flock -n 9; then
        say "waiting for another set-up to end"
        flock 9 || true
        reason=$(rebuild_reason)
        if [ -n "$reason" ] && [ -z "$PYTHON" ]; then find_python; fi
    fi
    if [ -n "$reason" ]; then
        say "backend $BACKEND ($why), Python $python_version ($PYTHON)"
        make_venv "$reason"
    fi

    read -r torch torch_backend missing < <(installed) || die "the environment $VENV is damaged: delete it, try again"
    # The cpu backend is content with any build: CUDA builds run on the CPU too.
    if [ "${torch%%+*}" != "$TORCH_VERSION" ] || { [ "$BACKEND" != cpu ] && [ "$torch_backend" != "$BACKEND" ]; }; then
        install_torch
    fi
    wanted_state="place $VENV
requirements $(cksum <"$REQUIREMENTS")"
    if [ -n "$missing" ] || [ "$(grep -v '^checked ' "$STATE" 2>/dev/null)" != "$wanted_state" ]; then
        say "installing the packages of requirements.txt"
        : >"$UNFINISHED"
        echo "torch==$TORCH_VERSION" >"$VENV/.setup-constraints" # no package may replace the chosen torch
        pip_run install -qq -r "$REQUIREMENTS" -c "$VENV/.setup-constraints"
        printf '%s\n' "$wanted_state" >"$STATE"
    fi
    rm -f -- "$UNFINISHED"
    exec 9<&-
}

# ------------------------------------------------------------------------------------------------------ smoke check
check_device() {
    "$PY" -I "$HERE/wheeler/training/device.py" "$BACKEND"
}

torch=none torch_backend=none python_version=''
prepare
if [ -n "$DRY_RUN" ]; then
    if [ $# -gt 0 ]; then say "command: $*"; else say "command: none, check the device"; fi
    exit 0
fi

if [ $# -eq 0 ]; then
    check_device || die "the device check failed, see above and docs/troubleshooting.md"
    activate=${VENV#"$HERE"/}/bin/activate
    case ${SHELL:-} in */fish) activate=$activate.fish ;; esac
    printf '\nReady. Next, type:\n'
    if [ "$HERE" != "$(pwd -P)" ]; then printf '  cd %q\n' "$HERE"; fi
    printf '  source %q\n' "$activate"
    echo "  python train.py --dataset sample     # a first run on the stories that come with the project"
    echo "  python train.py                      # the real one, on TinyStories"
    exit 0
fi

# Before a command the check runs once per build of torch: it costs seconds, and the command comes first.
checked="checked $BACKEND $("$PY" -I -c 'from importlib.metadata import version; print(version("torch"))')"
if ! grep -qxF "$checked" "$STATE"; then
    check_device >&3 || die "the device check failed, see above; the command was not run"
    grep -v '^checked ' "$STATE" >"$STATE.new" || true
    echo "$checked" >>"$STATE.new"
    mv -f -- "$STATE.new" "$STATE"
fi
export VIRTUAL_ENV=$VENV PATH=$VENV/bin:$PATH
exec 3>&-
exec "$@"
