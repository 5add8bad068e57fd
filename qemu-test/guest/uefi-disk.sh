# Run in the Debian guest: makes /dev/vdb a disk as Debian's installer leaves one, with GRUB started by UEFI or by a BIOS, from
# the running system. KERNEL_WORDS are what the kernel is told besides its console.
set -e
printf 'label: gpt\nsize=64M,type=U,name=esp\nsize=1M,type=21686148-6449-6E6F-744E-656564454649,name=bios\ntype=L,name=root\n' | sfdisk -q /dev/vdb
mkfs.vfat -n ESP /dev/vdb1 >/dev/null 2>&1
mkfs.ext4 -q -L guest /dev/vdb3
mount /dev/vdb3 /mnt
cp -ax /bin /boot /etc /home /lib* /media /opt /root /sbin /srv /usr /var /mnt/
mkdir -p /mnt/dev /mnt/proc /mnt/sys /mnt/run /mnt/tmp /mnt/mnt /mnt/boot/efi
chmod 1777 /mnt/tmp
mount /dev/vdb1 /mnt/boot/efi
for dir in dev proc sys run; do mount --bind /$dir /mnt/$dir; done
uuid() { blkid -s UUID -o value "$1"; }
printf 'UUID=%s / ext4 defaults,noatime 0 1\nUUID=%s /boot/efi vfat umask=0077 0 1\n' \
    "$(uuid /dev/vdb3)" "$(uuid /dev/vdb1)" >/mnt/etc/fstab
printf '%s\n' GRUB_DEFAULT=0 GRUB_TIMEOUT=1 "GRUB_CMDLINE_LINUX=\"console=ttyS0 quiet panic=-1 $KERNEL_WORDS\"" \
    'GRUB_CMDLINE_LINUX_DEFAULT=' 'GRUB_TERMINAL="console serial"' GRUB_DISABLE_OS_PROBER=true >/mnt/etc/default/grub
chroot /mnt grub-install --target=x86_64-efi --efi-directory=/boot/efi --bootloader-id=debian --no-nvram --force-extra-removable
chroot /mnt grub-install --target=i386-pc /dev/vdb
chroot /mnt update-grub
sync
umount -R /mnt
