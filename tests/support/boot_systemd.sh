#!/bin/sh
# Boots systemd as PID 1 in the namespaces that `unshare` made: this machine's files below an overlay that is thrown away.
#   boot_systemd.sh WORK SITE_PACKAGES PROJECT
# Nothing of the machine is written: /proc/sys and /sys are read-only, /dev has no devices, and only journal and bus start.
set -e
work=$1
mount -t tmpfs -o size=1g tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
root=$work/root
mkdir -p "$root/srv/site" "$root/srv/project"
mount --bind "$2" "$root/srv/site"
mount --bind "$3" "$root/srv/project"
for target in sysinit multi-user local-fs sockets timers basic graphical getty network remote-fs; do
    rm -rf "$root/usr/lib/systemd/system/$target.target.wants" "$root/etc/systemd/system/$target.target.wants"
done
rm -rf "$root"/etc/rc?.d "$root"/etc/init.d
: >"$root/etc/fstab"
mkdir -p "$root/usr/lib/systemd/system/sockets.target.wants"
for unit in systemd-journald.socket systemd-journald-dev-log.socket dbus.socket; do
    ln -s "../$unit" "$root/usr/lib/systemd/system/sockets.target.wants/$unit"
done
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
rm -f "$root/etc/machine-id"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,ro,bind "$root/proc/sys"
mkdir -p "$root/mnt/old"
cd "$root"
pivot_root . mnt/old
umount -l /mnt/old
# As an engine hands a root to systemd: credentials are mounted in a namespace of their own and passed on.
mount --make-rshared /
exec env -i container=oidc-mirror-test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
