#!/bin/sh
# Hooks of mmdebstrap for the Debian test guest. Called as `hooks.sh STAGE ROOT OUT`; ROOT is the guest's tree.
#
# Invariant: OUT receives its files under temporary names; the harness moves them into place when all is done.
set -eu
stage=$1 root=$2 out=$3

case $stage in
essential)
    # The kernel package makes the initial RAM disk while it is installed: tell it beforehand to keep to what a
    # virtual machine of ours has, so that it is small and quick.
    mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/etc/initramfs-tools/hooks"
    printf 'MODULES=list\nCOMPRESS=gzip\n' >"$root/etc/initramfs-tools/conf.d/guest"
    cat >"$root/etc/initramfs-tools/hooks/guest" <<'HOOK'
#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk virtio_net ext4
HOOK
    chmod 755 "$root/etc/initramfs-tools/hooks/guest"
    ;;
customize)
    echo guest >"$root/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 guest\n' >"$root/etc/hosts"
    printf '/dev/vda / ext4 defaults,noatime 0 1\n' >"$root/etc/fstab"
    echo 'root:limiquantix' | chroot "$root" chpasswd
    printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n' >"$root/etc/systemd/network/guest.network"
    chroot "$root" systemctl enable systemd-networkd.service
    # Nothing of these helps a guest that lives for minutes, and each costs seconds under emulation.
    chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
        e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service systemd-pstore.service \
        systemd-hwdb-update.service
    # No login message: tests read the console.
    : >"$root/etc/motd"
    rm -f "$root"/etc/update-motd.d/*
    echo uninitialized >"$root/etc/machine-id"

    version=$(basename "$(echo "$root"/lib/modules/*)")
    cp "$root/boot/vmlinuz-$version" "$out/vmlinuz.new"
    cp "$root/boot/initrd.img-$version" "$out/initrd.new"
    # Modules of the tiny guest, in the order they are to be loaded.
    rm -rf "$out/modules.new"
    mkdir "$out/modules.new"
    for module in virtio_pci virtio_blk virtio_net virtio-rng button evdev; do
        chroot "$root" modprobe --set-version "$version" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$out/modules.new/order"
    while read -r file; do cp "$root$file" "$out/modules.new/"; done <"$out/modules.new/order"

    # Left out: what only a person reads and what only a package manager or a compiler needs.
    rm -rf "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/* \
        "$root"/usr/lib/udev/hwdb.d/* "$root"/usr/lib/udev/hwdb.bin "$root"/usr/lib/*/perl/*/CORE "$root"/usr/lib/*/gconv \
        "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*.log

    # The file system is made from the tree without mounting anything: a private view that leaves out /proc and
    # other mounts lying over it.
    mkdir -p "$out/view"
    rm -f "$out/disk.raw"
    unshare --mount sh -eu -c '
        mount --bind "$1" "$2/view"
        mke2fs -q -t ext4 -L guest -E root_owner=0:0,lazy_itable_init=1 -d "$2/view" "$2/disk.raw" 1G
    ' sh "$root" "$out"
    rmdir "$out/view"
    ;;
esac
