// SPDX-License-Identifier: Apache-2.0
//
// The program of the sandbox image: it sleeps until it is killed. Assembled here, byte by byte, so that the tests need
// neither a compiler nor a registry.

/** Node's name of an architecture (process.arch) that a pause program can be made for. */
export type PauseArch = "x64" | "arm64";

interface Machine {
  /** e_machine: EM_X86_64, EM_AARCH64 (elf.h). */
  readonly id: number;
  readonly code: readonly number[];
}

// A signal that is caught or ignored ends either call early, hence the loop. PID 1 of a sandbox without handlers dies of
// SIGKILL only, which is what the runtime sends it.
const MACHINES: Record<PauseArch, Machine> = {
  x64: {
    id: 62,
    code: [
      ...[0xb8, 34, 0, 0, 0], // mov $34, %eax: pause(2)
      ...[0x0f, 0x05], // syscall
      ...[0xeb, 0xf7], // jmp to the start, 9 bytes back
    ],
  },
  arm64: {
    // There is no pause(2) on arm64: ppoll(NULL, 0, NULL, NULL, 0) sleeps for ever too.
    id: 183,
    code: [
      ...[0x00, 0x00, 0x80, 0xd2], // mov x0, #0
      ...[0x01, 0x00, 0x80, 0xd2], // mov x1, #0
      ...[0x02, 0x00, 0x80, 0xd2], // mov x2, #0
      ...[0x03, 0x00, 0x80, 0xd2], // mov x3, #0
      ...[0x04, 0x00, 0x80, 0xd2], // mov x4, #0
      ...[0x28, 0x09, 0x80, 0xd2], // mov x8, #73: ppoll(2)
      ...[0x01, 0x00, 0x00, 0xd4], // svc #0
      ...[0xf9, 0xff, 0xff, 0x17], // b to the start, 7 instructions back
    ],
  },
};

const EHDR_BYTES = 64;
const PHDR_BYTES = 56;
const LOAD_ADDRESS = 0x400000n;

/** A static 64-bit executable that sleeps for ever: one header, one loadable segment, one loop (elf(5)). */
export function pauseExecutable(arch: PauseArch): Uint8Array {
  const { id, code } = MACHINES[arch];
  const start = EHDR_BYTES + PHDR_BYTES;
  const size = start + code.length;
  const elf = Buffer.alloc(size);

  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // magic, 64 bits, little-endian, version 1; the rest of e_ident is 0
  elf.writeUInt16LE(2, 16); // e_type: ET_EXEC
  elf.writeUInt16LE(id, 18); // e_machine
  elf.writeUInt32LE(1, 20); // e_version
  elf.writeBigUInt64LE(LOAD_ADDRESS + BigInt(start), 24); // e_entry
  elf.writeBigUInt64LE(BigInt(EHDR_BYTES), 32); // e_phoff
  elf.writeUInt16LE(EHDR_BYTES, 52); // e_ehsize
  elf.writeUInt16LE(PHDR_BYTES, 54); // e_phentsize
  elf.writeUInt16LE(1, 56); // e_phnum

  elf.writeUInt32LE(1, 64); // p_type: PT_LOAD
  elf.writeUInt32LE(5, 68); // p_flags: PF_R | PF_X
  elf.writeBigUInt64LE(LOAD_ADDRESS, 80); // p_vaddr, with p_offset 0: the headers are loaded too
  elf.writeBigUInt64LE(LOAD_ADDRESS, 88); // p_paddr
  elf.writeBigUInt64LE(BigInt(size), 96); // p_filesz
  elf.writeBigUInt64LE(BigInt(size), 104); // p_memsz
  elf.writeBigUInt64LE(0x1000n, 112); // p_align

  elf.set(code, start);
  return elf;
}
