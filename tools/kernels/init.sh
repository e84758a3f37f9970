#!/bin/sh
# The first process of the guest: mounts what the tests need, runs them, and turns the machine off.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
# The port to the compiler outside (compiler.ts), where it is not built in.
modprobe -q -a virtio_pci virtio_console
cd /moat || exit
echo "MOAT-KERNEL $(uname -r)"
sh /command 2>&1
busybox poweroff -f
