r"""TPU slices: up, run, status, logs, down, babysit, reap.

    python -m launch.tpu babysit --project=P --zone=us-west4-a --type=v5litepod-8 \
        --data=gs://BUCKET/sets --workdir=gs://BUCKET/runs/cifar10 -- --config=configs/cifar10.py

The slice's name is the key: every verb may be repeated. `--dry-run` prints the commands and calls
nothing. Exit codes: 0 done, 2 a mistake, 1 the cloud refused or the run crashed (then its own
code), 75 the request still waits in the queue.
"""

import argparse
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from launch import babysit, check
from launch.gang import Busy, Gang, tree
from launch.gce import Gce
from launch.gcloud import Blip, CloudError, Gcloud, say
from launch.slices import CAPACITIES, LaunchError, Slice, age
from launch.tpu_api import TpuApi

BACKENDS = {"tpu": TpuApi, "gce": Gce}


def verb_up(args: argparse.Namespace, backend: Any) -> int:
    """Creates the slice, or takes the one there is; waits until it is ready."""
    _allow(args, backend)
    babysit.up(backend, args.poll, time.sleep)
    say(f"{backend.slice.name} is ready" if not args.dry_run else "dry run: nothing was called")
    return 0


def verb_run(args: argparse.Namespace, backend: Any) -> int:
    """Starts the run on every host, detached; a run that is there already is left alone."""
    gang = _gang(args, backend)
    if not args.dry_run and backend.state() != "ready":
        raise LaunchError(f"{backend.slice.name} is not ready; `up` first")
    _check_trainer(args, backend)
    gang.start()
    return 0


def verb_status(args: argparse.Namespace, backend: Any) -> int:
    """Prints the state of the slice and one line per host."""
    state = backend.state()
    print(f"{backend.slice.name}: {state}", flush=True)
    if state == "ready" or args.dry_run:
        for host in Gang(backend, args.workdir).ask():
            code = "" if host.code is None else f" with code {host.code}"
            print(f"  {host.name}: {host.unit} {host.state}{code}", flush=True)
    return 0


def verb_logs(args: argparse.Namespace, backend: Any) -> int:
    """Shows one host's log; `-f` follows it."""
    command = "bash ~/djax-code/current/launch/host.sh logs" + (" -F" if args.follow else "")
    hosts = backend.hosts() or ["HOST"]
    host = hosts[min(args.worker, len(hosts) - 1)]
    argv = backend.ssh(host, command, worker=str(args.worker))
    if args.dry_run:
        print(shlex.join(["gcloud", *argv]))
        return 0
    return 1 if backend.gcloud.show(argv) else 0


def verb_down(args: argparse.Namespace, backend: Any) -> int:
    """Deletes the slice and waits until it is gone."""
    babysit.down(backend, args.poll, time.sleep)
    return 0


def verb_babysit(args: argparse.Namespace, backend: Any) -> int:
    """Create, run, watch, create again after a preemption, and delete at the end."""
    gang = _gang(args, backend)
    _check_trainer(args, backend)
    _allow(args, backend)
    for command in backend.delete_commands(backend.slice.name):
        say("if this program is killed, stop paying with: " + shlex.join(["gcloud", *command]))
    if args.dry_run:
        babysit.up(backend, args.poll, time.sleep)
        gang.start()
        babysit.down(backend, args.poll, time.sleep)
        return 0
    sitter = babysit.Sitter(gang, poll=args.poll, backoff=args.backoff)
    keep = args.keep

    def interrupt(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    old = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        return sitter.run()
    except (babysit.StillQueued, Busy):
        keep = True
        raise
    finally:
        for number in old:  # a second Ctrl-C must not keep the slice alive
            signal.signal(number, signal.SIG_IGN)
        try:
            if not keep and sitter.ours:
                babysit.down(backend, args.poll, time.sleep)
            elif not keep:
                say(f"{args.name} was there before, and nothing was started on it: not deleted")
        except (Blip, CloudError) as e:
            say(f"NOT DELETED, and it costs money: {e}; delete it with the command above")
            raise
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def verb_reap(args: argparse.Namespace, backend: Any) -> int:
    """Deletes our slices in the zone whose time is over, or that were preempted; safe for cron."""
    failed = 0
    for one in backend.ours():
        expires = one["expires"]
        dead = one["state"] in ("SUSPENDED", "FAILED", "TERMINATED", "STOPPED")
        if not expires.isdigit() and not dead:
            say(f"{one['name']} ({one['owner']}) has no time limit: left alone")
        elif dead or int(expires) < time.time():
            for command in backend.delete_commands(one["name"], one.get("several", False)):
                try:
                    backend.gcloud.change(command, absent_is_fine=True)
                except CloudError as e:  # the others are to be deleted all the same
                    say(f"{one['name']}: {e}")
                    failed = 1
    return failed


def _gang(args: argparse.Namespace, backend: Any) -> Gang:
    if not args.workdir:
        raise LaunchError("--workdir is needed: where the run writes, best a gs:// folder")
    if not args.arguments:
        raise LaunchError("give the trainer's arguments after --, for example -- --config=...")
    if args.verb == "babysit" and not (args.keep or args.workdir.startswith("gs://")):
        raise LaunchError(
            f"--workdir={args.workdir}: the disk goes with the slice at the end, so give a gs:// "
            "folder (or --keep)"
        )
    if args.data and not args.data.startswith("gs://"):
        raise LaunchError(f"--data={args.data}: every new host copies it, so give a gs:// folder")
    tree()
    return Gang(backend, args.workdir, tuple(args.arguments), args.retries, args.data)


def _check_trainer(args: argparse.Namespace, backend: Any) -> None:
    """Asks the trainer here whether it takes its arguments: a slice that refuses them is paid."""
    if args.dry_run or args.unchecked:
        return
    if found := check.problem(args.arguments, backend.slice.chips):
        raise LaunchError(
            f"the trainer would refuse its arguments: {found} (--unchecked skips this)"
        )


def _allow(args: argparse.Namespace, backend: Any) -> None:
    """Says what it costs, and refuses what is dear unless told that it is meant."""
    price = backend.slice.price()
    say(
        f"{backend.slice.type}, {backend.slice.chips} chips, {backend.slice.hosts} host(s): about "
        f"{price:.0f} $/h (list price of 2025, {backend.slice.capacity})"
    )
    if not (price <= args.max_price or args.yes or args.dry_run):
        raise LaunchError(f"that is more than --max-price={args.max_price:g} $/h; add --yes")
    if isinstance(backend, TpuApi) and backend.slice.capacity != "flex-start":
        say(
            f"the server sets no time limit here: run `reap` from cron; due in "
            f"{age(3600 * backend.slice.hours)}"
        )


def _others(backend: Any) -> None:
    """Names our other slices in the zone: they cost money too."""
    try:
        for one in backend.ours():
            if one["name"] != backend.slice.name:
                left = one["expires"]
                left = age(int(left) - time.time()) if left.isdigit() else "no limit"
                say(f"also alive: {one['name']} ({one['owner']}, {one['state']}, due in {left})")
    except (Blip, CloudError) as e:
        say(f"other slices are not known: {e}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; the trainer's arguments come after `--`."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.tpu", description=__doc__.split("\n")[0]
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, function in VERBS.items():
        sub = verbs.add_parser(name, help=(function.__doc__ or "").split(";")[0])
        add = sub.add_argument
        add("--api", choices=sorted(BACKENDS), default="tpu", help="tpu: v2..v6e; gce: v5p, v6e on")
        add("--project", default=os.environ.get("CLOUDSDK_CORE_PROJECT", ""))
        add("--zone", default=os.environ.get("CLOUDSDK_COMPUTE_ZONE", ""))
        add("--name", default="djax", help="the slice's name (default djax)")
        add("--type", default="", help="for example v5litepod-8")
        add("--capacity", choices=CAPACITIES, default="spot")
        add("--hours", type=float, default=24.0, help="deleted or reaped after this time")
        add("--wait-hours", type=float, default=6.0, help="how long the request may queue")
        add("--service-account", default="")
        add("--image", default="", help="boot image family (gce)")
        add("--workdir", default="", help="where the run writes: gs://BUCKET/...")
        add(
            "--data", default="", help="gs:// folder that each host copies to ~/tensorflow_datasets"
        )
        add("--retries", type=int, default=0 if name == "babysit" else 3,
            help="restarts that each host makes by itself")  # fmt: skip
        add("--poll", type=float, default=60.0, help="seconds between looks")
        add("--backoff", type=float, default=30.0, help="seconds before a restart after a crash")
        add("--max-price", type=float, default=20.0, help="$/h above which --yes is needed")
        add("--worker", type=int, default=0, help="host whose log is shown")
        add("-f", "--follow", action="store_true", help="follow the log")
        add("--keep", action="store_true", help="do not delete the slice at the end")
        add("--yes", action="store_true", help="the price is meant")
        add("--unchecked", action="store_true", help="do not ask the trainer here first")
        add("--dry-run", action="store_true", help="print the commands, call nothing")
    argv = list(argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:cut])
    args.arguments = argv[cut + 1 :]
    if args.verb == "reap":
        args.type = args.type or {"tpu": "v5litepod-8", "gce": "v6e-8"}[args.api]
    return args


VERBS = {
    "up": verb_up, "run": verb_run, "status": verb_status, "logs": verb_logs, "down": verb_down,
    "babysit": verb_babysit, "reap": verb_reap,
}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Does what the command line says.

    Args:
        argv: the command line without the program's name.

    Returns:
        The exit code.
    """
    args = parse(argv)
    try:
        for option, seconds in (("poll", args.poll), ("backoff", args.backoff)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise LaunchError(f"--{option}={seconds:g}: seconds, not negative and finite")
        wanted = Slice(
            args.name, args.project, args.zone, args.type, args.capacity, args.hours,
            args.wait_hours, args.service_account, args.image,
        )  # fmt: skip
        backend = BACKENDS[args.api](Gcloud(args.dry_run, min(5.0, args.poll)), wanted)
        if args.verb not in ("reap", "logs"):
            _others(backend)
        return VERBS[args.verb](args, backend)
    except LaunchError as e:
        say(f"error: {e}")
        return 2
    except babysit.StillQueued as e:
        say(f"{e} still waits in the queue; the same command goes on, `down` cancels it")
        return babysit.QUEUED
    except (Blip, CloudError) as e:
        say(f"error: {e}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
