// The part of Bun's foreign function interface that bun.ts uses. Declared here because Bun's own types would put its
// globals in reach of the whole tree, which mostly runs on Node.
declare module "bun:ffi" {
  type Native = (...args: (number | bigint | Uint8Array)[]) => number;
  export function dlopen<T extends Record<string, { args: readonly string[]; returns: string }>>(
    path: string,
    symbols: T,
  ): { symbols: { [K in keyof T]: Native } };
  export const read: { i32(pointer: number, offset: number): number };
}
