#!/bin/sh
# What a Debian machine may lack for hopd, installed with apt-get:
#
#   setup.sh python     the venv module for $PYTHON (default python3)
#   setup.sh broker     rabbitmq-server, for private nodes of the tests and the bench
#   setup.sh go         Go and streadway/amqp, which the bench compares hopd with
#
# Says nothing when nothing is missing. Without root, passwordless sudo or apt-get it says what to install and ends well: what
# follows may do without, or will fail with a message of its own.
set -eu

POLICY=/usr/sbin/policy-rc.d

has_python() { "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null; }

has_broker() { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null; }

has_go() { command -v go >/dev/null && [ -d /usr/share/gocode/src/github.com/streadway/amqp ]; }

# Debian starts a service when its package is installed. Nobody asked for a broker on the standard port: a policy forbids starts
# while we install. A policy that was there before is put back.
forbid_starts() {
    if [ -e $POLICY ]; then $root mv $POLICY $POLICY.before-hopd; fi
    printf '#!/bin/sh\nexit 101\n' | $root tee $POLICY >/dev/null
    $root chmod 755 $POLICY
}

allow_starts() {
    $root rm -f $POLICY
    if [ -e $POLICY.before-hopd ]; then $root mv $POLICY.before-hopd $POLICY; fi
}

# Nor at the next boot. Only for services that this run has brought; one that was here is none of our business.
forbid_at_boot() {
    for service in "$@"; do
        if command -v systemctl >/dev/null; then
            $root systemctl --quiet disable "$service" >/dev/null 2>&1 || echo "Could not disable $service: it will start at boot."
        elif command -v update-rc.d >/dev/null; then
            $root update-rc.d "$service" disable >/dev/null 2>&1 || echo "Could not disable $service: it will start at boot."
        fi
    done
}

installed() { dpkg-query --show --showformat '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

advise() { echo "Missing: $*. As root: apt-get install $*"; }

become_root() {
    if ! command -v apt-get >/dev/null; then return 1; fi
    if [ "$(id -u)" = 0 ]; then root=; return 0; fi
    root="sudo -n"
    command -v sudo >/dev/null && sudo -n true 2>/dev/null
}

install() {
    if ! become_root; then advise "$@"; return 0; fi
    echo "Installing $* (apt-get) ..."
    log=$(mktemp)
    trap 'allow_starts; rm -f "$log"' EXIT
    trap 'exit 130' INT TERM HUP
    forbid_starts
    apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
    if ! { $apt update && $apt install --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 15 "$log"
        advise "$@"
    fi
}

case "${1-}" in
    python)
        if ! has_python; then install python3 python3-venv; fi
        ;;
    broker)
        if ! has_broker; then
            services=rabbitmq-server
            if ! installed erlang-base; then services="$services epmd.socket epmd.service"; fi
            install rabbitmq-server
            if has_broker; then forbid_at_boot $services; fi
        fi
        ;;
    go)
        if ! has_go; then install golang-go golang-github-streadway-amqp-dev; fi
        ;;
    *)
        echo "usage: $0 python|broker|go" >&2
        exit 2
        ;;
esac
