# Sourced by ci/bench and ci/test: sets `root` to the project's folder and defines their functions.
# shellcheck shell=sh

# The script's real folder, even through a link.
root=$(dirname -- "$(readlink -f -- "$0")")/..
root=$(cd -- "$root" && pwd -P) || exit

# Sets `python` to the environment's Python; makes the environment if needed.
find_python() {
    asked="import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 13); print(sys.executable)"
    base=${PYTHON:-}
    for candidate in python3 python3.13 python3.12 python3.11; do
        # Run it instead of looking for its name: a version manager's stand-in may not start.
        [ -n "$base" ] || base=$("$candidate" -I -S -c "$asked" 2>/dev/null) || base=
    done
    if ! command -v "${base:-no such command}" >/dev/null; then
        echo "${0##*/}: needs Python 3.11, 3.12 or 3.13; set \$PYTHON to one of them" >&2
        exit 4
    fi
    python=$(PYTHON='' "$base" "$root/ci/setup/environment.py") || exit
}

# Sets `chosen` to 'yes' if one of the arguments names tests: a Python file that is there, with or
# without `::`, or a folder inside $1. Other existing files are values, such as that of --suite.
find_chosen() {
    folder=$1
    shift
    chosen=no
    previous=
    for argument; do
        case $previous in
        --ignore | --deselect) ;;
        *) ! names_tests "$folder" "$argument" || chosen=yes ;;
        esac
        previous=$argument
    done
}

names_tests() {
    case $2 in -*) return 1 ;; esac
    if [ -d "$2" ]; then
        case $(cd -- "$2" && pwd -P)/ in "$1"/*) return 0 ;; esac
        return 1
    fi
    case ${2%%::*} in *.py) [ -f "${2%%::*}" ] ;; *) return 1 ;; esac
}
