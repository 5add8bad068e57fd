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
    # Clones share nothing that names them: the DHCP client is told apart by its hardware address.
    printf '%s\n' '[Match]' 'Name=en* eth*' '' '[Network]' DHCP=ipv4 LinkLocalAddressing=no '' '[DHCPv4]' \
        ClientIdentifier=mac >"$root/etc/systemd/network/guest.network"
    mkdir -p "$root/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/guest.conf"
    # Hardware a guest may see and has no use for.
    printf 'blacklist %s\n' kvm_amd kvm_intel i2c_piix4 i2c_i801 lpc_ich iTCO_wdt pcspkr powernow_k8 acpi_cpufreq \
        bochs drm_kms_helper joydev parport_pc >"$root/etc/modprobe.d/guest.conf"
    chroot "$root" systemctl enable systemd-networkd.service
    # Nothing of these helps a guest that lives for minutes, and each costs seconds under emulation.
    chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
        e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service systemd-pstore.service \
        systemd-hwdb-update.service systemd-firstboot.service systemd-journal-flush.service systemd-sysusers.service \
        systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-network-generator.service \
        systemd-modules-load.service kmod-static-nodes.service getty@tty1.service modprobe@configfs.service \
        modprobe@drm.service modprobe@dm_mod.service modprobe@fuse.service modprobe@loop.service \
        modprobe@efi_pstore.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
        sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount \
        systemd-binfmt.service systemd-machine-id-commit.service
    chroot "$root" systemctl set-default multi-user.target
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
    modules() {
        for module in "$@"; do
            chroot "$root" modprobe --set-version "$version" --show-depends "$module"
        done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
    }
    modules virtio_pci virtio_blk virtio_net virtio-rng button evdev >"$out/modules.new/order"
    # What a host needs that runs guests itself (the monitors' benchmark).
    modules virtio_pci virtio_blk ext4 kvm-amd kvm-intel >"$out/modules.new/order-host"
    sort -u "$out/modules.new/order" "$out/modules.new/order-host" |
        while read -r file; do cp "$root$file" "$out/modules.new/"; done

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
