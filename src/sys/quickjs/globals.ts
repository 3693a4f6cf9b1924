// SPDX-License-Identifier: Apache-2.0
//
// What the shared code expects of every runtime and QuickJS doesn't have. The bundler puts it in front of everything
// (scripts/pack/plugin.ts). What the plugin's code may use beyond this is ES2020 (tsconfig.plugin.json).
import "./host.ts";

class Encoder {
  encode(text = ""): Uint8Array {
    return new Uint8Array(host.encodeUtf8(text));
  }
}

/** Only the strict kind, which is the only one that the plugin asks for. */
class Decoder {
  decode(bytes: Uint8Array = new Uint8Array(0)): string {
    const text = host.decodeUtf8(bytes);
    if (text === null) throw new TypeError("not UTF-8");
    return text;
  }
}

/** Error with ES2022's `cause`. It shares Error's prototype, so whatever is an Error stays one. */
function withCause(Plain: ErrorConstructor): ErrorConstructor {
  function CausedError(this: unknown, message?: string, options?: { readonly cause?: unknown }): Error {
    const error: Error = Reflect.construct(Plain, message === undefined ? [] : [message], new.target ?? CausedError);
    if (options !== undefined && "cause" in options) {
      Object.defineProperty(error, "cause", { value: options.cause, writable: true, configurable: true });
    }
    return error;
  }
  CausedError.prototype = Plain.prototype;
  Object.defineProperty(Plain.prototype, "constructor", { value: CausedError });
  return CausedError as unknown as ErrorConstructor;
}

Object.assign(globalThis, { TextEncoder: Encoder, TextDecoder: Decoder, Error: withCause(Error) });
JSON.parse = (text) => host.parseJson(text);
