# Sets up what the project's commands need: Debian packages, and a virtual environment in .venv.
#
# Sourced by tools/demo and tools/test, from the top of the checkout. What is there already is left
# alone; with everything there, nothing is installed and no network is used.

# Debian's own Python: another one on PATH may lack the venv module, or vanish.
readonly debian_python=/usr/bin/python3

# Installs those of the Debian packages that are missing, or says how and ends.
setup_packages() {
    local package missing=() as_root=()
    if ! command -v dpkg-query >/dev/null; then
        echo "$0: this sets up Debian 12 and 13, and here is no dpkg. Install what these packages hold: $*" >&2
        exit 1
    fi
    for package; do
        if [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
            missing+=("$package")
        fi
    done
    ((${#missing[@]} > 0)) || return 0

    if ((EUID != 0)); then
        as_root=(sudo)
        if ! sudo -n true 2>/dev/null; then
            echo "$0: these Debian packages are missing, and installing them needs root. Please run:" >&2
            echo "    sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
            exit 1
        fi
    fi
    echo "Installing Debian packages: ${missing[*]}"
    "${as_root[@]}" apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${missing[@]}" >/dev/null
}

# Makes .venv with the exact versions of tools/requirements.txt and this checkout's own package.
setup_venv() {
    local stamp=.venv/percpu-setup wanted
    wanted=$(echo "$PWD" && "$debian_python" --version && sha256sum tools/requirements.txt pyproject.toml)
    if [[ -e $stamp && $(<"$stamp") == "$wanted" ]]; then return 0; fi

    # Where the checkout was moved or copied, the commands in .venv still run what lies at the old place.
    if [[ $(.venv/bin/pip --version 2>/dev/null) != *" $PWD/.venv/"* ]]; then
        echo "Making the virtual environment .venv"
        "$debian_python" -m venv --clear .venv
    fi
    echo "Installing Python packages into .venv: $(grep -c == tools/requirements.txt) of tools/requirements.txt, and this checkout"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement tools/requirements.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    printf '%s\n' "$wanted" >"$stamp"
}
