/**
 * Names and marks that tie a libvirt domain to one VM and generation. The name carries the generation because it is
 * what a keeper can read without parsing XML: from a domain lookup, and from QEMU's command line (`-name guest=NAME,…`).
 * A migration can rename the domain on its target, so the name can follow the generation.
 */
import type { DomainRef } from "../driver.ts";

/** Last group of the UUID: random in every UUID version that is in use, unlike the first. */
function suffix(ref: DomainRef): string {
  return `-${ref.vmId.slice(-12)}-g${ref.generation}`;
}

/**
 * `roost-<name>-<last 12 digits of the id>-g<generation>`. The name is cut so that a socket which has it in its path (migration.ts) stays
 * below the 107 bytes of a unix address.
 */
export function domainName(ref: DomainRef, vmName: string): string {
  const readable = vmName.replaceAll(/[^A-Za-z0-9._-]/g, "_").slice(0, 28);
  return `roost-${readable}${suffix(ref)}`;
}

/** A string in the command line of exactly this domain's QEMU: the end of `guest=NAME` and the option that libvirt puts after it. */
export function processMark(ref: DomainRef): string {
  return `${suffix(ref)},debug-threads=on`;
}

/** True if a domain of this name is the one that `mark` was made for. */
export function nameHasMark(name: string, mark: string): boolean {
  return `${name},debug-threads=on`.endsWith(mark);
}

export function uuidBytes(uuid: string): Uint8Array {
  return Uint8Array.from(uuid.replaceAll("-", "").match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

export function uuidText(bytes: Uint8Array): string {
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
