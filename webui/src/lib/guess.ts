// What a file's name says of it. Only a proposal in a form: the host goes by what is declared and checks the bytes.

export interface Guess {
  name: string;
  kind: "disk" | "kernel" | "initrd" | "iso";
  format: "raw" | "qcow2";
}

export function guess(file: string): Guess {
  const bare = file.replace(/\.(qcow2|raw|img|iso)$/i, "");
  const name =
    bare
      .replace(/[^a-z0-9._-]+/gi, "-")
      .replace(/^[^a-z0-9]+/i, "")
      .slice(0, 63) || "image";
  if (/^(vmlinuz|vmlinux|bzimage|kernel)/i.test(file)) return { name, kind: "kernel", format: "raw" };
  if (/^(initrd|initramfs)/i.test(file)) return { name, kind: "initrd", format: "raw" };
  if (/\.iso$/i.test(file)) return { name, kind: "iso", format: "raw" };
  return { name, kind: "disk", format: /\.(raw|img)$/i.test(file) ? "raw" : "qcow2" };
}
