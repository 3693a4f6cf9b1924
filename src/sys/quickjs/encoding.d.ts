// What globals.ts makes of the Encoding Standard, for tsconfig.plugin.json: Node's types have it too, with more in it.
declare class TextEncoder {
  encode(text?: string): Uint8Array<ArrayBuffer>;
}
declare class TextDecoder {
  constructor(label?: string, options?: { readonly fatal?: boolean });
  decode(bytes?: Uint8Array): string;
}
