#!/usr/bin/env bash
# What runs on every host. Everything is safe to repeat: gcloud runs a remote command again when the
# connection breaks, so `start` starts a run unless it is already running, and nothing exits 255.
#
#   host.sh install                 the environment, once per lock file
#   host.sh exec ARGS...            install, then `python ARGS...` in the foreground (SkyPilot)
#   host.sh start UNIT WORKDIR RETRIES ARGS...   the same, detached, with restarts and logs
#   host.sh status                  one line: "djax-status HOST UNIT running|exited|absent CODE"
#   host.sh stop | host.sh logs [-f]
#
# The trainer's exit codes: 0 done, 2 a mistake (never repeated), 42 preempted with its state saved,
# others are crashes. One run at a time holds a host: the lock below is held while it lives.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=${DJAX_STATE:-$HOME/.djax}
lock=${DJAX_LOCK:-$here/launch/requirements.lock}
grace=${DJAX_GRACE:-25}
backoff=${DJAX_BACKOFF:-60} # longer than the heartbeat of 30 s: by then every host has noticed
mkdir -p "$state"
# A stalled connection to the bucket is broken off and tried again, instead of hanging a save.
export TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS=60 TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES=256

python_command() { # one that this package supports; TPU VM images have 3.10
  local name
  for name in "${DJAX_PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [ -n "$name" ] && command -v "$name" >/dev/null &&
      "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "no Python 3.11 or newer" >&2
  return 1
}

make_venv() { # an interpreter from uv where the system has none
  local name
  rm -rf "$state/venv"
  if name=$(python_command 2>/dev/null) && "$name" -m venv "$state/venv"; then return; fi
  rm -rf "$state/venv"
  python3 -m pip install --quiet --user 'uv>=0.5' >&2
  python3 -m uv venv --quiet --seed --python 3.11 "$state/venv" >&2
}

install() {
  local want
  [ -r "$lock" ] || { echo "host.sh: no lock file $lock" >&2; return 2; }
  want=$(sha256sum <"$lock")
  exec 8>"$state/install.lock"
  flock 8
  if [ "$(cat "$state/venv/.stamp" 2>/dev/null || true)" != "$want" ]; then
    make_venv
    "$state/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$lock" >&2
    echo "$want" >"$state/venv/.stamp"
  fi
  exec 8>&-
}

clear_libtpu_lock() { # left behind by a killed process, it blocks the next one
  local file=/tmp/libtpu_lockfile
  [ -e "$file" ] && command -v fuser >/dev/null || return 0
  fuser -s "$file" 2>/dev/null || rm -f "$file" 2>/dev/null || sudo -n rm -f "$file" || true
}

publish() { # the log beside the checkpoints, also in a bucket; never fatal
  case $2 in
    gs://*) gcloud storage cp --quiet "$1" "$2/logs/" >/dev/null 2>&1 || true ;;
    *) { mkdir -p "$2/logs" && cp "$1" "$2/logs/"; } || true ;;
  esac
}

attempt() { # LOG WORKDIR ARGS...: one run of the trainer, TERM passed on to it
  local log=$1 workdir=$2 child code=0 beat
  shift 2
  (cd "$here" && exec "$state/venv/bin/python" -u "$@") >>"$log" 2>&1 &
  child=$!
  trap 'touch "$state/stopping"; kill -TERM "$child" 2>/dev/null || true' TERM INT
  # $$ is the loop: if it is killed, nobody publishes for it.
  (while sleep 60 && kill -0 $$ 2>/dev/null; do publish "$log" "$workdir"; done) 9>&- &
  beat=$!
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  if wait "$child"; then code=0; else code=$?; fi
  kill "$beat" 2>/dev/null || true
  publish "$log" "$workdir"
  return "$code"
}

loop() { # UNIT WORKDIR RETRIES ARGS...: what the unit runs
  local unit=$1 workdir=$2 retries=$3 code=0 n=0 log
  shift 3
  exec 9>"$state/lock"
  flock -w 5 9 || exit 0 # somebody was faster
  echo "$unit" >"$state/unit"
  echo $$ >"$state/pid"
  rm -f "$state/code" "$state/stopping"
  trap 'touch "$state/stopping"' TERM INT
  while :; do
    log="$state/host-$(hostname)-$(date +%Y%m%d-%H%M%S)-attempt-$n.log"
    ln -sfn "$log" "$state/log"
    clear_libtpu_lock
    code=0
    install >>"$log" 2>&1 || code=1
    [ "$code" -ne 0 ] || attempt "$log" "$workdir" "$@" || code=$?
    [ -e "$state/stopping" ] && break
    case $code in 0 | 2 | 42) break ;; esac
    n=$((n + 1))
    [ "$n" -le "$retries" ] || break
    echo "host.sh: exit code $code; attempt $n of $retries in $((n * backoff)) s" >>"$log"
    sleep $((n * backoff)) 9>&- &
    wait $! || true
    [ ! -e "$state/stopping" ] || break
  done
  echo "$code" >"$state/code"
}

running() { ! flock -n -s "$state/lock" true 2>/dev/null; }

start() {
  local unit=$1
  touch "$state/lock"
  if running; then
    status
    [ "$(cat "$state/unit")" = "$unit" ] && return 0
    echo "host.sh: this host is busy with another run; stop it first" >&2
    return 3
  fi
  rm -f "$state/code"
  echo "$unit" >"$state/unit"
  if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
    # systemd passes TERM on when the machine goes down: a spot notice becomes a checkpoint.
    sudo systemctl reset-failed djax.service 2>/dev/null || true
    sudo systemd-run --quiet --collect --unit=djax --uid="$(id -u)" --gid="$(id -g)" \
      --property=KillMode=mixed --property=TimeoutStopSec="$grace" \
      --setenv=HOME="$HOME" --setenv=PATH="$PATH" --setenv=DJAX_STATE="$state" \
      --setenv=DJAX_LOCK="$lock" bash "$here/launch/host.sh" loop "$@"
  else
    DJAX_STATE=$state DJAX_LOCK=$lock setsid nohup bash "$here/launch/host.sh" loop "$@" \
      </dev/null >/dev/null 2>&1 &
  fi
  for _ in $(seq 50); do
    if running || [ -e "$state/code" ]; then break; fi
    sleep 0.1
  done
  status
}

status() {
  local unit code
  unit=$(cat "$state/unit" 2>/dev/null || echo none)
  code=$(cat "$state/code" 2>/dev/null || echo -)
  touch "$state/lock"
  if running; then
    echo "djax-status $(hostname) $unit running -"
  elif [ "$code" != - ]; then
    echo "djax-status $(hostname) $unit exited $code"
  else
    echo "djax-status $(hostname) $unit absent -"
  fi
}

stop() { # TERM, time to save, KILL; then nothing is left
  local pid
  touch "$state/lock"
  if running; then
    touch "$state/stopping"
    pid=$(cat "$state/pid")
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq $((grace * 10))); do
      running || break
      sleep 0.1
    done
    if running; then # all that hold the lock: the loop, the trainer and its children
      for pid in /proc/[0-9]*; do
        [ "$(readlink "$pid/fd/9" 2>/dev/null)" = "$state/lock" ] || continue
        kill -KILL "${pid#/proc/}" 2>/dev/null || true
      done
      echo 137 >"$state/code"
    fi
  fi
  clear_libtpu_lock
  status
}

verb=${1:-}
shift || true
case $verb in
  install | start | loop | status | stop) "$verb" "$@" ;;
  logs) tail -n 100 "$@" "$state/log" ;;
  exec)
    install
    cd "$here"
    exec "$state/venv/bin/python" -u "$@"
    ;;
  *)
    echo "usage: host.sh install|exec|start|status|stop|logs" >&2
    exit 2
    ;;
esac
