#!/bin/sh
# Installs Mosquitto for the tests where apt-get may be used; otherwise those tests are skipped with a reason.
set -u
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] && exit 0
command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || { echo "mosquitto: not installed, its tests will be skipped"; exit 0; }
# Nothing is to be started by the installation: the tests start their own.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
{ apt-get install -y -qq --no-install-recommends mosquitto || { apt-get update -qq && apt-get install -y -qq --no-install-recommends mosquitto; }; } >/dev/null 2>&1 \
  || echo "mosquitto: could not be installed, its tests will be skipped"
