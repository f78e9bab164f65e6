#!/bin/sh
# Installs what the tests use beyond Python (Mosquitto, Chromium) where apt-get may be used; otherwise those tests are
# skipped with a reason.
set -u

# need PROGRAM PACKAGE...
need() {
  program=$1
  shift
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] && return
  command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || { echo "$program: not installed, its tests will be skipped"; return; }
  # Nothing is to be started by the installation: the tests start their own.
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  { apt-get install -y -qq --no-install-recommends "$@" || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; }; } >/dev/null 2>&1 \
    || echo "$program: could not be installed, its tests will be skipped"
}

need mosquitto mosquitto
need chromedriver chromium chromium-driver
