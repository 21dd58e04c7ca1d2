#!/bin/busybox sh
# Process 1 of the test guest. Everything in the loop is a shell builtin: a fork costs much where a guest is emulated.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
# Which module needs which differs between kernels: what fails is tried again behind the others.
again=
for module in $($bb cat /lib/modules/order); do $bb insmod /lib/modules/$module 2>/dev/null || again="$again $module"; done
for module in $again; do $bb insmod /lib/modules/$module 2>/dev/null; done

name=- generation=- every=0.2
for word in $($bb cat /proc/cmdline); do
  case $word in
    name=* | roost.name=*) name=${word#*=} ;;
    generation=* | roost.generation=*) generation=${word#*=} ;;
    every=*) every=${word#*=} ;;
  esac
done

# The power button ends the guest at once.
$bb mkdir -p /etc/acpi/PWRF
printf '#!/bin/sh\necho "ROOST-GUEST power-button" > /dev/console\n%s sync\n%s poweroff -f\n' $bb $bb > /etc/acpi/PWRF/00000080
$bb chmod 0755 /etc/acpi/PWRF/00000080
$bb ls /dev/input/event* > /dev/null 2>&1 && $bb acpid -l /dev/null

# Uptime in hundredths of a second, without the leading zeros that would make it octal.
uptime() {
  read up rest < /proc/uptime
  cs=${up%.*}${up#*.}
  while [ "${cs#0}" != "$cs" ] && [ ${#cs} -gt 1 ]; do cs=${cs#0}; done
}

# Wall clock in ms = the clock at start + uptime since: the clock is asked (a fork) only once.
uptime
startMs=$(($($bb date +%s) * 1000 - cs * 10))

# What the run before left on the disk; the counter goes on from there.
n=0 before=none
if [ -b /dev/vda ]; then
  set -- $($bb dd if=/dev/vda bs=64 count=1 2>/dev/null)
  if [ "$1" = roost-counter ]; then n=$2 before=$2,$3,$4; fi
fi

$bb mkfifo /tick
exec 3<> /tick
echo "ROOST-GUEST ready name=$name generation=$generation up=$up disk=$before kernel=$($bb uname -r)" > /dev/console
exec > /dev/console
turn=0
while :; do
  uptime
  ms=$((startMs + cs * 10))
  n=$((n + 1)) disk=
  if [ $turn = 0 ] && [ -b /dev/vda ]; then
    # Closing the device writes it through.
    { echo "roost-counter $n $name $generation $up                " > /dev/vda; } 2>/dev/null || disk=" disk-error"
  fi
  turn=$(((turn + 1) % 5))
  echo "ROOST-GUEST mark name=$name generation=$generation n=$n up=$up time=${ms%???}.${ms#${ms%???}}$disk"
  read -t $every nothing <&3
done
